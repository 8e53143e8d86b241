"""Averages the sequences of an image and of its mirror images. It imports numpy alone.

A recurrent network may find the objects of a mirrored image in another order, so steps are not averaged by their
number. Objects of two sequences are the same if their masks agree: pairs are taken by decreasing IoU, down to 1/2. The
mask and the class probabilities are means over the sequences that hold the object. The objectness is the mean over all
sequences, with 0 for each that does not hold it.
"""

from collections.abc import Sequence

import numpy as np

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one image: masks (T, h, w), classes (T, K) and stop (T,) probabilities."""

AXES: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""The axes that each sequence is flipped along: none, left and right, up and down, both."""


def flip_images(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Flips (B, h, w, 3) images along axes of (h, w)."""
    return np.ascontiguousarray(np.flip(images, tuple(axis - 1 for axis in axes)))


def average(
    sequences: Sequence[Outputs], *, stop_threshold: float, mask_threshold: float, stop_mode: str = "first"
) -> Outputs:
    """Averages the outputs of one image.

    Args:
        sequences: for each entry of `AXES`, of the image flipped along it; masks are flipped back here.
        stop_threshold, mask_threshold, stop_mode: see `rsis_tf.runtime.decode`.

    Returns:
        The outputs of as many steps as there are different objects, at least one: in the order of the first sequence,
        then those that only others found. Steps whose mean objectness is below the threshold come last.
    """
    objects: list[list[tuple[np.ndarray, np.ndarray, float]]] = []
    for axes, (masks, classes, stop) in zip(AXES, sequences, strict=True):
        steps = _steps(stop, stop_threshold, stop_mode)
        found = [(np.flip(masks[step], axes), classes[step], float(stop[step])) for step in steps]
        means = [np.mean([mask for mask, *_ in one], axis=0) for one in objects]
        partner = _matched(means, [mask for mask, *_ in found], mask_threshold)
        for number, entry in enumerate(found):
            if number in partner:
                objects[partner[number]].append(entry)
            else:
                objects.append([entry])
    if not objects:
        masks, classes, stop = sequences[0]
        return masks[:1], classes[:1], np.minimum(stop[:1], np.nextafter(stop_threshold, -1, dtype=np.float32))
    stop = np.array([sum(entry[2] for entry in one) / len(sequences) for one in objects], np.float32)  # (n,)
    order = np.argsort(stop < stop_threshold, kind="stable")
    masks = np.stack([np.mean([entry[0] for entry in one], axis=0) for one in objects])  # (n, h, w)
    classes = np.stack([np.mean([entry[1] for entry in one], axis=0) for one in objects])  # (n, K)
    return masks[order], classes[order], stop[order]


def _steps(stop: np.ndarray, threshold: float, stop_mode: str) -> list[int]:
    holds = stop >= threshold  # (T,)
    if stop_mode == "first":
        holds = np.logical_and.accumulate(holds)
    return np.flatnonzero(holds).tolist()


def _matched(ours: list[np.ndarray], theirs: list[np.ndarray], threshold: float) -> dict[int, int]:
    """Returns the number of our object for each of their objects that has one: the pairs with the highest IoU first."""
    if not ours or not theirs:
        return {}
    one = np.stack([mask >= threshold for mask in ours]).reshape(len(ours), -1).astype(np.float32)  # (n, h * w)
    other = np.stack([mask >= threshold for mask in theirs]).reshape(len(theirs), -1).astype(np.float32)  # (m, h * w)
    both = one @ other.T  # (n, m)
    either = one.sum(axis=1)[:, None] + other.sum(axis=1)[None] - both
    agreement = both / np.maximum(either, 1)
    pairs: dict[int, int] = {}
    while agreement.max() >= 0.5:
        row, column = np.unravel_index(agreement.argmax(), agreement.shape)
        pairs[int(column)] = int(row)
        agreement[row], agreement[:, column] = 0, 0
    return pairs
