"""`rsis check`: reports what a dataset contains and what is wrong with it."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from rsis_tf import outputs
from rsis_tf.cli.data_options import add_coco_options, coco_fields
from rsis_tf.config import DataConfig
from rsis_tf.config.presets import VARIANTS, preset
from rsis_tf.data import DATASETS, SPLITS
from rsis_tf.data.check import check, table, write_sheet
from rsis_tf.errors import ArgumentParser, InputError, command_line, reason_of
from rsis_tf.files import write_json
from rsis_tf.visualization.drawing import check_image_name

_EPILOG = """examples:
  rsis check --dataset coco --data nuclei --json report.json
  rsis check --dataset coco --data export --sheet truth.png

datasets:
""" + "\n".join(f"  {name:<11} {entry.description}" for name, entry in DATASETS.items())
_DESCRIPTION = """\
Reads a whole dataset and reports the number of objects per split and class, images without objects, image files that
the annotations do not list, and everything that cannot be read or is wrong, with the file and the annotation's id:
polygons with fewer than 3 points or outside the image, objects that others hide completely, ids or names that occur
twice, coordinates that are not numbers. Exit code: 0 clean, 1 something is wrong with the dataset, 2 wrong arguments.
"""


def _config(options: argparse.Namespace) -> DataConfig:
    """Returns the dataset; a generated one has the images of its preset, which `rsis train` uses."""
    config = DataConfig(dataset=options.dataset, root=options.data, **coco_fields(options))
    if config.dataset not in VARIANTS:
        return config
    return dataclasses.replace(preset(None, dataset=config.dataset).data, root=config.root, **coco_fields(options))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0 if the dataset is clean, 1 if something is wrong with it."""
    parser = ArgumentParser(
        prog="rsis check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder")
    parser.add_argument(
        "--split", choices=SPLITS, action="append", default=[], help="check only this split (default: all that exist)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--sheet", metavar="PNG", help="draw images of every split with their objects and classes")
    parser.add_argument(
        "--sheet-count",
        type=int,
        default=24,
        metavar="P",
        help="number of images to draw (default: %(default)s)",
    )
    add_coco_options(parser, training=True)
    options = parser.parse_args(argv)
    with command_line():
        config = _config(options)
        if options.sheet_count < 1:
            raise InputError(f"--sheet-count must be at least 1. Received: {options.sheet_count}")
        for option in ("sheet", "json"):
            if getattr(options, option):
                outputs.check_file(getattr(options, option), option=f"--{option}")
        if options.sheet:
            check_image_name(options.sheet)
        reports = check(config, options.split)
        print(table(reports))
        if options.json:
            try:
                write_json(options.json, {split: report.as_dict() for split, report in reports.items()})
            except OSError as error:
                raise InputError(f"expected a writable file. Received: {options.json} ({reason_of(error)})") from None
        if options.sheet:
            drawn = write_sheet(config, reports, pathlib.Path(options.sheet), options.sheet_count)
            print(f"{options.sheet}: {drawn} images with their objects")
    return 1 if any(report.problems for report in reports.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
