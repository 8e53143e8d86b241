"""COCO's matching of predictions with objects, by pycocotools, one image at a time and with given IoUs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

    from rsis_tf.runtime import Instance

RECALL_THRESHOLDS = {"ar50": 0.5, "ar70": 0.7, "ar85": 0.85}
"""Name → IoU at which average recall is measured (paper, table 4)."""
MAX_DETECTIONS = 100
"""Predictions of one class and image that COCO counts."""
_EVERY_AREA = (0.0, 1e10)


def overlaps(instances: "Sequence[Instance]", truth: np.ndarray, objects: int) -> np.ndarray:
    """Returns (P, objects + 2): the pixels of each prediction on void, on the background and on each object.

    Args:
        instances: predictions, with masks (H, W) bool.
        truth: (H, W) integer label map: 0 background, 1 … n objects, `VOID`.
        objects: n.
    """
    masks = [instance.cropped for instance in instances]
    rows = [np.bincount(truth[mask.window][mask.crop] + 1, minlength=objects + 2) for mask in masks]
    return np.asarray(rows, np.int64).reshape(-1, objects + 2)


def new_evaluation(num_classes: int, proposals: Sequence[int], *, agnostic: bool = False) -> "COCOeval":
    """Returns pycocotools' evaluation, set up for objects of all sizes.

    Args:
        num_classes: K, the background included.
        proposals: increasing numbers of predictions per image.
        agnostic: treat all classes as one, and measure recall at `RECALL_THRESHOLDS` with each number of proposals; if
            false, measure precision at COCO's thresholds.
    """
    from pycocotools.cocoeval import COCOeval  # an extra that a base install does not have

    coco = COCOeval(iouType="segm")
    coco.params.catIds = list(range(1, num_classes))
    coco.params.areaRng, coco.params.areaRngLbl = [_EVERY_AREA], ["all"]
    coco.params.maxDets = [max(MAX_DETECTIONS, *proposals)]
    if agnostic:
        coco.params.useCats = 0
        coco.params.iouThrs = np.array(list(RECALL_THRESHOLDS.values()))
        coco.params.maxDets = list(proposals)
    return coco


def match(
    coco: "COCOeval",
    category: int,
    found: Sequence[Mapping[str, float]],
    truths: Sequence[Mapping[str, float]],
    ious: np.ndarray,
) -> dict[str, np.ndarray] | None:
    """Runs COCO's matching on one image and keeps what `accumulate` reads of the result."""
    order = np.argsort([-d["score"] for d in found], kind="stable")[: coco.params.maxDets[-1]]
    key = (0, category if coco.params.useCats else -1)
    coco._gts[0, category], coco._dts[0, category] = truths, found
    coco.ious[key] = ious[order] if len(found) and len(truths) else []
    result = coco.evaluateImg(0, key[1], _EVERY_AREA, coco.params.maxDets[-1])
    if result is None:
        return None
    return {
        "dtScores": np.asarray(result["dtScores"], float),  # (D,)
        "dtMatches": np.asarray(result["dtMatches"]) > 0,  # (thresholds, D)
        "dtIgnore": np.asarray(result["dtIgnore"], bool),  # (thresholds, D)
        "gtIgnore": np.asarray(result["gtIgnore"], bool),  # (N,)
    }


def mask_ious(overlap: np.ndarray, areas: np.ndarray, truth_areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns (P, N) IoU. For a crowd, the area of the prediction takes the place of the union, as in pycocotools."""
    union = areas[:, None] + truth_areas[None, :] - overlap
    union = np.where(crowd[None, :], areas[:, None], union)
    return overlap / np.maximum(union, 1)
