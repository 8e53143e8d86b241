"""Partial sequences: training sequences in which some objects of the image count as already found.

A sequence of twenty objects takes long to train through. If every step reads the union of the masks so far, a short
sequence that starts after some objects have been found teaches the same: the next object, given those already found.
"""

import numpy as np


def draw_partial_sequence(
    label_map: np.ndarray, classes: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draws which objects are left to find, and gives them the first numbers.

    Args:
        label_map: (H, W) int32: 1 … n the objects; other values are kept.
        classes: (N,) int32, the classes of the n objects, then 0.
        count: n.
        rng: source of the random numbers.

    Returns:
        The label map with the objects renumbered, their classes, and the number r in 0 … n of objects left to find.
        These have the numbers 1 … r.
    """
    remaining = int(rng.integers(0, count + 1))
    order = rng.permutation(count)  # old index of each new one
    table = np.arange(label_map.max(initial=0) + 3, dtype=np.int32)
    table[[-1, -2]] = -1, -2  # VOID and PADDING index the last two
    table[1 + order] = np.arange(1, count + 1)
    shuffled = classes.copy()
    shuffled[:count] = classes[order]
    return table[label_map], shuffled, remaining


def middle_points(label_map: np.ndarray, remaining: int, max_objects: int) -> np.ndarray:
    """Returns the pixel of each found object that is nearest to the object's centre of mass.

    Args:
        label_map: (H, W) int32, from `draw_partial_sequence`; the objects above `remaining` are found.
        remaining: r, the number of objects left to find.
        max_objects: N.

    Returns:
        (N, 2) int32, (y, x) of object 1 … n; -1 for objects that are left to find or do not exist.
    """
    points = np.full((max_objects, 2), -1, np.int32)
    y, x = np.nonzero(label_map > remaining)
    labels = label_map[y, x]
    order = np.argsort(labels, kind="stable")
    numbers, starts = np.unique(labels[order], return_index=True)
    for number, pixels in zip(numbers.tolist(), np.split(order, starts[1:]), strict=bool(len(numbers))):
        positions = np.stack([y[pixels], x[pixels]], axis=1)  # (P, 2)
        distance = np.square(positions - positions.mean(axis=0)).sum(axis=1)
        points[number - 1] = positions[distance.argmin()]
    return points
