"""Reads a whole dataset and reports what it contains and what is wrong with it, as text, plain values and an image."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsis_tf.config import DataConfig
from rsis_tf.data import SPLITS, VOID, load_dataset, require_dataset
from rsis_tf.data.paths import MissingSplitError, UnsplitError
from rsis_tf.data.preflight import NOTES, class_notes, require_same_classes
from rsis_tf.data.sample import Dataset, reads_files
from rsis_tf.errors import InputError, OptionError, printable, reason_of
from rsis_tf.progress import ProgressLine
from rsis_tf.visualization import truth_sheet, write_image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """What a split contains.

    Attributes:
        images: number of images.
        objects: number of objects.
        largest_count: number of objects of the image that has the most.
        void_share: share of void pixels, 0 … 1.
        sizes: smallest and largest (height, width); empty if no image can be read.
        objects_per_class: number of objects by class name.
    """

    images: int
    objects: int
    largest_count: int
    void_share: float
    sizes: tuple[tuple[int, int], ...]
    objects_per_class: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The report of one split; all lists have one line per entry, control characters escaped.

    Attributes:
        content: what the split contains; None if its annotations cannot be read.
        problems: what is wrong or cannot be read, with the file and the annotation's id.
        without_objects: images without objects, by path or id.
        unlisted: image files that the annotations do not list.
        notes: how files are read that could be read in another way.
    """

    content: Content | None = None
    problems: tuple[str, ...] = ()
    without_objects: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; only the problems if the annotations cannot be read."""
        if self.content is None:
            return {"problems": self.problems}
        lists = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "content"}
        return {**dataclasses.asdict(self.content), **lists}

    @property
    def findings(self) -> dict[str, tuple[str, ...]]:
        """The lists by their headings."""
        return {
            "without objects": self.without_objects,
            "not in the annotations": self.unlisted,
            "notes": self.notes,
            "problems": self.problems,
        }


def check(config: DataConfig, splits: Sequence[str] = ()) -> dict[str, SplitReport]:
    """Checks the named splits, or all splits that the dataset has.

    Args:
        config: names the dataset and its folder.
        splits: splits that must exist; empty for all that exist.

    Returns:
        The report of each split, under "all" for a dataset without splits. A split whose annotations cannot be read at
        all has that as its problem, and so has a split whose categories differ from those of the first.

    Raises:
        InputError: if the folder, a named split or every split is missing, or the options do not fit the dataset.
    """
    require_dataset(config)
    reports: dict[str, SplitReport] = {}
    missing: list[MissingSplitError] = []
    for split in splits or SPLITS:
        try:
            reports[split] = _checked(config, split)
        except MissingSplitError as error:
            if splits:
                raise
            missing.append(error)
    if not reports and any(isinstance(error, UnsplitError) for error in missing):
        reports["all"] = _checked(config, "all")
    if not reports:
        raise InputError(str(missing[0]))
    return _with_differences(config, reports)


def _checked(config: DataConfig, split: str) -> SplitReport:
    """Checks one split; annotations that cannot be read at all are its only problem."""
    try:
        return check_split(config, split)
    except (MissingSplitError, OptionError):
        raise
    except InputError as error:
        return SplitReport(problems=(printable(str(error)),))


def check_split(config: DataConfig, split: str) -> SplitReport:
    """Reads every sample of one split.

    Args:
        config: names the dataset and its folder.
        split: "train", "val" or "test", or "all" for a dataset without splits (`DatasetEntry.opens_whole`).

    Raises:
        MissingSplitError: if the dataset has no such split.
        InputError: if the dataset's folder is missing or the annotations cannot be read at all.
    """
    dataset = load_dataset(config, split, check=False)
    problems: list[str] = []
    notes: list[str] = []
    unlisted: list[str] = []
    if reads_files(dataset):
        problems += [*dataset.problems, *dataset.remarks]
        notes += class_notes(dataset)
        unlisted += map(str, dataset.unlisted_files())
    per_class = np.zeros(len(dataset.class_names), int)
    counts: list[int] = []
    sizes: list[tuple[int, int]] = []
    without_objects: list[str] = []
    void_pixels = pixels = 0
    progress = ProgressLine(f"images of {split}")
    for index in range(len(dataset)):
        progress(index, len(dataset))
        found, note = _annotations(dataset, index)
        problems += found
        notes += note
        try:
            sample = dataset[index]
        except InputError as error:
            if str(error) not in problems:
                problems.append(str(error))
            continue
        height, width = sample.label_map.shape
        counts.append(len(sample.classes))
        sizes.append((height, width))
        per_class += np.bincount(sample.classes, minlength=len(per_class))
        void_pixels += int(np.count_nonzero(sample.label_map == VOID))
        pixels += sample.label_map.size
        if len(sample.classes) == 0:
            without_objects.append(str(dataset.image_files[index]) if reads_files(dataset) else sample.image_id)
    progress.clear()
    content = Content(
        images=len(dataset),
        objects=sum(counts),
        largest_count=max(counts, default=0),
        void_share=void_pixels / max(pixels, 1),
        sizes=(min(sizes), max(sizes)) if sizes else (),
        objects_per_class={
            name: int(count) for name, count in zip(dataset.class_names[1:], per_class[1:], strict=True)
        },
    )
    return SplitReport(
        content=content,
        problems=tuple(map(printable, problems)),
        without_objects=tuple(map(printable, without_objects)),
        unlisted=tuple(map(printable, unlisted)),
        notes=tuple(map(printable, notes)),
    )


def _annotations(dataset: Dataset, index: int) -> tuple[list[str], list[str]]:
    """Returns what is wrong with the annotations of an image, one line each, and a note on how the image is read."""
    if not reads_files(dataset):
        return [], []
    try:
        problems = dataset.findings(index)
        note = "" if problems else dataset.inspect(index).note
    except InputError as error:
        return [str(error)], []
    return problems, [f"{dataset.image_files[index]}: {NOTES[note]}"] if note else []


def _with_differences(config: DataConfig, reports: dict[str, SplitReport]) -> dict[str, SplitReport]:
    """Adds the differences between the categories of the splits to the problems."""
    readable = [split for split, report in reports.items() if report.content is not None]
    for split in readable[1:]:
        both = {name: load_dataset(config, name, check=False) for name in (readable[0], split)}
        try:
            require_same_classes(both)
        except InputError as error:
            problems = (*reports[split].problems, str(error))
            reports[split] = dataclasses.replace(reports[split], problems=problems)
    return reports


def table(reports: Mapping[str, SplitReport]) -> str:
    """Returns the reports as text: a column per split, a row per figure and class, then the entries of all lists."""
    contents = [report.content for report in reports.values()]
    rows = [["", *reports]]
    for title, name in (("images", "images"), ("objects", "objects"), ("most in an image", "largest_count")):
        rows.append([title, *("–" if content is None else str(getattr(content, name)) for content in contents)])
    rows.append(["smallest size", *(_size(content, 0) for content in contents)])
    rows.append(["largest size", *(_size(content, 1) for content in contents)])
    rows.append(["void", *(f"{0 if content is None else content.void_share:.1%}" for content in contents)])
    per_class = [{} if content is None else content.objects_per_class for content in contents]
    for name in dict.fromkeys(name for counts in per_class for name in counts):
        rows.append([f"  {printable(name)}", *(str(counts.get(name, "–")) for counts in per_class)])
    headings = SplitReport().findings
    for title in headings:
        rows.append([title, *(str(len(report.findings[title])) for report in reports.values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for head, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([head.ljust(widths[0]), *padded]))
    for title in headings:
        for split, report in reports.items():
            lines += [f"{split}: {title}: {entry}" for entry in report.findings[title]]
    return "\n".join(lines)


def write_sheet(config: DataConfig, reports: Mapping[str, SplitReport], path: pathlib.Path, count: int) -> int:
    """Draws images of every split with their objects, evenly spread over the split, into one image file.

    Args:
        config: names the dataset and its folder.
        reports: result of `check`.
        path: of the image file.
        count: about how many images to draw in all, at least one per split.

    Returns:
        The number of images drawn.

    Raises:
        InputError: if no image can be read, or the file cannot be written.
    """
    rows: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    class_names: tuple[str, ...] = ()
    readable = [split for split, report in reports.items() if report.content is not None]
    for split in readable:
        dataset = load_dataset(config, split, check=False)
        class_names = dataset.class_names
        share = min(len(dataset), max(1, count // len(readable)))
        for index in np.linspace(0, len(dataset) - 1, share).round().astype(int).tolist():
            with contextlib.suppress(InputError):  # the report lists it
                sample = dataset[index]
                name = dataset.image_files[index].name if reads_files(dataset) else sample.image_id
                rows.append((f"{split} {name}", sample.image, sample.label_map, sample.classes))
    if not rows:
        raise InputError(f"expected an image that can be read for --sheet {path}. Received: none")
    try:
        write_image(path, truth_sheet(rows, class_names))
    except OSError as error:
        raise InputError(f"expected a writable file. Received: {path} ({reason_of(error)})") from None
    return len(rows)


def _size(content: Content | None, which: int) -> str:
    if content is None or not content.sizes:
        return "–"
    height, width = content.sizes[which]
    return f"{width}x{height}"
