"""Predicts the objects of pictures: `python -m rsis_tf.predict MODEL IMAGE…`."""

import argparse
import csv
import os
import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.engine import quiet_start
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image

if TYPE_CHECKING:
    from export.runtime import Instance

_EPILOG = """example:
  python -m rsis_tf.predict runs/synthetic/model.onnx photos/*.jpg --out found

Writes for each picture NAME_overlay.png, and NAME_labels.png with pixel value i for the i-th object found (0 for none;
16 bits beyond 255 objects), and counts.csv for all.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m rsis_tf.predict",
        description="Finds the objects in pictures, one after the other, and draws them.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help="a run's folder, a .keras or an .onnx file")
    parser.add_argument("images", type=pathlib.Path, nargs="+", metavar="IMAGE", help="picture of any size")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("predictions"), metavar="DIR",
                        help="folder for the results (default: predictions)")  # fmt: skip
    parser.add_argument("--stop", choices=("first", "each"), default="first",
                        help="first: the sequence ends at the first step without an object; each: every step is "
                        "judged alone")  # fmt: skip
    return parser.parse_args(argv)


def label_map(instances: "list[Instance]", size: tuple[int, int]) -> np.ndarray:
    """Paints instances into one (H, W) map of 1 … n in predicted order; where masks overlap the earlier one stays."""
    painted = np.zeros(size, np.uint8 if len(instances) < 256 else np.uint16)
    for number, instance in reversed(list(enumerate(instances, start=1))):
        painted[instance.mask] = number
    return painted


def write_results(out: pathlib.Path, name: str, image: np.ndarray, instances: "list[Instance]") -> None:
    """Writes the label map and the overlay of one picture."""
    from rsis_tf.pictures import overlay, write_image

    write_image(out / f"{name}_labels.png", label_map(instances, image.shape[:2]))
    write_image(out / f"{name}_overlay.png", overlay(image, instances))


def write_counts(path: pathlib.Path, rows: list[dict[str, object]]) -> None:
    """Writes one row a picture: its file, the objects in it, and how many of each class."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval=0)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def main(argv: list[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        quiet_start()
        from rsis_tf.predictor import open_predictor

        predictor = open_predictor(arguments.model, stop_mode=arguments.stop)
        rows: list[dict[str, object]] = []
        refused = 0
        for path in arguments.images:
            try:
                image = read_image(path)
            except InputError as error:  # the other pictures are still wanted
                print(f"error: {error}", file=sys.stderr)
                refused += 1
                continue
            instances = predictor(image)
            arguments.out.mkdir(parents=True, exist_ok=True)
            write_results(arguments.out, path.stem, image, instances)
            row: dict[str, object] = {"image": str(path), "objects": len(instances)}
            for instance in instances:
                row[instance.class_name] = int(row.get(instance.class_name, 0)) + 1
            rows.append(row)
            found = ", ".join(f"{instance.class_name} {instance.score:.2f}" for instance in instances)
            print(f"{path}: {len(instances)} objects{': ' if found else ''}{found}", flush=True)
        if rows:
            write_counts(arguments.out / "counts.csv", rows)
            print(f"{arguments.out}: label maps, overlays and counts.csv of {len(rows)} pictures")
        if refused:
            raise SystemExit(2)


if __name__ == "__main__":
    main()
