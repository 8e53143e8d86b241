"""The checks of a dataset before training or evaluation: they take seconds, and unchanged files are checked only once.

Annotations and the header of every image are read; no image is decoded. Unusable data is refused, and everything that
a user should know is reported in one line each. `rsis check` (`rsis_tf.data.check`) goes further: it decodes and paints
everything.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Mapping

from rsis_tf.data.sample import Dataset, FileDataset, Inspection, reads_files
from rsis_tf.errors import InputError, printable
from rsis_tf.files import write_text
from rsis_tf.progress import ProgressLine

NOTES = {
    "exif_stored": "the annotations refer to the stored pixels, so the EXIF orientation is not applied",
    "exif_scaled": "the annotations are percentages of the image as its EXIF orientation turns it, written with the "
    "stored size (Label Studio), and are scaled back",
    "exif_unclear": "an EXIF orientation does not change the size, so the size cannot tell whether the annotations "
    "refer to the turned image; it is assumed that they do",
}
"""How images are read, by `Inspection.note`."""

_VERSION = 2
"""Version of the stored findings; a new number invalidates older ones."""
_QUIET_SECONDS = 1.0
_THREADS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Findings about one split.

    Attributes:
        objects: the number of objects of each image.
        empty: number of annotations without a pixel.
        crowds: number of annotations that mark an ignored region.
        notes: number of images by key of `NOTES`.
    """

    objects: tuple[int, ...]
    empty: int
    crowds: int
    notes: dict[str, int]

    def beyond(self, limit: int) -> int:
        """Returns the number of objects that exceed the limit of their image, summed over the images."""
        return sum(max(0, count - limit) for count in self.objects)


def require_same_classes(datasets: Mapping[str, Dataset], *, ids: bool = True) -> None:
    """Makes sure that the splits have the same classes in the same order.

    Args:
        datasets: dataset by split.
        ids: whether the ids of the categories in the files must be the same, too.

    Raises:
        InputError: with both lists, if not.
    """
    (first, reference), *others = datasets.items()
    for split, dataset in others:
        same = _classes(dataset) == _classes(reference) if ids else dataset.class_names == reference.class_names
        if not same:
            raise InputError(
                f"expected the same categories in all splits. "
                f"Received: {first} with {_class_list(reference)}; {split} with {_class_list(dataset)}"
            )


def inspect_split(split: str, dataset: Dataset, *, cache: pathlib.Path | None = None) -> Checked | None:
    """Reads every annotation of a split and the header of every image.

    If this takes more than a second, a progress line is shown on a terminal. The findings are stored by the paths,
    sizes and times of the files, so the next call with the same files is fast.

    Args:
        split: its name, for messages.
        dataset: the samples.
        cache: folder that the findings are stored in; None for `cache_folder()`.

    Returns:
        The findings; None for a dataset that does not read files.

    Raises:
        InputError: naming the first image or annotation that cannot be read, and the number of such images.
    """
    if not reads_files(dataset):
        return None
    stored = (cache_folder() if cache is None else cache) / f"{_fingerprint(dataset)}.json"
    known = _load(stored)
    if known is not None:
        return known
    problems: list[str] = []
    found: list[Inspection] = []
    start, progress = time.monotonic(), ProgressLine(f"images of {split} checked")
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for done, result in enumerate(pool.map(lambda index: _inspect(dataset, index), range(len(dataset))), start=1):
            if isinstance(result, str):
                problems.append(result)
            else:
                found.append(result)
            if time.monotonic() - start > _QUIET_SECONDS:
                progress(done, len(dataset))
    progress.clear()
    if problems:
        more = f" (the first of {len(problems)} images of {split})" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    checked = Checked(
        objects=tuple(one.objects for one in found),
        empty=sum(one.empty for one in found),
        crowds=sum(one.crowds for one in found),
        notes=dict(sorted(collections.Counter(one.note for one in found if one.note).items())),
    )
    _store(stored, checked)
    return checked


def check_training(datasets: Mapping[str, Dataset], *, max_objects: int, num_steps: int) -> list[str]:
    """Checks the splits of a training run.

    Args:
        datasets: dataset by split.
        max_objects: N, the largest number of objects that is kept per image.
        num_steps: T, the number of objects predicted per image.

    Returns:
        What the user should know, one line each.

    Raises:
        InputError: if something cannot be read, a split has no object, or the splits' categories differ.
    """
    require_same_classes(datasets)
    lines = []
    for split, dataset in datasets.items():
        checked = inspect_split(split, dataset)
        if checked is None or not reads_files(dataset):
            continue
        if not sum(checked.objects):
            raise InputError(f"expected at least one object in {split}. Received: {_no_objects(dataset, checked)}")
        limits = {"--max-objects": max_objects, "--steps": num_steps}
        option = min(limits, key=limits.__getitem__)
        beyond = f"exceed {option} {limits[option]}; a higher value includes them"
        lines += _lines(split, dataset, checked, beyond, limits[option])
    return lines


def check_evaluation(split: str, dataset: Dataset, *, num_steps: int | None) -> list[str]:
    """Checks the split that is evaluated.

    Args:
        split: its name.
        dataset: the samples.
        num_steps: T, the number of objects that the model predicts per image; None if unknown.

    Returns:
        What the user should know, one line each.

    Raises:
        InputError: if something cannot be read.
    """
    checked = inspect_split(split, dataset)
    if checked is None or not reads_files(dataset):
        return []
    if not sum(checked.objects) and dataset.annotation_files:
        return [f"{split}: no object to score ({_no_objects(dataset, checked)})"]
    beyond = f"exceed the {num_steps} steps of the model and cannot be found"
    return _lines(split, dataset, checked, beyond, num_steps)


def cache_folder() -> pathlib.Path:
    """Returns the user's folder for findings: `$XDG_CACHE_HOME/rsis_tf/checked`, by default in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    home = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "rsis_tf" / "checked"


def _inspect(dataset: FileDataset, index: int) -> Inspection | str:
    try:
        return dataset.inspect(index)
    except InputError as error:
        return str(error)


def _lines(split: str, dataset: FileDataset, checked: Checked, beyond: str, limit: int | None) -> list[str]:
    lines = []
    total = sum(checked.objects)
    too_many = 0 if limit is None else checked.beyond(limit)
    if too_many:
        lines.append(f"{split}: {too_many:,} of {total:,} objects {beyond}")
    if checked.empty:
        lines.append(f"{split}: {checked.empty:,} annotations without a pixel are left out (rsis check lists them)")
    if dataset.remarks:
        lines.append(f"{split}: {len(dataset.remarks):,} entries are probably mistakes (rsis check lists them)")
    lines += [f"{split}: {note}" for note in class_notes(dataset)]
    lines += [f"{split}: {count:,} of {len(dataset):,} images: {NOTES[note]}" for note, count in checked.notes.items()]
    return lines


def class_notes(dataset: FileDataset) -> list[str]:
    """Returns what a user should know about the categories and crowds of a split, one line each."""
    notes = []
    if dataset.dropped_categories:
        notes.append(f"not classes, because no object has them: {printable(', '.join(dataset.dropped_categories))}")
    if dataset.masks_marked_as_crowds:
        notes.append("brush masks of CVAT are read as objects (--crowds ignore reads them as ignored regions)")
    return notes


def _no_objects(dataset: FileDataset, checked: Checked) -> str:
    where = ", ".join(str(path) for path in dataset.annotation_files[:1])
    crowds = f", {checked.crowds:,} ignored regions (--crowds objects reads them as objects)" if checked.crowds else ""
    empty = f", {checked.empty:,} annotations without a pixel" if checked.empty else ""
    return f"none in {len(dataset):,} images{crowds}{empty}, {where}"


def _classes(dataset: Dataset) -> list[tuple[int | str, str]]:
    ids = getattr(dataset, "category_ids", ()) or range(len(dataset.class_names))
    return list(zip(ids, dataset.class_names, strict=True))[1:]


def _class_list(dataset: Dataset) -> str:
    return ", ".join(f"{number} {name}" for number, name in _classes(dataset)) or "none"


def _fingerprint(dataset: FileDataset) -> str:
    """Returns a digest of everything the findings depend on: settings, and the path, size and time of every file."""
    digest = hashlib.sha256()
    settings = [dataset.class_names, dataset.category_ids, dataset.crowds]
    digest.update(repr((_VERSION, len(dataset), settings)).encode("utf-8", "surrogatepass"))
    for paths in (dataset.annotation_files, dataset.class_files, dataset.image_files):
        for path in paths:
            state: tuple[int, int] | None = None
            with contextlib.suppress(OSError):
                stat = path.stat()
                state = stat.st_size, stat.st_mtime_ns
            digest.update(repr((str(path.absolute()), state)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:40]


def _load(path: pathlib.Path) -> Checked | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Checked(**{**values, "objects": tuple(values["objects"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(path: pathlib.Path, checked: Checked) -> None:
    """Stores findings; if the folder is not writable, the next run checks again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(dataclasses.asdict(checked)) + "\n")
