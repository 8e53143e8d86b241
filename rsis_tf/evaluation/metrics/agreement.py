"""One number for how far two predictions of a picture are the same."""

from collections.abc import Sequence

import numpy as np

from rsis_tf.runtime import Instance


def agreement(ours: Sequence[Instance], theirs: Sequence[Instance]) -> float:
    """Returns how far two predictions of one picture are the same, 0 to 1, whatever their order.

    Instances of the same class are paired, those that overlap most first; it is the sum of the IoUs of their masks
    over the number of instances of the prediction that has more; 1 if neither has any.
    """
    if not ours or not theirs:
        return float(len(ours) == len(theirs))
    overlap = np.zeros((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            if a.class_id == b.class_id:
                overlap[i, j] = (a.mask & b.mask).sum() / (a.mask | b.mask).sum()
    total = 0.0
    for _ in range(min(overlap.shape)):
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        total += overlap[i, j]
        overlap[i], overlap[:, j] = 0, 0
    return float(total / max(len(ours), len(theirs)))
