"""Division of one set of images into training and validation by name, the same in every run and every command."""

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar

from rsis_tf.errors import InputError

Item = TypeVar("Item")
_VERSION = re.compile(r"\.rf\.[0-9a-f]{16,}(?=\.)")
"""The part of a name by which Roboflow tells the augmented copies of an image apart."""


def validation_names(names: Sequence[str], share: float) -> set[str]:
    """Chooses the images that are kept for validation.

    The choice depends only on the names and the share, not on a seed or an order, so training and evaluation agree.
    Copies of one image (files of the same name, and Roboflow's augmented copies) stay together.

    Args:
        names: names of the image files.
        share: share of the images to choose, 0 < share < 1; at least one is chosen and at least one is left.

    Returns:
        The chosen names.

    Raises:
        InputError: if the share is out of range or there are fewer than two images.
    """
    if not 0 < share < 1:
        raise InputError(f"--val-share must be between 0 and 1. Received: {share}")
    groups = sorted({_original(name) for name in names}, key=_rank)
    if len(groups) < 2:
        raise InputError(f"expected at least two images to divide. Received: {len(groups)}")
    chosen = set(groups[: min(max(1, round(share * len(groups))), len(groups) - 1)])
    return {name for name in names if _original(name) in chosen}


def part_of(items: Sequence[Item], names: Sequence[str], *, split: str, share: float) -> list[Item]:
    """Returns the items of "train" or "val", in their order; see `validation_names`.

    Args:
        items: to divide.
        names: the name of the image file of each item.
        split: "val" for the chosen ones, "train" for the others.
        share: share of the images to choose.
    """
    chosen = validation_names(names, share)
    return [item for item, name in zip(items, names, strict=True) if (name in chosen) == (split == "val")]


def _original(name: str) -> str:
    return _VERSION.sub("", name.replace("\\", "/"))


def _rank(name: str) -> bytes:
    """Sort key of an order that looks random but is the same on every machine."""
    return hashlib.sha256(f"validation {name}".encode("utf-8", "surrogatepass")).digest()
