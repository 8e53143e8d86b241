"""Walks a dataset and reports what is in it and what is wrong with it."""

import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsis_tf.config import DataConfig
from rsis_tf.data import DATASETS, SPLITS, VOID, load_dataset, require_dataset
from rsis_tf.data.files import MissingSplitError
from rsis_tf.errors import ArgumentParser, InputError, command_line

_FINDINGS = (
    ("without objects", "without_objects"),
    ("not in the annotations", "unlisted"),
    ("problems", "problems"),
)
"""Heading and key of the lists in a report."""


def check_split(config: DataConfig, split: str) -> dict[str, Any]:
    """Reads every sample of one split.

    Args:
        config: names the dataset and its folder.
        split: "train", "val" or "test".

    Returns:
        Plain values: `pictures`, `objects`, `largest_count` (objects of one picture), `void_share` (of all pixels),
        `sizes` ([smallest, largest] height and width), `objects_per_class` by name; and as lists `problems` (what could
        not be read, one line each with the path), `without_objects` (pictures that have none, by path or id) and
        `unlisted` (image files that no annotation lists).

    Raises:
        MissingSplitError: when the dataset has no such split.
        InputError: when the dataset's folder is missing.
    """
    dataset = load_dataset(config, split, check=False)
    paths = getattr(dataset, "image_files", None)
    per_class = np.zeros(len(dataset.class_names), int)
    counts, sizes, problems, without_objects = [], [], [], []
    void_pixels = pixels = 0
    for index in range(len(dataset)):
        if sys.stderr.isatty() and index % 20 == 0:
            print(f"\r{split} {index}/{len(dataset)}", end="", file=sys.stderr)
        try:
            sample = dataset[index]
        except InputError as error:
            problems.append(str(error))
            continue
        counts.append(len(sample.classes))
        sizes.append(sample.label_map.shape)
        per_class += np.bincount(sample.classes, minlength=len(per_class))
        void_pixels += int(np.count_nonzero(sample.label_map == VOID))
        pixels += sample.label_map.size
        if len(sample.classes) == 0:
            without_objects.append(str(paths[index]) if paths else sample.image_id)
    if sys.stderr.isatty():
        print("\r" + " " * 40, end="\r", file=sys.stderr)
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
    }


def check(config: DataConfig, splits: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Checks the splits named, or all that the dataset has.

    Args:
        config: names the dataset and its folder.
        splits: names of splits that must be there; empty for those that are.

    Returns:
        The report of `check_split` by split. A split whose annotations cannot be read at all has that as its problem.

    Raises:
        InputError: when the folder, or a split that was named, or every split is missing.
    """
    require_dataset(config)
    reports: dict[str, dict[str, Any]] = {}
    missing: list[str] = []
    for split in splits or SPLITS:
        try:
            reports[split] = check_split(config, split)
        except MissingSplitError as error:
            if splits:
                raise
            missing.append(str(error))
        except InputError as error:
            reports[split] = {"problems": [str(error)]}
    if not reports:
        raise InputError(missing[0])
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
    findings = (
        ("without objects", "without_objects"),
        ("not in the annotations", "unlisted"),
        ("problems", "problems"),
    )
    for title, key in findings:
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
        description="Reads a whole dataset and reports counts per split and class, pictures without objects, files\n"
        "that no annotation lists, and everything that cannot be read, with its path.\n"
        "Exit code: 0 clean, 1 something cannot be read, 2 wrong arguments.",
        epilog="example:\n  python -m rsis_tf.data.check --dataset coco --data nuclei --json report.json",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder")
    parser.add_argument(
        "--split", choices=SPLITS, action="append", default=[], help="check this split only (default: all there are)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON, too")
    options = parser.parse_args(arguments)
    with command_line():
        reports = check(DataConfig(dataset=options.dataset, root=options.data), options.split)
        print(table(reports))
        if options.json:
            _write(pathlib.Path(options.json), json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    return 1 if any(report["problems"] for report in reports.values()) else 0


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
