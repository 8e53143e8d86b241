"""COCO average precision and class-agnostic average recall of masks, one image at a time (paper, tables 3 and 4).

Source: Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312, and its evaluation in pycocotools.
pycocotools matches predictions with objects (`COCOeval.evaluateImg`) and computes the curves (`COCOeval.accumulate`).
Only the IoUs that it needs are computed here, from label maps. They are ratios of pixel counts, so they equal those
of run-length codes, and of each image only the matches have to be kept.
"""

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics import coco_matching
from rsis_tf.evaluation.metrics.bootstrap import RESAMPLES, Detections, Interval, precision_intervals, ratio_intervals
from rsis_tf.evaluation.metrics.coco_matching import RECALL_THRESHOLDS, overlaps
from rsis_tf.evaluation.protocols import Protocol

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

    from rsis_tf.runtime import Instance

PRECISION_SCORES = {
    "ap": slice(0, 10),
    "ap50": slice(0, 1),
    "ap60": slice(2, 3),
    "ap70": slice(4, 5),
    "ap75": slice(5, 6),
    "ap80": slice(6, 7),
}
"""Score → the part of COCO's ten IoU thresholds, .50, .55 … .95, that it is the mean over."""
PROPOSALS = (10, 50)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionScores:
    """Fractions in 0 … 1; NaN where there are no objects (pycocotools returns −1).

    Attributes:
        mean: the scores of `PRECISION_SCORES`, each the mean over the classes that have objects.
        per_class: class name → the same keys, and "objects".
        recall: "ar50@10" … "ar85@50": share of the objects that are matched by one of the 10 or 50 best predictions of
            their image at IoU .5, .7 or .85, whatever the classes; other numbers with other `proposals`.
    """

    mean: dict[str, float]
    per_class: dict[str, dict[str, float]]
    recall: dict[str, float]


class AveragePrecision:
    """Collects the matches of one image after the other, then computes AP and recall. Masks are not kept.

    The order of the images does not matter: predictions with equal scores are ranked by image id, then by step.

    Args:
        class_names: K names, the first of them "background".
        remove_void: remove pixels that are `VOID` in the truth from predictions, as the original does, and drop
            predictions that consist of such pixels alone. If false, they count as background.
        every_class: count each mask once for each of the K−1 classes, with score class probability × objectness, as
            the original's evaluation does; if false, count it for its best class only.
        classes: ids of the classes for which masks are counted; None for all.
        min_share: drop masks that cover less than this share of the image (original: 0.001).
        proposals: increasing numbers of predictions per image at which recall is measured. AP takes the best
            `coco_matching.MAX_DETECTIONS` of each class, or the last of these numbers if it is larger, like
            `-max_dets` of the original.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        remove_void: bool = True,
        every_class: bool = False,
        classes: frozenset[int] | None = None,
        min_share: float = 0.0,
        proposals: Sequence[int] = PROPOSALS,
    ) -> None:
        self.class_names = tuple(class_names)
        self._remove_void = remove_void
        self._every_class = every_class
        self._classes = classes
        self._min_share = min_share
        self._proposals = tuple(proposals)
        self._matches: dict[
            str | int, list[dict[str, np.ndarray] | None]
        ] = {}  # image id → per class, then all classes as one
        self._coco()  # without pycocotools this fails here and not after the whole dataset was predicted

    @classmethod
    def of_protocol(
        cls, class_names: Sequence[str], protocol: Protocol, *, classes: frozenset[int] | None = None
    ) -> "AveragePrecision":
        """Returns one with the protocol's `every_class`, `min_size` and `max_dets`."""
        return cls(
            class_names,
            every_class=protocol.every_class,
            classes=classes,
            min_share=protocol.min_size,
            proposals=protocol.max_dets,
        )

    def add(
        self,
        image_id: str | int,
        instances: Sequence["Instance"],
        truth: np.ndarray,
        classes: np.ndarray,
        *,
        crowd: np.ndarray | None = None,
    ) -> None:
        """Matches the predictions of one image.

        Args:
            image_id: unique in the dataset.
            instances: predictions, with masks (H, W) bool.
            truth: (H, W) integer label map: 0 background, 1 … n objects, `VOID`.
            classes: (n,) class of each object, 1 … K−1. Objects without a pixel are left out.
            crowd: (n,) bool, COCO's `iscrowd`: predictions inside such an object count neither as right nor as wrong.

        Raises:
            InputError: if an id was added before, shapes differ, or a class or label does not exist.
        """
        truth, classes = np.asarray(truth), np.asarray(classes, np.int64).reshape(-1)
        crowd = np.zeros(len(classes), bool) if crowd is None else np.asarray(crowd, bool)
        self._check(image_id, instances, truth, classes, crowd)

        counts = np.bincount(truth.ravel() + 1, minlength=len(classes) + 2)  # void, background, objects
        seen = counts[2:] > 0  # (n,)
        overlap = overlaps(instances, truth, len(classes))  # (P, n + 2)
        areas = overlap.sum(axis=1)  # (P,)
        kept = np.ones(len(instances), bool)
        if self._remove_void:
            kept &= (areas == 0) | (areas > overlap[:, 0])
            areas = areas - overlap[:, 0]
        kept &= areas >= self._min_share * truth.size

        instances = [instance for instance, keep in zip(instances, kept, strict=True) if keep]
        truth_areas, crowd = counts[2:][seen], crowd[seen]
        ious = coco_matching.mask_ious(overlap[kept, 2:][:, seen], areas[kept], truth_areas, crowd)  # (P, N)
        rows, class_ids, scores = self._detections(instances)
        self._matches[image_id] = self._match(ious[rows], class_ids, scores, classes[seen], crowd)

    def summarize(self) -> PrecisionScores:
        """Returns AP and recall over all images added."""
        per_class, recall = self._accumulate(slice(0, -1)), self._accumulate(slice(-1, None))
        precision = per_class["precision"][..., 0, -1].mean(axis=1)  # (10, K − 1); −1 for a class without objects
        precision = np.where(precision < 0, np.nan, precision)
        names = self.class_names[1:]
        objects = [int(self._detections_of(k).truths.sum()) for k in range(len(names))]
        best = recall["recall"][:, 0, 0, :]  # (3, M)
        return PrecisionScores(
            mean=_by_threshold(precision),
            per_class={
                name: {"objects": objects[k], **_by_threshold(precision[:, [k]])} for k, name in enumerate(names)
            },
            recall={
                name: float("nan") if value < 0 else float(value)
                for name, value in zip(self._recall_names(), best.T.ravel(), strict=True)
            },
        )

    def detections(self) -> list[Detections]:
        """Returns the detections of each class, for resampling over images (sorted by id)."""
        return [self._detections_of(k) for k in range(len(self.class_names) - 1)]

    def precision_intervals(
        self, names: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
    ) -> dict[str, Interval]:
        """Returns the 95 % bootstrap interval over images of each named score of `PRECISION_SCORES`."""
        groups = [range(10)[PRECISION_SCORES[name]] for name in names]
        found = precision_intervals(self.detections(), groups, resamples=resamples, seed=seed)
        return dict(zip(names, found, strict=True))

    def recall_intervals(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval]:
        """Returns the 95 % bootstrap interval over images of each recall."""
        matched, objects = self._recalled()
        return dict(
            zip(self._recall_names(), ratio_intervals(matched, objects, resamples=resamples, seed=seed), strict=True)
        )

    def _recall_names(self) -> list[str]:
        return [f"{name}@{limit}" for limit in self._proposals for name in RECALL_THRESHOLDS]

    def _recalled(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the matched objects, (I, 3 · M) in the order of `_recall_names`, and all objects, (I,), per image."""
        records = [self._matches[image_id][-1] for image_id in sorted(self._matches)]
        matched = np.zeros((len(records), len(self._proposals), len(RECALL_THRESHOLDS)), int)
        objects = np.zeros(len(records), int)
        for i, record in enumerate(records):
            if record is not None:
                right = record["dtMatches"] & ~record["dtIgnore"]  # (3, D)
                matched[i] = [right[:, :limit].sum(axis=1) for limit in self._proposals]
                objects[i] = np.count_nonzero(~record["gtIgnore"])
        return matched.reshape(len(records), -1), objects

    def _check(
        self,
        image_id: str | int,
        instances: Sequence["Instance"],
        truth: np.ndarray,
        classes: np.ndarray,
        crowd: np.ndarray,
    ) -> None:
        if image_id in self._matches:
            raise InputError(f"each image is evaluated once. Received: {image_id!r} again")
        if truth.ndim != 2 or truth.dtype.kind not in "iu" or len(crowd) != len(classes):
            raise InputError(
                "expected an (H, W) integer label map, with one crowd flag for each class. "
                f"Received: {truth.dtype} {truth.shape}, {len(crowd)} flags, {len(classes)} classes for {image_id!r}"
            )
        if truth.size and (truth.min() < VOID or truth.max() > len(classes)):
            raise InputError(
                f"labels must be {VOID} … {len(classes)}, one class for each object. "
                f"Received: {truth.min()} … {truth.max()} in {image_id!r}"
            )
        for name, ids in (("objects", classes), ("predictions", [i.class_id for i in instances])):
            wrong = sorted({int(c) for c in ids if not 1 <= c < len(self.class_names)})
            if wrong:
                raise InputError(
                    f"{name} must have a class 1 … {len(self.class_names) - 1}. Received: {wrong} in {image_id!r}"
                )
        for instance in instances:
            mask = instance.cropped
            if mask.size != truth.shape or mask.crop.dtype != bool:
                raise InputError(
                    f"masks must be boolean, of the shape of the truth, {truth.shape}. "
                    f"Received: {mask.crop.dtype} {mask.size} in {image_id!r}"
                )

    def _detections(self, instances: Sequence["Instance"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the row of its mask, the class and the score of each detection, each (D,)."""
        rows = np.arange(len(instances))
        class_ids = np.array([i.class_id for i in instances], int)
        scores = np.array([i.score for i in instances], float)
        if self._every_class:
            others = len(self.class_names) - 1
            probs = np.array([np.float64(i.objectness) * i.class_probs[1:] for i in instances]).reshape(-1, others)
            rows, class_ids = np.repeat(rows, others), np.tile(np.arange(others) + 1, len(probs))
            scores = probs.ravel()
        if self._classes is not None:
            kept = np.isin(class_ids, sorted(self._classes))
            rows, class_ids, scores = rows[kept], class_ids[kept], scores[kept]
        return rows, class_ids, scores

    def _match(
        self,
        ious: np.ndarray,
        class_ids: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        crowd: np.ndarray,
    ) -> list[dict[str, np.ndarray] | None]:
        truths = [{"id": 1 + i, "area": 1, "ignore": bool(c), "iscrowd": int(c)} for i, c in enumerate(crowd)]
        found = [{"id": 1 + i, "area": 1, "score": float(s)} for i, s in enumerate(scores)]
        precision, recall = self._coco(), self._coco(agnostic=True)
        matches = []
        for k in range(1, len(self.class_names)):
            mine, theirs = np.flatnonzero(class_ids == k), np.flatnonzero(classes == k)
            chosen = [found[i] for i in mine], [truths[i] for i in theirs]
            matches.append(coco_matching.match(precision, k, *chosen, ious[mine][:, theirs]))
        # COCOeval expects a category for every detection; the last call treats all of them as one category.
        matches.append(coco_matching.match(recall, 1, found, truths, ious))
        return matches

    def _accumulate(self, part: slice) -> dict[str, np.ndarray]:
        agnostic = part.start == -1
        coco = self._coco(agnostic=agnostic)
        records = [self._matches[image_id] for image_id in sorted(self._matches)]
        coco.params.imgIds = list(range(len(records)))
        coco._paramsEval = coco.params
        coco.evalImgs = [record[k] for k in range(len(self.class_names))[part] for record in records]
        with contextlib.redirect_stdout(io.StringIO()):
            coco.accumulate()
        return coco.eval

    def _detections_of(self, k: int) -> Detections:
        records = [self._matches[image_id][k] for image_id in sorted(self._matches)]
        return Detections.of(records, len(self._coco().params.iouThrs))

    def _coco(self, *, agnostic: bool = False) -> "COCOeval":
        return coco_matching.new_evaluation(len(self.class_names), self._proposals, agnostic=agnostic)


def _by_threshold(precision: np.ndarray) -> dict[str, float]:
    """Averages (10, classes) over the classes that have objects and the thresholds of each of `PRECISION_SCORES`."""
    precision = precision[:, ~np.isnan(precision[0])]
    if precision.shape[1] == 0:
        return dict.fromkeys(PRECISION_SCORES, float("nan"))
    return {name: float(precision[thresholds].mean()) for name, thresholds in PRECISION_SCORES.items()}
