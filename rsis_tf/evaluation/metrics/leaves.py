"""Scores of the CVPPP Leaf Segmentation Challenge (paper, table 1), equal to the organisers' MATLAB files.

The challenge's conventions, kept here because a number must mean what the benchmark's own tool means:

- The lowest label of a map is its background, whatever its value; a map of one value has no objects.
- Labels are taken to be consecutive. An id without pixels between background and the highest id counts as an object:
  it adds one to the count and a Dice of zero to the mean.
- Symmetric best Dice of a map without objects is 0, also when both maps are empty.
- Foreground Dice of two empty maps is 0/0: NaN, as MATLAB has it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


def symmetric_best_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Symmetric best Dice (SBD): the lower of best Dice of prediction over truth and of truth over prediction.

    Best Dice is the mean, over the objects of one map, of the highest Dice with any object of the other
    (`SymmetricBestDice.m`, `BestScore.m`).

    Args:
        prediction: (H, W) integer label map.
        truth: (H, W) integer label map.

    Returns:
        A fraction, 0 … 1.

    Raises:
        InputError: if the maps are not integer maps of one shape.
    """
    prediction, truth = _checked(prediction, truth)
    objects, others = _span(prediction), _span(truth)  # ids in use or skipped, background not counted
    if objects == 0 or others == 0:
        return 0.0
    dice = _pairwise_dice(prediction, truth)
    return float(min(dice.max(axis=1).sum() / objects, dice.max(axis=0).sum() / others))


def count_difference(prediction: np.ndarray, truth: np.ndarray) -> int:
    """Difference in count (DiC): objects predicted minus objects there are (`DiffFGLabels.m`).

    Args:
        prediction: (H, W) integer label map.
        truth: (H, W) integer label map.

    Raises:
        InputError: if the maps are not integer maps of one shape.
    """
    prediction, truth = _checked(prediction, truth)
    return _span(prediction) - _span(truth)


def foreground_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of everything above background against everything above background (`FGBGDice.m`).

    Args:
        prediction: (H, W) integer label map.
        truth: (H, W) integer label map.

    Returns:
        A fraction, 0 … 1; NaN if both maps are empty.

    Raises:
        InputError: if the maps are not integer maps of one shape.
    """
    prediction, truth = _checked(prediction, truth)
    in_prediction, in_truth = prediction > prediction.min(), truth > truth.min()
    pixels = int(in_prediction.sum()) + int(in_truth.sum())
    return 2.0 * int((in_prediction & in_truth).sum()) / pixels if pixels else float("nan")


def label_map(
    instances: Sequence["Instance"],
    shape: tuple[int, int],
    *,
    void: np.ndarray | None = None,
    overlap: str = "earliest",
) -> np.ndarray:
    """Puts masks that may overlap into one label map.

    Ids are consecutive over the objects that keep a pixel, since the challenge counts a skipped id as an object.

    Args:
        instances: objects in predicted order, each with `mask` (H, W) bool.
        shape: (H, W).
        void: (H, W) bool, pixels that stay background.
        overlap: "earliest": a pixel belongs to the first step that claims it (what the network finds first it finds
            best); "latest": to the last, as later steps overwrite earlier ones in the original's evaluation.

    Returns:
        (H, W) int32: 0 background, 1 … n.

    Raises:
        InputError: if a mask has another shape.
    """
    labels = np.zeros(shape, np.int32)
    numbered = list(enumerate(instances, start=1))
    for number, instance in numbered if overlap == "latest" else reversed(numbered):
        if instance.mask.shape != tuple(shape):
            raise InputError(
                f"masks must have the shape of the picture, {tuple(shape)}. Received: {instance.mask.shape}"
            )
        labels[instance.mask] = number
    if void is not None:
        labels[void] = 0
    kept = np.bincount(labels.ravel(), minlength=len(numbered) + 1) > 0  # (n + 1,)
    kept[0] = False
    return np.cumsum(kept, dtype=np.int32)[labels]


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumbers a label map's values 0, 1, 2 … in rising order, without gaps.

    Args:
        labels: (H, W) integers or booleans.

    Returns:
        (H, W) int64.
    """
    low, span = int(labels.min()), _span(labels)
    if span > labels.size:  # a table would be larger than the map
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    shifted = labels.astype(np.int64) - low
    seen = np.bincount(shifted.ravel()) > 0
    return (np.cumsum(seen) - 1)[shifted]


def _checked(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    for labels in (prediction, truth):
        if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "biu":
            received = f"{labels.dtype} array of shape {labels.shape}"
            raise InputError(f"a label map must be an (H, W) array of integers. Received: {received}")
    if prediction.shape != truth.shape:
        raise InputError(f"label maps must have one shape. Received: {prediction.shape} and {truth.shape}")
    return prediction, truth


def _span(labels: np.ndarray) -> int:
    return int(labels.max()) - int(labels.min())


def _pairwise_dice(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the Dice of every object of one map with every object of the other, (n, m) float64."""
    rows, columns = consecutive(prediction), consecutive(truth)  # (H, W)
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    pairs = rows.ravel() * shape[1] + columns.ravel()
    overlap = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)  # (n + 1, m + 1)
    sizes = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True)  # (n + 1, m + 1)
    return (2.0 * overlap / sizes)[1:, 1:]  # the first row and column are the backgrounds
