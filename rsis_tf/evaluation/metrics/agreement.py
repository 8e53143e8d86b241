"""Agreement of two predictions of one image: a metric of this project, used to compare exports of one model."""

from collections.abc import Sequence

import numpy as np

from rsis_tf.runtime import Instance


def agreement(ours: Sequence[Instance], theirs: Sequence[Instance]) -> float:
    """Returns the agreement of two predictions of one image, 0 to 1.

    Instances of the same class are paired, the largest IoU of their masks first; of equal IoUs, the first of `ours`.
    The order of the instances does not matter otherwise. The agreement is the sum of the IoUs of the pairs, divided by
    the number of instances of the larger prediction. It is 1 if both are empty.
    """
    if not ours or not theirs:
        return float(len(ours) == len(theirs))
    overlap = np.zeros((len(ours), len(theirs)))
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            if a.class_id == b.class_id:
                union = (a.mask | b.mask).sum()
                overlap[i, j] = (a.mask & b.mask).sum() / union if union else 1.0  # two empty masks agree
    total = 0.0
    for _ in range(min(overlap.shape)):
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        total += overlap[row, column]
        overlap[row], overlap[:, column] = 0, 0
    return float(total / max(len(ours), len(theirs)))
