"""Options for the files of a dataset in COCO's format, the same in every command."""

import argparse
from typing import Any

from rsis_tf.config import CROWDS
from rsis_tf.data import DATASETS

PATH_FIELDS = ("annotations", "val_annotations", "images", "val_images")
"""Fields of `DataConfig` that say where a dataset's files lie, besides `root`."""
FILE_FIELDS = (*PATH_FIELDS, "val_share")
"""Fields of `DataConfig` that belong to one folder: which files are read."""
SIZE_FIELDS = ("train_size", "val_size")
"""The same: how many of its images."""


def add_coco_options(group: argparse._ActionsContainer, *, training: bool = False) -> None:
    """Adds the options. Those of the validation split are for `training` only; other commands read one split."""
    group.add_argument(
        "--annotations",
        metavar="FILE",
        help=f"coco: the annotation file{' for training' if training else ''}, if --data has no known layout",
    )
    group.add_argument("--images", metavar="DIR", help="coco: the folder of its images (default: beside the file)")
    if training:
        group.add_argument("--val-annotations", metavar="FILE", help="coco: the annotation file for validation")
        group.add_argument("--val-images", metavar="DIR", help="coco: the folder of its images (default: --images)")
    group.add_argument(
        "--val-share",
        type=float,
        metavar="P",
        help="coco, dsb2018, yolo: the share of the images to keep for validation, such as 0.2, if the dataset has no "
        "validation split; the choice depends on the file names only, so it is the same in every run",
    )
    group.add_argument(
        "--crowds",
        choices=CROWDS,
        help="coco: how to read annotations with iscrowd 1: as regions to ignore, or as objects (default: auto, which "
        "ignores them except for CVAT's brush masks)",
    )


def coco_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that were given, as fields of `DataConfig`."""
    names = DATASETS["coco"].own_fields
    return {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
