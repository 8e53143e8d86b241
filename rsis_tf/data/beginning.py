"""Sequences that begin in the middle: some objects of a training picture count as found already.

A sequence of twenty objects is long to train through. With the union of the masks so far as an input of every step,
a short stretch that begins anywhere teaches the same: what to do next, given what has been done.
"""

import numpy as np


def begin_anywhere(
    label_map: np.ndarray, classes: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draws how many objects are left and which, and numbers those first.

    Args:
        label_map: (H, W) int32: 1 … n the objects, other values are kept.
        classes: (N,) int32, the classes of the objects first.
        count: n.
        rng: source of the random numbers.

    Returns:
        The label map with the objects renumbered, their classes, and the number r in 0 … n of those left to find,
        which have the numbers 1 … r.
    """
    remaining = int(rng.integers(0, count + 1))
    order = rng.permutation(count)  # old index of each new one
    table = np.arange(label_map.max(initial=0) + 3, dtype=np.int32)
    table[[-1, -2]] = -1, -2  # VOID and PADDING index the last two
    table[1 + order] = np.arange(1, count + 1)
    shuffled = classes.copy()
    shuffled[:count] = classes[order]
    return table[label_map], shuffled, remaining
