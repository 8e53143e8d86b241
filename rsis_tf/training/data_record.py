"""What a run records about its datasets, so that a resumed training trains on the same data with the same labels."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping

from rsis_tf.config import ModelConfig
from rsis_tf.config.checks import check_fields
from rsis_tf.data import Dataset
from rsis_tf.data.sample import reads_files
from rsis_tf.errors import InputError, brief


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilesRecord:
    """What some files are, without reading them. Each field is a digest over all of them, in their order.

    A dataset that is moved as a whole keeps its record: names are relative to the folder that holds all of the files.

    Attributes:
        names: of the names.
        sizes: of the sizes in bytes.
        times: of the times of the last change.
    """

    names: str
    sizes: str
    times: str

    def __post_init__(self) -> None:
        check_fields(self)

    def difference(self, other: "FilesRecord") -> str:
        """Returns how the other files differ from these: "other", "changed" or ""."""
        if self.names != other.names:
            return "other"
        return "" if self == other else "changed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """What a split of a dataset is.

    Attributes:
        class_names: K names, the first of them "background".
        category_ids: the K ids that the files use for the classes, as text; empty if there are none.
        images: number of samples.
        image_files, annotation_files: None for a dataset that does not read files.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[str, ...]
    images: int
    image_files: FilesRecord | None = None
    annotation_files: FilesRecord | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def recorded(datasets: Mapping[str, Dataset]) -> dict[str, SplitRecord]:
    """Returns the record of every split."""
    return {split: _of_split(dataset) for split, dataset in datasets.items()}


def require_same_data(
    before: Mapping[str, SplitRecord] | None,
    now: Mapping[str, SplitRecord],
    *,
    model: ModelConfig,
    ids: tuple[int, ...],
    accept_changed: bool = False,
) -> None:
    """Makes sure that a resumed training has the data that the run began with.

    Args:
        before: as recorded when the run began; None for a run of an earlier version, of which only the classes are
            known, or one without a first state.
        now: of the datasets that are given.
        model: of the run; it holds the classes.
        ids: the category ids of the training set that is given (`category_ids`).
        accept_changed: whether other images and annotations are accepted; classes never are.

    Raises:
        InputError: with everything that differs.
    """
    names = now["train"].class_names
    if model.class_names and names != model.class_names:
        _refuse_classes(names, model.class_names)
    if model.category_ids and ids != model.category_ids:
        _refuse_classes(ids, model.category_ids)
    for split, earlier in (before or {}).items():
        later = now.get(split)
        if later is None:
            raise InputError(f"expected the splits that the run began with. Received: no {split}")
        if (later.class_names, later.category_ids) != (earlier.class_names, earlier.category_ids):
            known = list(zip(earlier.category_ids or earlier.class_names, earlier.class_names, strict=False))
            _refuse_classes(list(zip(later.category_ids or later.class_names, later.class_names, strict=False)), known)
    found = [line for split, earlier in (before or {}).items() for line in _differences(split, earlier, now[split])]
    if found and not accept_changed:
        raise InputError(
            "a resumed training needs the data that the run began with; --accept-changed-data accepts other images and "
            f"annotations. Received: {', '.join(found)}"
        )


def _refuse_classes(received: object, known: object) -> None:
    raise InputError(
        f"a resumed training needs the classes that the run began with, {brief(known)}. Received: {brief(received)}"
    )


def _differences(split: str, before: SplitRecord, now: SplitRecord) -> list[str]:
    """Returns what differs between two records of a split, except its classes."""
    found = []
    if now.images != before.images:
        found.append(f"{now.images:,} images of {split} instead of {before.images:,}")
    pairs = {
        "image files": (before.image_files, now.image_files),
        "annotation files": (before.annotation_files, now.annotation_files),
    }
    for what, (earlier, later) in pairs.items():
        if earlier is None or later is None:
            how = "" if earlier is later else "other"
        else:
            how = earlier.difference(later)
        if how:
            found.append(f"{how} {what} of {split}")
    return found


def _of_split(dataset: Dataset) -> SplitRecord:
    return SplitRecord(
        class_names=tuple(dataset.class_names),
        category_ids=tuple(map(str, getattr(dataset, "category_ids", ()))),
        images=len(dataset),
        image_files=_of_files(dataset.image_files) if reads_files(dataset) else None,
        annotation_files=_of_files(dataset.annotation_files) if reads_files(dataset) else None,
    )


def _of_files(paths: Iterable[pathlib.Path]) -> FilesRecord:
    absolute = [os.path.abspath(path) for path in paths]
    try:
        base = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:  # no files, or files on several drives
        base = ""
    stats = [_stat(path) for path in absolute]
    return FilesRecord(
        names=_digest(os.path.relpath(path, base) if base else path for path in absolute),
        sizes=_digest(size for size, _ in stats),
        times=_digest(time for _, time in stats),
    )


def _stat(path: str) -> tuple[int, int]:
    """Returns size and time; −1 for a file that is missing, which is an error when it is read."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _digest(values: Iterable[object]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for value in values:
        digest.update(f"{value}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
