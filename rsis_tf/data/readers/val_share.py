"""Dividing one set of images into training and validation: by name, so that every run and every tool divides alike."""

import hashlib
import re
from collections.abc import Sequence

from rsis_tf.errors import InputError

_VERSION = re.compile(r"\.rf\.[0-9a-f]{16,}(?=\.)")
"""What Roboflow puts into the names of the augmented copies of an image."""


def validation_names(names: Sequence[str], share: float) -> set[str]:
    """Chooses the images that are kept for validation.

    The choice depends on the names and the share alone: on no seed and no order, so that training and evaluation agree.
    Copies of one image (of one name, or Roboflow's augmented ones) go to the same side.

    Args:
        names: of the image files.
        share: part of the images to choose, 0 < share < 1; at least one is chosen and at least one is left.

    Returns:
        The chosen names.

    Raises:
        InputError: for another share, or fewer than two images.
    """
    if not 0 < share < 1:
        raise InputError(f"--val-share must be between 0 and 1. Received: {share}")
    groups = sorted({_original(name) for name in names}, key=_place)
    if len(groups) < 2:
        raise InputError(f"expected at least two images to divide. Received: {len(groups)}")
    chosen = set(groups[: min(max(1, round(share * len(groups))), len(groups) - 1)])
    return {name for name in names if _original(name) in chosen}


def _original(name: str) -> str:
    return _VERSION.sub("", name.replace("\\", "/"))


def _place(name: str) -> bytes:
    """A place in an order that has nothing to do with the names, and is the same everywhere."""
    return hashlib.sha256(f"validation {name}".encode("utf-8", "surrogatepass")).digest()
