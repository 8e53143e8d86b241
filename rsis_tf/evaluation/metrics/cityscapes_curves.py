"""Cityscapes' average precision, with bootstrap intervals over images.

Source: `evalInstanceLevelSemanticLabeling.py` of cityscapesScripts. The official function visits all images for each
number, which is too slow for a thousand draws. Here the points that an image adds to a curve are collected once, by the
same rules, and each draw counts them as often as it contains the image. If every image counts once, the result equals
the official number; a test compares them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rsis_tf.evaluation.metrics.bootstrap import Interval, draws


def ap_intervals(
    matches: dict[str, Any],
    arguments: Any,
    scores: dict[str, tuple[int, Sequence[int]]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Returns the 95 % interval of each score.

    Args:
        matches: the result of `matchGtWithPreds`, image by image.
        arguments: of the official functions.
        scores: name → (position of its distance, positions of its overlaps).
        resamples: number of draws.
        seed: seed of the draws.
    """
    weights = draws(len(matches), resamples=resamples, seed=seed)
    result = {}
    curves: dict[tuple[int, int], np.ndarray] = {}
    for name, (distance, overlaps) in scores.items():
        for overlap in overlaps:
            if (distance, overlap) not in curves:
                curves[distance, overlap] = np.array(
                    [
                        average_precisions(curve_points(matches, arguments, label, distance, overlap), weights)
                        for label in arguments.instLabels
                    ]
                )  # (classes, draws)
        values = np.stack([curves[distance, overlap] for overlap in overlaps])  # (overlaps, classes, draws)
        known = ~np.isnan(values)
        drawn = known.any(axis=(0, 1))
        sums = np.where(known, values, 0.0).sum(axis=(0, 1))[drawn]
        means = sums / known.sum(axis=(0, 1))[drawn]
        low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (np.nan, np.nan)
        result[name] = float(low), float(high)
    return result


def ap_matrix(matches: dict[str, Any], arguments: Any) -> np.ndarray:
    """Returns average precision, (distances, classes, overlaps), each image counted once; NaN for no objects."""
    once = np.ones((1, len(matches)), int)
    values = [
        [
            [
                average_precisions(curve_points(matches, arguments, label, distance, overlap), once)[0]
                for overlap in range(len(arguments.overlaps))
            ]
            for label in arguments.instLabels
        ]
        for distance in range(len(arguments.distanceThs) if arguments.distanceAvailable else 1)
    ]
    return np.array(values)


def curve_points(
    matches: dict[str, Any], arguments: Any, label: str, distance: int, overlap: int
) -> dict[str, np.ndarray]:
    """Collects the points that each image adds to the curve of one class at one distance and overlap.

    Returns:
        "image", "score" and "right" of each point, (P,); "missed", "objects" and "predictions" of each image, (I,).
    """
    threshold, smallest = arguments.overlaps[overlap], arguments.minRegionSizes[distance]
    farthest, densest = arguments.distanceThs[distance], arguments.distanceConfs[distance]

    def counts(true: dict[str, Any]) -> bool:
        near = true["medDist"] <= farthest and true["distConf"] >= densest
        return true["pixelCount"] >= smallest and near

    points: list[tuple[int, float, bool]] = []
    per_image = np.zeros((3, len(matches)), int)
    for i, image_matches in enumerate(matches.values()):
        found = image_matches["prediction"][label]
        objects = [true for true in image_matches["groundTruth"][label] if true["instID"] >= 1000 and counts(true)]
        per_image[1:, i] = len(objects), len(found)
        for true in objects:
            confidences = sorted(p["confidence"] for p in true["matchedPred"] if _iou(true, p, p) > threshold)
            if not confidences:
                per_image[0, i] += 1
                continue
            points.append((i, confidences[-1], True))
            points += [(i, confidence, False) for confidence in confidences[:-1]]
        for prediction in found:
            touched = prediction["matchedGt"]
            if any(_iou(true, prediction, true) > threshold for true in touched):
                continue
            ignored = prediction["voidIntersection"] + sum(_ignored(touched, counts))
            if ignored / prediction["pixelCount"] <= threshold:
                points.append((i, prediction["confidence"], False))
    image, score, right = zip(*points, strict=True) if points else ((), (), ())
    return {
        "image": np.array(image, int),
        "score": np.array(score, float),
        "right": np.array(right, bool),
        **dict(zip(("missed", "objects", "predictions"), per_image, strict=True)),
    }


def average_precisions(points: dict[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Returns the average precision of each draw, (draws,); NaN for draws without objects.

    Args:
        points: result of `curve_points`.
        weights: (draws, I) int, how often each image counts.
    """
    order = np.argsort(points["score"], kind="stable")
    image, score, right = points["image"][order], points["score"][order], points["right"][order]
    starts = np.flatnonzero(np.diff(score, prepend=np.nan) != 0)  # (S,) the first point of each score
    result = np.full(len(weights), np.nan)
    for draw, weight in enumerate(weights):
        if weight @ points["objects"] == 0:
            continue
        if weight @ points["predictions"] == 0 or not (weight[image] > 0).any():
            result[draw] = 0.0
            continue
        count = weight[image]
        # Number of points from each score upwards: all points, and the right ones.
        kept = np.cumsum(count[::-1])[::-1][starts]  # (S,)
        hits = np.cumsum((count * right)[::-1])[::-1][starts]  # (S,)
        total = hits[0] + weight @ points["missed"]
        used = np.append(np.diff(kept) != 0, True) & (kept > 0)  # leaves out scores of images that were not drawn
        precision = np.append(hits[used] / kept[used], 1.0)
        recall = np.append(hits[used] / max(total, 1), 0.0)
        # As in the official code, each point is weighted with half the distance between its two neighbours.
        ends = np.concatenate([recall[:1], recall, [0.0]])
        result[draw] = precision @ ((ends[:-2] - ends[2:]) / 2)
    return result


def _iou(true: dict[str, Any], prediction: dict[str, Any], pair: dict[str, Any]) -> float:
    return pair["intersection"] / (true["pixelCount"] + prediction["pixelCount"] - pair["intersection"])


def _ignored(touched: Iterable[dict[str, Any]], counts: Any) -> Iterable[int]:
    """Yields the pixels on groups and on objects that do not count; one that is both counts twice, as officially."""
    for true in touched:
        yield true["intersection"] * ((true["instID"] < 1000) + (not counts(true)))
