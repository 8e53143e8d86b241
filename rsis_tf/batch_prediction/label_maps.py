"""Label maps of an image by position in the list of objects, and of a frame by identity."""

import os
from collections.abc import Sequence

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import Instances, close_gaps, compact

_LARGEST_ID = 65535
"""In 16 bits."""


class TooManyObjects(InputError):
    """A label map with values that 16 bits do not hold; those of other images can be written."""


def numbered(found: Instances) -> tuple[np.ndarray, list[int]]:
    """Returns the label map of an image, (H, W) int32, and the value of each object in it."""
    return close_gaps(found.to_label_map(), len(found))


def identified(found: Instances, ids: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Returns the label map of a frame, (H, W) int32, whose values are identities, and the value of each object."""
    order = found.to_label_map()
    labels = np.array([0, *ids], np.int32)[order]
    visible = np.bincount(order.ravel(), minlength=len(found) + 1)[1:] > 0
    return labels, [identity if seen else 0 for identity, seen in zip(ids, visible, strict=True)]


def narrowed(labels: np.ndarray, *, source: str | os.PathLike, identities: bool = False) -> np.ndarray:
    """Returns a label map as an image file holds it: uint8 or uint16, always uint16 for identities.

    Args:
        labels: (H, W) int32.
        source: the image, for messages.
        identities: whether the values are identities.

    Raises:
        TooManyObjects: for a value that 16 bits do not hold.
    """
    largest = int(labels.max(initial=0))
    if largest > _LARGEST_ID:
        where = "distinct objects in a sequence" if identities else "objects in a label map"
        raise TooManyObjects(
            f"expected at most {_LARGEST_ID} {where} (--what json,counts has no such limit). "
            f"Received: {largest} in {os.fspath(source)}"
        )
    return labels.astype(np.uint16) if identities else compact(labels)
