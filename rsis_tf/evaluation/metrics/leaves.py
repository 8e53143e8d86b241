"""Scores of the CVPPP Leaf Segmentation Challenge (paper, table 1), equal to those of the organisers' MATLAB files.

Source: Scharr et al., "Leaf segmentation in plant phenotyping: a collation study", Machine Vision and Applications
27 (2016), and the challenge's evaluation scripts, whose file names stand below. The scripts' conventions are kept, so
that numbers can be compared with published ones:

- The lowest label of a map is its background, whatever its value. A map with a single value has no objects.
- Labels are assumed to be consecutive. An id without pixels between the background and the highest id counts as an
  object: it adds one to the count and a Dice of zero to the mean.
- Symmetric best Dice is 0 if one of the maps has no objects, even if both have none.
- Foreground Dice of two maps without objects is 0/0: NaN, as in MATLAB.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import close_gaps, to_label_map

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


def symmetric_best_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Symmetric best Dice (SBD): the minimum of the best Dice of the prediction and the best Dice of the truth.

    The best Dice of a map is the mean, over its objects, of the highest Dice with any object of the other map
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
    """Difference in count (DiC): number of predicted objects minus number of true objects (`DiffFGLabels.m`).

    Args:
        prediction: (H, W) integer label map.
        truth: (H, W) integer label map.

    Raises:
        InputError: if the maps are not integer maps of one shape.
    """
    prediction, truth = _checked(prediction, truth)
    return _span(prediction) - _span(truth)


def absolute_count_difference(prediction: np.ndarray, truth: np.ndarray) -> int:
    """Absolute difference in count, |DiC| (`AbsDiffFGLabels.m`); arguments and errors as in `count_difference`."""
    return abs(count_difference(prediction, truth))


def foreground_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of all foreground pixels: the objects of each map count as one region (`FGBGDice.m`).

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
    """Paints masks, which may overlap, into one label map.

    The objects that keep a pixel get consecutive ids, because the challenge counts a skipped id as an object.

    Args:
        instances: objects in predicted order, each with `mask` (H, W) bool.
        shape: (H, W).
        void: (H, W) bool, pixels that stay background.
        overlap: "earliest": a pixel belongs to the first step that claims it, because early steps are the more
            accurate ones; "latest": to the last step, as in the original's evaluation, where later steps overwrite
            earlier ones.

    Returns:
        (H, W) int32: 0 background, 1 … n.

    Raises:
        InputError: if a mask has another shape.
    """
    labels = to_label_map(instances, shape, overlap=overlap)
    if void is not None:
        labels[void] = 0
    return close_gaps(labels, len(instances))[0]


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumbers the values of a label map to 0, 1, 2 … without gaps; their order stays.

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
        raise InputError(f"label maps must have the same shape. Received: {prediction.shape} and {truth.shape}")
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
