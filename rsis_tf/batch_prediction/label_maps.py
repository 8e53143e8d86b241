"""Label maps of an image by position in the list of objects, and of a frame by identity."""

from collections.abc import Sequence

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import Instances, close_gaps, compact

_LARGEST_ID = 65535
"""In 16 bits."""


def label_map(found: Instances) -> tuple[np.ndarray, list[int]]:
    """Returns the label map of an image, uint8 or uint16, and the value of each object in it."""
    labels, numbers = close_gaps(found.to_label_map(), len(found))
    return compact(labels), numbers


def identity_map(found: Instances, ids: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Returns the label map of a frame, uint16, whose values are identities, and the value of each object in it.

    Raises:
        InputError: for an identity that 16 bits do not hold.
    """
    if max(ids, default=0) > _LARGEST_ID:
        raise InputError(f"expected at most {_LARGEST_ID} distinct objects in a sequence. Received: {max(ids)}")
    order = found.to_label_map()
    labels = np.array([0, *ids], np.uint16)[order]
    visible = np.bincount(order.ravel(), minlength=len(found) + 1)[1:] > 0
    return labels, [identity if seen else 0 for identity, seen in zip(ids, visible, strict=True)]
