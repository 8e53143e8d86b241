"""Scores of tracking: MOTA (Bernardin and Stiefelhagen, 2008), IDF1 (Ristani et al., 2016) and identity switches."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from rsis_tf.runtime import Instance

Frame = Mapping[int, Instance]
"""Identity → object."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Attributes: `switches`, changes of the identity of a true object; `missed` and `surplus` objects over frames."""

    mota: float
    idf1: float
    switches: int
    missed: int
    surplus: int


def score(truth: Sequence[Frame], found: Sequence[Frame], *, least: float = 0.5) -> Scores:
    """Scores identities. In a frame, an object that is found counts for a true one from an IoU of `least`."""
    switches = missed = surplus = true = predicted = 0
    identity: dict[int, int] = {}
    shared: dict[tuple[int, int], int] = {}
    for objects, guesses in zip(truth, found, strict=True):
        numbers, ids = list(objects), list(guesses)
        true, predicted = true + len(numbers), predicted + len(ids)
        ious = np.array([[iou(objects[n], guesses[i]) for i in ids] for n in numbers]).reshape(len(numbers), len(ids))
        for row, column in np.argwhere(ious >= least):
            pair = numbers[row], ids[column]
            shared[pair] = shared.get(pair, 0) + 1
        # A pair of the frame before stays if it still overlaps, as MOTA demands.
        kept = np.array([[identity.get(n) == i for i in ids] for n in numbers]).reshape(ious.shape)
        weight = np.where(ious >= least, ious + 10 * kept, 0)
        matched = [(r, c) for r, c in zip(*linear_sum_assignment(-weight), strict=True) if weight[r, c] > 0]
        for row, column in matched:
            switches += identity.get(numbers[row], ids[column]) != ids[column]
            identity[numbers[row]] = ids[column]
        missed += len(numbers) - len(matched)
        surplus += len(ids) - len(matched)
    names = sorted({n for n, _ in shared}), sorted({i for _, i in shared})
    table = np.array([[shared.get((n, i), 0) for i in names[1]] for n in names[0]])
    table = table.reshape([len(part) for part in names])
    agreed = int(table[linear_sum_assignment(-table)].sum()) if table.size else 0
    return Scores(
        mota=1 - (missed + surplus + switches) / max(true, 1),
        idf1=2 * agreed / max(true + predicted, 1),
        switches=switches,
        missed=missed,
        surplus=surplus,
    )


def iou(first: Instance, second: Instance) -> float:
    """Returns the IoU of two masks of one image."""
    a, b = first.cropped, second.cropped
    x0, y0, x1, y1 = (f(p, q) for f, p, q in zip((max, max, min, min), a.box, b.box, strict=True))
    if x0 >= x1 or y0 >= y1:
        return 0.0
    parts = [m.crop[y0 - m.corner[1] : y1 - m.corner[1], x0 - m.corner[0] : x1 - m.corner[0]] for m in (a, b)]
    shared = np.count_nonzero(parts[0] & parts[1])
    return shared / (a.area + b.area - shared)
