"""What single predictions and images say: precision and recall, confusions, calibration, and the worst images."""

import dataclasses
import heapq
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import VOID, Sample
from rsis_tf.evaluation.metrics.coco_matching import mask_ious, overlaps
from rsis_tf.evaluation.scoring import image_scores

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

IOU = 0.5
"""A prediction finds an object if their IoU is at least this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions with an objectness in one range: their number, mean objectness, and the share that find an object."""

    count: int
    objectness: float
    right: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstImage:
    """An image with its predictions, its SBD, and the number of objects found minus that of the truth."""

    sample: Sample
    instances: "tuple[Instance, ...]"
    sbd: float
    dic: float


class Details:
    """Collects the predictions of a dataset; a sink of `predict_dataset`.

    In each image, predictions take objects in the order of their scores: each the object with the largest IoU, of at
    least `IOU`, that no other has taken, whatever its class. Void pixels of the truth are ignored.

    Args:
        class_names: K names, the first of them the background.
        worst: number of images to keep.

    Attributes:
        confusion: (K, K) int, objects by true class (rows) and predicted class (columns). Row 0 counts predictions
            without an object, column 0 objects that were not found.
    """

    def __init__(self, class_names: Sequence[str], *, worst: int = 8) -> None:
        self.class_names = tuple(class_names)
        self.confusion = np.zeros((len(class_names), len(class_names)), np.int64)
        self._worst = worst
        self._images: list[tuple[float, int, WorstImage]] = []  # a heap, the best of the worst first
        self._count = 0
        self._rows: list[tuple[float, float, bool, bool]] = []  # score, objectness, found an object, of its class

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        overlap = overlaps(instances, sample.label_map, len(sample.classes))  # (P, n + 2)
        only_void = (overlap[:, VOID + 1] > 0) & (overlap[:, VOID + 2 :].sum(axis=1) == 0)  # neither right nor wrong
        instances = [instance for instance, void in zip(instances, only_void, strict=True) if not void]
        matched = match(sample, instances)  # (P,)
        classes = np.asarray(sample.classes, np.int64)
        for instance, number in zip(instances, matched, strict=True):
            true = int(classes[number]) if number >= 0 else 0
            self.confusion[true, instance.class_id] += 1
            self._rows.append((instance.score, instance.objectness, number >= 0, true == instance.class_id))
        visible = np.isin(np.arange(1, len(classes) + 1), sample.label_map)
        missed = visible & ~np.isin(np.arange(len(classes)), matched)
        np.add.at(self.confusion[:, 0], classes[missed], 1)
        self._keep(sample, instances)

    def _keep(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        scores = image_scores(instances, sample.label_map)
        if math.isnan(scores["sbd"]):  # an image without annotations is not a bad one
            return
        image = WorstImage(sample=sample, instances=tuple(instances), sbd=scores["sbd"], dic=scores["dic"])
        self._count += 1
        heapq.heappush(self._images, (-image.sbd, -self._count, image))
        if len(self._images) > self._worst:
            heapq.heappop(self._images)

    @property
    def worst(self) -> list[WorstImage]:
        """The images with the lowest SBD, the worst first; images that are equally bad in the dataset's order."""
        return [image for _, _, image in sorted(self._images, key=lambda entry: entry[:2], reverse=True)]

    def precision_and_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the precision and recall of the n best predictions of all classes, for n = 1, 2, …: each (P,)."""
        rows = sorted(self._rows, key=lambda row: -row[0])
        right = np.cumsum([row[3] for row in rows], dtype=float)
        objects = self.confusion[1:].sum()
        return right / np.arange(1, len(rows) + 1), right / max(1, objects)

    def calibration(self, bins: int = 10) -> list[Bin]:
        """Returns the ranges of objectness, of equal width in 0 … 1, that hold a prediction."""
        objectness = np.array([row[1] for row in self._rows])
        right = np.array([row[2] for row in self._rows], float)
        place = np.minimum((objectness * bins).astype(int), bins - 1)
        groups = [place == number for number in range(bins)]
        return [
            Bin(count=int(group.sum()), objectness=float(objectness[group].mean()), right=float(right[group].mean()))
            for group in groups
            if group.any()
        ]

    def calibration_error(self) -> float:
        """Returns the mean difference of objectness and share over the ranges, by number of predictions; NaN if none.

        Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599 (expected calibration error).
        """
        bins = self.calibration()
        total = sum(entry.count for entry in bins)
        return sum(e.count * abs(e.objectness - e.right) for e in bins) / total if total else float("nan")


def match(sample: Sample, instances: "Sequence[Instance]") -> np.ndarray:
    """Returns (P,) int: the number of the object, from 0, that each prediction found, and −1 for none."""
    count = len(sample.classes)
    overlap = overlaps(instances, sample.label_map, count)  # (P, n + 2)
    areas = overlap.sum(axis=1) - overlap[:, VOID + 1]
    truth = np.bincount(sample.label_map.ravel() + 1, minlength=count + 2)[2:]
    ious = mask_ious(overlap[:, 2:], areas, truth, np.zeros(count, bool))  # (P, n)
    matched = np.full(len(instances), -1)
    for number in sorted(range(len(instances)), key=lambda number: -instances[number].score):
        if count and ious[number].max() >= IOU:
            matched[number] = ious[number].argmax()
            ious[:, matched[number]] = -1.0
    return matched
