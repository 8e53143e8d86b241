"""What is checked of a dataset before anything is computed with it: in seconds, and only once for the same files.

Annotations are read, and of every image the header; no image is decoded. What cannot be used is refused, and what a
user should know is said in a line each. `python -m rsis_tf.data.check` goes further: it decodes and draws everything.
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

from rsis_tf.data.sample import Dataset, Inspection
from rsis_tf.errors import InputError
from rsis_tf.progress import ProgressLine

NOTES = {
    "exif_stored": "annotations are in the stored frame, so the EXIF orientation is not applied",
    "exif_scaled": "annotations are in per cent of the image as its EXIF orientation turns it, written with the stored "
    "size (Label Studio), and are scaled back",
    "exif_unclear": "an EXIF orientation leaves the size as it is, so the size cannot tell which way annotations are "
    "turned; they are taken as the image is shown",
}
"""What is said of images, by `Inspection.note`."""

_VERSION = 1
"""Of what is kept: another number makes everything be read anew."""
_QUIET_SECONDS = 1.0
_THREADS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check of one split has found.

    Attributes:
        objects: the number of objects of each image.
        empty: annotations without a pixel.
        crowds: annotations of ignored regions.
        notes: number of images by key of `NOTES`.
    """

    objects: tuple[int, ...]
    empty: int
    crowds: int
    notes: dict[str, int]

    def beyond(self, limit: int) -> int:
        """How many objects an image has too many, summed over the images."""
        return sum(max(0, count - limit) for count in self.objects)


def require_same_classes(datasets: Mapping[str, Dataset], *, ids: bool = True) -> None:
    """Makes sure that the splits name the same classes in the same order.

    Args:
        datasets: reader by split.
        ids: whether the ids that the files have for them must be the same, too.

    Raises:
        InputError: with both lists, if not.
    """
    (first, reference), *others = datasets.items()
    for split, dataset in others:
        same = _classes(dataset) == _classes(reference) if ids else dataset.class_names == reference.class_names
        if not same:
            raise InputError(
                f"expected the same categories in all splits. "
                f"Received: {first} with {_listed(reference)}; {split} with {_listed(dataset)}"
            )


def inspect_split(split: str, dataset: Dataset, *, cache: pathlib.Path | None = None) -> Checked | None:
    """Reads every annotation and every image's header of a split.

    A progress line is drawn on a terminal if that takes more than a second. What was found is kept by the paths, sizes
    and times of the files, so that the next call with the same files is quick.

    Args:
        split: its name, for messages.
        dataset: the reader.
        cache: folder to keep findings in; None for `cache_folder()`.

    Returns:
        What was found; None for a dataset that is made and not read.

    Raises:
        InputError: naming the first image or annotation that cannot be read, and how many there are.
    """
    if not hasattr(dataset, "annotation_files"):
        return None
    kept = (cache_folder() if cache is None else cache) / f"{_fingerprint(dataset)}.json"
    known = _load(kept)
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
    _keep(kept, checked)
    return checked


def check_training(datasets: Mapping[str, Dataset], *, max_objects: int, num_steps: int) -> list[str]:
    """Checks the splits of a training.

    Args:
        datasets: reader by split.
        max_objects: N, the objects kept of an image.
        num_steps: T, the objects predicted of an image.

    Returns:
        What the user should know, a line each.

    Raises:
        InputError: if something cannot be read, a split has no object, or the splits' categories differ.
    """
    require_same_classes(datasets)
    lines = []
    for split, dataset in datasets.items():
        checked = inspect_split(split, dataset)
        if checked is None:
            continue
        if not sum(checked.objects):
            raise InputError(f"expected at least one object in {split}. Received: {_nothing(dataset, checked)}")
        limits = {"--gt-maxseqlen": max_objects, "--maxseqlen": num_steps}
        option = min(limits, key=limits.__getitem__)
        lines += _lines(split, dataset, checked, f"{option} {limits[option]}: raise it", limits[option])
    return lines


def check_evaluation(split: str, dataset: Dataset, *, num_steps: int | None) -> list[str]:
    """Checks the split that is scored.

    Args:
        split: its name.
        dataset: reader.
        num_steps: T, the objects that the model predicts of an image; None if unknown.

    Returns:
        What the user should know, a line each.

    Raises:
        InputError: if something cannot be read.
    """
    checked = inspect_split(split, dataset)
    if checked is None:
        return []
    if not sum(checked.objects) and dataset.annotation_files:
        return [f"{split}: no object to score ({_nothing(dataset, checked)})"]
    what = f"the {num_steps} steps that the model predicts and cannot be found"
    return _lines(split, dataset, checked, what, num_steps)


def cache_folder() -> pathlib.Path:
    """The user's folder for findings: `$XDG_CACHE_HOME/rsis_tf`, `~/.cache/rsis_tf` unless that is set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore relative paths.
    home = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "rsis_tf" / "checked"


def _inspect(dataset: Dataset, index: int) -> Inspection | str:
    try:
        return dataset.inspect(index)
    except InputError as error:
        return str(error)


def _lines(split: str, dataset: Dataset, checked: Checked, what: str, limit: int | None) -> list[str]:
    lines = []
    total = sum(checked.objects)
    beyond = 0 if limit is None else checked.beyond(limit)
    if beyond:
        lines.append(f"{split}: {beyond:,} of {total:,} objects are beyond {what}")
    if checked.empty:
        lines.append(
            f"{split}: {checked.empty:,} annotations without a pixel are left out "
            "(python -m rsis_tf.data.check names them)"
        )
    remarks = getattr(dataset, "remarks", ())
    if remarks:
        lines.append(
            f"{split}: {len(remarks):,} images are listed more than once (python -m rsis_tf.data.check names them)"
        )
    dropped = getattr(dataset, "dropped_categories", ())
    if dropped:
        lines.append(f"{split}: no class, since nothing is annotated with it: {', '.join(dropped)}")
    if getattr(dataset, "masks_marked_as_crowds", False):
        lines.append(
            f"{split}: brush masks of CVAT are read as objects (--crowds ignore takes them as ignored regions)"
        )
    lines += [f"{split}: {count:,} of {len(dataset):,} images: {NOTES[note]}" for note, count in checked.notes.items()]
    return lines


def _nothing(dataset: Dataset, checked: Checked) -> str:
    where = ", ".join(str(path) for path in dataset.annotation_files[:1])
    crowds = f", {checked.crowds:,} ignored regions (--crowds objects reads them as objects)" if checked.crowds else ""
    empty = f", {checked.empty:,} annotations without a pixel" if checked.empty else ""
    return f"none in {len(dataset):,} images{crowds}{empty}, {where}"


def _classes(dataset: Dataset) -> list[tuple]:
    ids = getattr(dataset, "category_ids", ()) or range(len(dataset.class_names))
    return list(zip(ids, dataset.class_names, strict=True))[1:]


def _listed(dataset: Dataset) -> str:
    return ", ".join(f"{number} {name}" for number, name in _classes(dataset)) or "none"


def _fingerprint(dataset: Dataset) -> str:
    """A digest of what decides the findings: the reader, its settings, and path, size and time of every file."""
    digest = hashlib.sha256()
    settings = [getattr(dataset, name, None) for name in ("class_names", "category_ids", "crowds")]
    digest.update(repr((_VERSION, len(dataset), settings)).encode("utf-8", "surrogatepass"))
    for paths in (dataset.annotation_files, dataset.image_files):
        for path in paths:
            try:
                stat = path.stat()
                state = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
            except OSError:
                state = (str(path.absolute()), None)
            digest.update(repr(state).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:40]


def _load(path: pathlib.Path) -> Checked | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Checked(**{**values, "objects": tuple(values["objects"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: pathlib.Path, checked: Checked) -> None:
    """Writes beside and renames; without a folder that can be written to, the next run checks again."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dataclasses.asdict(checked)) + "\n", encoding="utf-8")
        os.replace(partial, path)
