"""95 % bootstrap intervals of scores: how much a number varies with the choice of the images.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), percentile intervals. Each draw takes as many
images as the dataset has, with replacement, and the score is computed again for the draw. The interval reaches from
the 2.5th to the 97.5th percentile of the draws.

For average precision, the matches of each image are kept and only the ranking is computed again: to draw an image w
times is to count its predictions and objects w times. Each draw therefore equals the result of pycocotools on the drawn
images, except for the order of predictions of one image that have exactly the same score.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]
RESAMPLES = 1000
_RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the precision."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections:
    """All predictions of one class, highest score first.

    Attributes:
        image: (D,) int, the image of each, 0 … I−1.
        right: (thresholds, D) bool, whether it is matched with an object.
        wrong: (thresholds, D) bool, whether it is not; predictions that are neither right nor wrong are ignored.
        truths: (I,) int, objects in each image.
    """

    image: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    truths: np.ndarray

    @classmethod
    def of(cls, records: Sequence[dict[str, np.ndarray] | None], thresholds: int) -> "Detections":
        """Joins the results of `coco_matching.match` for all images; None stands for no objects and no predictions."""
        given = [(i, record) for i, record in enumerate(records) if record is not None]
        empty = np.zeros((thresholds, 0), bool)
        matched = np.concatenate([empty, *(r["dtMatches"] for _, r in given)], axis=1)  # (thresholds, D)
        ignored = np.concatenate([empty, *(r["dtIgnore"] for _, r in given)], axis=1)  # (thresholds, D)
        scores = np.concatenate([np.zeros(0), *(r["dtScores"] for _, r in given)])  # (D,)
        image = np.concatenate([np.zeros(0, int), *(np.full(len(r["dtScores"]), i) for i, r in given)])  # (D,)
        truths = np.zeros(len(records), int)
        for i, record in given:
            truths[i] = np.count_nonzero(~record["gtIgnore"])
        order = np.argsort(-scores, kind="stable")
        return cls(
            image=image[order],
            right=(matched & ~ignored)[:, order],
            wrong=(~matched & ~ignored)[:, order],
            truths=truths,
        )

    def average_precision(self, weights: np.ndarray, thresholds: Sequence[int]) -> np.ndarray:
        """Computes COCO's 101-point average precision with each image counted as often as its weight.

        Args:
            weights: (I,) int.
            thresholds: which rows of `right` to use.

        Returns:
            (len(thresholds),) fractions; NaN if no object is left.
        """
        objects = int(weights @ self.truths)
        if objects == 0:
            return np.full(len(thresholds), np.nan)
        weight = weights[self.image]  # (D,)
        kept = weight > 0
        result = np.zeros(len(thresholds))
        for row, t in enumerate(thresholds):
            right = np.cumsum(weight[kept] * self.right[t, kept])
            if len(right) == 0:
                continue
            wrong = np.cumsum(weight[kept] * self.wrong[t, kept])
            precision = right / (right + wrong + np.spacing(1))
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            at = np.searchsorted(right / objects, _RECALLS, side="left")
            result[row] = np.append(precision, 0.0)[at].mean()
        return result


def draws(images: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns (resamples, images) int: how often each draw contains each image."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples)


def ratio_intervals(
    numerators: np.ndarray, denominators: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Returns the intervals of ratios of two sums over images: means, shares, recalls.

    Args:
        numerators: (I, S), one column per score.
        denominators: (I,) or (I, S).
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        One (low, high) per score; NaN if a denominator is zero in every draw.
    """
    numerators = np.asarray(numerators, float)
    denominators = np.broadcast_to(np.asarray(denominators, float).reshape(len(numerators), -1), numerators.shape)
    weights = draws(len(numerators), resamples=resamples, seed=seed)
    above, below = weights @ numerators, weights @ denominators  # (draws, S)
    columns = range(numerators.shape[1])
    return [_percentiles((above[below[:, s] > 0, s] / below[below[:, s] > 0, s])[:, None])[0] for s in columns]


def known_mean(values: Sequence[float] | np.ndarray) -> float:
    """Returns the mean of the values that are not NaN; NaN if there are none."""
    array = np.asarray(values, float)
    known = array[~np.isnan(array)]
    return float(known.mean()) if known.size else float("nan")


def mean_interval(values: Sequence[float] | np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Returns the interval of a mean over images; images whose value is NaN are left out."""
    array = np.asarray(values, float)
    known = ~np.isnan(array)
    return ratio_intervals(np.where(known, array, 0.0)[:, None], known, resamples=resamples, seed=seed)[0]


def precision_intervals(
    classes: Sequence[Detections], groups: Sequence[Sequence[int]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Returns the intervals of average precision, the mean over the classes that have objects in the draw.

    Args:
        classes: one per class, `AveragePrecision.detections()`.
        groups: for each score, the positions of its thresholds in COCO's list: [[0], range(10)] for AP50 and AP.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        One (low, high) per group; NaN if there are no objects.
    """
    thresholds = sorted({t for group in groups for t in group})
    weights = draws(len(classes[0].truths), resamples=resamples, seed=seed)
    sums, counts = np.zeros((len(weights), len(thresholds))), np.zeros((len(weights), 1))
    for detections in classes:
        values = np.array([detections.average_precision(w, thresholds) for w in weights])  # (draws, thresholds)
        known = ~np.isnan(values[:, :1])
        sums += np.where(known, values, 0.0)
        counts += known
    drawn = counts[:, 0] > 0
    means = sums[drawn] / counts[drawn]  # (draws, thresholds)
    columns = [[thresholds.index(t) for t in group] for group in groups]
    return _percentiles(np.stack([means[:, c].mean(axis=1) for c in columns], axis=1))


def _percentiles(values: np.ndarray) -> list[Interval]:
    """Returns the (low, high) of each column of (draws, statistics)."""
    if len(values) == 0:
        return [(float("nan"), float("nan"))] * values.shape[1]
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
