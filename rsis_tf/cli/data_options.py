"""The options of command lines that say where a dataset in COCO's format lies, and how it is read."""

import argparse
from typing import Any

from rsis_tf.config import CROWDS

_FIELDS = ("annotations", "val_annotations", "images", "val_images", "val_share", "crowds")


def add_coco_options(group: argparse._ActionsContainer, *, training: bool = False) -> None:
    """Adds the options; those of the validation split for `training` alone, other commands read one split."""
    group.add_argument(
        "--annotations",
        metavar="FILE",
        help="coco: the annotations" + (" for training" if training else "") + ", where --data has no known layout",
    )
    group.add_argument(
        "--images", metavar="DIR", help="coco: the folder of their images (default: looked for beside them)"
    )
    if training:
        group.add_argument("--val-annotations", metavar="FILE", help="coco: the annotations for validation")
        group.add_argument("--val-images", metavar="DIR", help="coco: the folder of their images (default: --images)")
    group.add_argument(
        "--val-share",
        type=float,
        metavar="P",
        help="coco: keep this part of a dataset without validation split for validation, such as 0.2; chosen by file "
        "name, so that it is the same in every run",
    )
    group.add_argument(
        "--crowds",
        choices=CROWDS,
        help="coco: what annotations with iscrowd 1 are: regions to ignore, or objects (default: auto, to ignore "
        "except for CVAT's brush masks)",
    )


def coco_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options given, as fields of `DataConfig`."""
    return {name: value for name in _FIELDS if (value := getattr(arguments, name, None)) is not None}
