"""One number for how far two predictions of a picture are the same."""

from collections.abc import Sequence

from export.runtime import Instance


def agreement(ours: Sequence[Instance], theirs: Sequence[Instance]) -> float:
    """Returns how far two predictions of one picture are the same, 0 to 1.

    It is the sum of the IoUs of masks at the same step and of the same class, over the number of steps at which either
    has an instance; 1 if neither has any.
    """
    first, second = ({instance.step: instance for instance in found} for found in (ours, theirs))
    total = 0.0
    for step in first.keys() & second.keys():
        a, b = first[step], second[step]
        if a.class_id == b.class_id:
            total += (a.mask & b.mask).sum() / (a.mask | b.mask).sum()
    steps = len(first.keys() | second.keys())
    return float(total / steps) if steps else 1.0
