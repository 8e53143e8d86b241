"""Walks a dataset and reports what is in it and what is wrong with it."""

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsis_tf.cli.data_options import add_coco_options, coco_fields
from rsis_tf.config import DataConfig
from rsis_tf.data import DATASETS, SPLITS, VOID, load_dataset, require_dataset
from rsis_tf.data.files import MissingSplitError, UnsplitError
from rsis_tf.data.preflight import NOTES, require_same_classes
from rsis_tf.data.sample import Dataset
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.progress import ProgressLine

_FINDINGS = (
    ("without objects", "without_objects"),
    ("not in the annotations", "unlisted"),
    ("notes", "notes"),
    ("problems", "problems"),
)
"""Heading and key of the lists in a report."""


def check_split(config: DataConfig, split: str) -> dict[str, Any]:
    """Reads every sample of one split.

    Args:
        config: names the dataset and its folder.
        split: "train", "val" or "test", or "all" for a dataset in COCO's format without splits.

    Returns:
        Plain values: `pictures`, `objects`, `largest_count` (objects of one picture), `void_share` (of all pixels),
        `sizes` ([smallest, largest] height and width), `objects_per_class` by name; and as lists `problems` (what
        cannot be read or is wrong, one line each with the file and the annotation's id), `without_objects` (images that
        have none, by path or id), `unlisted` (image files that no annotation lists) and `notes` (how something was read
        that could be read otherwise).

    Raises:
        MissingSplitError: when the dataset has no such split.
        InputError: when the dataset's folder is missing.
    """
    dataset = load_dataset(config, split, check=False)
    paths = getattr(dataset, "image_files", None)
    per_class = np.zeros(len(dataset.class_names), int)
    counts, sizes, without_objects = [], [], []
    problems, notes = [*getattr(dataset, "problems", ()), *getattr(dataset, "remarks", ())], _notes_of(dataset)
    void_pixels = pixels = 0
    progress = ProgressLine(f"images of {split}")
    for index in range(len(dataset)):
        progress(index, len(dataset))
        found, note = _look(dataset, index, str(paths[index]) if paths else "")
        problems += found
        notes += note
        try:
            sample = dataset[index]
        except InputError as error:
            if str(error) not in problems:
                problems.append(str(error))
            continue
        counts.append(len(sample.classes))
        sizes.append(sample.label_map.shape)
        per_class += np.bincount(sample.classes, minlength=len(per_class))
        void_pixels += int(np.count_nonzero(sample.label_map == VOID))
        pixels += sample.label_map.size
        if len(sample.classes) == 0:
            without_objects.append(str(paths[index]) if paths else sample.image_id)
    progress.clear()
    unlisted = dataset.unlisted_files() if hasattr(dataset, "unlisted_files") else []
    return {
        "pictures": len(dataset),
        "objects": sum(counts),
        "largest_count": max(counts, default=0),
        "void_share": void_pixels / max(pixels, 1),
        "sizes": [list(min(sizes)), list(max(sizes))] if sizes else [],
        "objects_per_class": {
            name: int(count) for name, count in zip(dataset.class_names[1:], per_class[1:], strict=True)
        },
        "problems": problems,
        "without_objects": without_objects,
        "unlisted": [str(path) for path in unlisted],
        "notes": notes,
    }


def _look(dataset: Dataset, index: int, path: str) -> tuple[list[str], list[str]]:
    """What the annotations of an image have wrong, one line each, and how its file is read."""
    if not hasattr(dataset, "inspect"):
        return [], []
    try:
        problems = dataset.findings(index) if hasattr(dataset, "findings") else []
        note = "" if problems else dataset.inspect(index).note
    except InputError as error:
        return [str(error)], []
    return problems, [f"{path}: {NOTES[note]}"] if note else []


def _notes_of(dataset: Dataset) -> list[str]:
    notes = []
    dropped = getattr(dataset, "dropped_categories", ())
    if dropped:
        notes.append(f"no class, since nothing is annotated with it: {', '.join(dropped)}")
    if getattr(dataset, "masks_marked_as_crowds", False):
        notes.append("brush masks of CVAT are read as objects (--crowds ignore takes them as ignored regions)")
    return notes


def check(config: DataConfig, splits: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Checks the splits named, or all that the dataset has.

    Args:
        config: names the dataset and its folder.
        splits: names of splits that must be there; empty for those that are.

    Returns:
        The report of `check_split` by split; of a dataset without splits, by "all". A split whose annotations cannot
        be read at all has that as its problem, and so has one whose categories are not those of the first.

    Raises:
        InputError: when the folder, or a split that was named, or every split is missing.
    """
    require_dataset(config)
    reports: dict[str, dict[str, Any]] = {}
    missing: list[str] = []
    unsplit = False
    for split in splits or SPLITS:
        try:
            reports[split] = check_split(config, split)
        except MissingSplitError as error:
            if splits:
                raise
            missing.append(str(error))
            unsplit = unsplit or isinstance(error, UnsplitError)
        except InputError as error:
            reports[split] = {"problems": [str(error)]}
    if not reports and unsplit:
        reports["all"] = check_split(config, "all")
    if not reports:
        raise InputError(missing[0])
    return _with_differences(config, reports)


def _with_differences(config: DataConfig, reports: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds the categories that differ between splits to the problems."""
    readable = [split for split, report in reports.items() if "pictures" in report]
    for split in readable[1:]:
        both = {name: load_dataset(config, name, check=False) for name in (readable[0], split)}
        try:
            require_same_classes(both)
        except InputError as error:
            reports[split]["problems"].append(str(error))
    return reports


def table(reports: dict[str, dict[str, Any]]) -> str:
    """The reports as text: one column per split, one row per figure and class, then the findings with their paths."""
    rows = [["", *reports]]
    for title, key in (("pictures", "pictures"), ("objects", "objects"), ("most in a picture", "largest_count")):
        rows.append([title, *(str(report.get(key, "–")) for report in reports.values())])
    rows.append(["smallest size", *(_size(report, 0) for report in reports.values())])
    rows.append(["largest size", *(_size(report, 1) for report in reports.values())])
    rows.append(["void", *(f"{report.get('void_share', 0):.1%}" for report in reports.values())])
    names = {name: None for report in reports.values() for name in report.get("objects_per_class", {})}
    for name in names:
        rows.append(
            [f"  {name}", *(str(report.get("objects_per_class", {}).get(name, "–")) for report in reports.values())]
        )
    for title, key in _FINDINGS:
        rows.append([title, *(str(len(report.get(key, []))) for report in reports.values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for head, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([head.ljust(widths[0]), *padded]))
    for title, key in _FINDINGS:
        for split, report in reports.items():
            lines += [f"{split}: {title}: {entry}" for entry in report.get(key, [])]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `check`; returns the exit code: 0 when clean, 1 when something is wrong."""
    parser = ArgumentParser(
        prog="python -m rsis_tf.data.check",
        description="Reads a whole dataset and reports counts per split and class, images without objects, files that\n"
        "no annotation lists, and everything that cannot be read or is wrong, with the file and the annotation's id:\n"
        "polygons with fewer than 3 points or outside the image, objects that others hide completely, ids or names\n"
        "that occur twice, coordinates that are no numbers.\n"
        "Exit code: 0 clean, 1 something is wrong with the dataset, 2 wrong arguments.",
        epilog="examples:\n  python -m rsis_tf.data.check --dataset coco --data nuclei --json report.json\n"
        "  python -m rsis_tf.data.check --dataset coco --data export --sheet truth.png",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder")
    parser.add_argument(
        "--split", choices=SPLITS, action="append", default=[], help="check this split only (default: all there are)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON, too")
    parser.add_argument(
        "--sheet", metavar="PNG", help="draw some images of every split with their objects and classes, to look at"
    )
    parser.add_argument(
        "--sheet-count", type=int, default=24, metavar="P", help="how many images in all (default: %(default)s)"
    )
    add_coco_options(parser, training=True)
    options = parser.parse_args(arguments)
    with command_line():
        config = DataConfig(dataset=options.dataset, root=options.data, **coco_fields(options))
        if options.sheet_count < 1:
            raise InputError(f"--sheet-count must be at least 1. Received: {options.sheet_count}")
        reports = check(config, options.split)
        print(table(reports))
        if options.sheet:
            print(write_sheet(config, reports, pathlib.Path(options.sheet), options.sheet_count))
        if options.json:
            _write(pathlib.Path(options.json), json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    return 1 if any(report["problems"] for report in reports.values()) else 0


def write_sheet(config: DataConfig, reports: dict[str, dict[str, Any]], path: pathlib.Path, count: int) -> str:
    """Draws images of every split with their truth, evenly spread; returns a line that says what was written.

    Raises:
        InputError: if no image can be read, or the file cannot be written.
    """
    from rsis_tf.visualization import truth_sheet, write_image

    rows, names = [], ()
    readable = [split for split, report in reports.items() if "pictures" in report]
    for split in readable:
        dataset = load_dataset(config, split, check=False)
        names, files = dataset.class_names, getattr(dataset, "image_files", None)
        share = min(len(dataset), max(1, count // len(readable)))
        for index in np.linspace(0, len(dataset) - 1, share).round().astype(int).tolist():
            with contextlib.suppress(InputError):  # it is among the problems
                sample = dataset[index]
                rows.append(
                    (
                        f"{split} {files[index].name if files else sample.image_id}",
                        sample.image,
                        sample.label_map,
                        sample.classes,
                    )
                )
    if not rows:
        raise InputError(f"expected an image that can be read for --sheet {path}. Received: none")
    try:
        write_image(path, truth_sheet(rows, names))
    except OSError as error:
        raise InputError(f"expected a file that can be written. Received: {path} ({error.strerror})") from None
    return f"{path}: {len(rows)} images with their objects"


def _size(report: dict[str, Any], which: int) -> str:
    sizes = report.get("sizes")
    return f"{sizes[which][1]}x{sizes[which][0]}" if sizes else "–"


def _write(path: pathlib.Path, text: str) -> None:
    """Writes beside and renames."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"expected a file that can be written. Received: {path} ({error.strerror})") from None


if __name__ == "__main__":
    raise SystemExit(main())
