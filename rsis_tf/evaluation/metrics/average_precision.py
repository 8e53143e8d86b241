"""COCO average precision and class-agnostic average recall for masks, one picture at a time (paper, tables 3 and 4).

pycocotools decides which prediction meets which object (`COCOeval.evaluateImg`) and makes the curves
(`COCOeval.accumulate`). Only the IoUs it is handed are computed here, from label maps: whole pixel counts, so the
same numbers as from run-length codes, and nothing of a picture is kept but which of its predictions matched.
"""

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.bootstrap import Detections

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

    from rsis_tf.runtime import Instance

AP_THRESHOLDS = {"ap50": 0, "ap60": 2, "ap70": 4, "ap75": 5, "ap80": 6}
"""Place of each reported IoU in COCO's thresholds, .50, .55 … .95."""
RECALL_THRESHOLDS = {"ar50": 0.5, "ar70": 0.7, "ar85": 0.85}
PROPOSALS = (10, 50)
MAX_DETECTIONS = 100
_EVERY_AREA = (0.0, 1e10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionScores:
    """Fractions 0 … 1; NaN where there is no object to find (pycocotools says −1).

    Attributes:
        mean: "ap" (mean over IoU .50:.05:.95), "ap50", "ap60", "ap70", "ap75", "ap80", each the mean over the classes
            that have objects.
        per_class: class name → the same keys, and "objects".
        recall: "ar50@10" … "ar85@50": share of objects that one of the 10 or 50 best predictions of their picture
            meets at IoU .5, .7, .85, whatever the classes; other numbers with other `proposals`.
    """

    mean: dict[str, float]
    per_class: dict[str, dict[str, float]]
    recall: dict[str, float]


class AveragePrecision:
    """Takes pictures one by one, then gives AP; a few bytes per prediction are kept, no mask.

    The order in which pictures are added does not matter: predictions of equal score are ranked by image id, then
    by their place in the sequence.

    Args:
        class_names: K names, the first of them "background".
        remove_void: take pixels that are `VOID` in the truth away from predictions, as the original does; a
            prediction of nothing but such pixels is left out. If false they count as background.
        every_class: let each mask stand for all K−1 classes, with score class probability × objectness, as the
            original's evaluation does; if false it stands for its best class alone.
        min_share: masks under this share of the picture are left out (original: 0.001).
        proposals: numbers of predictions of an image at which recall is measured, rising. AP takes the best
            `MAX_DETECTIONS` of each class, or the last of these if it is more, as `-max_dets` of the original does.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        remove_void: bool = True,
        every_class: bool = False,
        min_share: float = 0.0,
        proposals: Sequence[int] = PROPOSALS,
    ) -> None:
        self.class_names = tuple(class_names)
        self._remove_void = remove_void
        self._every_class = every_class
        self._min_share = min_share
        self._proposals = tuple(proposals)
        self._matches: dict[str | int, list[dict | None]] = {}  # image id → per class, then all classes as one
        self._coco()  # without pycocotools this fails now and not after a whole prediction

    def add(
        self,
        image_id: str | int,
        instances: Sequence["Instance"],
        truth: np.ndarray,
        classes: np.ndarray,
        *,
        crowd: np.ndarray | None = None,
    ) -> None:
        """Matches the predictions of one picture.

        Args:
            image_id: unique in the dataset.
            instances: predictions, with masks (H, W) bool.
            truth: (H, W) integer label map: 0 background, 1 … n objects, `VOID`.
            classes: (n,) class of each object, 1 … K−1. Objects without a pixel are left out: nothing can meet them.
            crowd: (n,) bool, COCO's `iscrowd`: predictions that lie in such an object are neither right nor wrong.

        Raises:
            InputError: if an id comes twice, shapes differ, or a class or label does not exist.
        """
        truth, classes = np.asarray(truth), np.asarray(classes, np.int64).reshape(-1)
        crowd = np.zeros(len(classes), bool) if crowd is None else np.asarray(crowd, bool)
        self._check(image_id, instances, truth, classes, crowd)

        counts = np.bincount(truth.ravel() + 1, minlength=len(classes) + 2)  # void, background, objects
        seen = counts[2:] > 0  # (n,)
        overlaps = [np.bincount(truth[i.mask] + 1, minlength=len(classes) + 2) for i in instances]
        overlap = np.asarray(overlaps, np.int64).reshape(-1, len(classes) + 2)  # (P, n + 2)
        areas = overlap.sum(axis=1)  # (P,)
        kept = np.ones(len(instances), bool)
        if self._remove_void:
            kept &= (areas == 0) | (areas > overlap[:, 0])
            areas = areas - overlap[:, 0]
        kept &= areas >= self._min_share * truth.size

        instances = [instance for instance, keep in zip(instances, kept, strict=True) if keep]
        truth_areas, crowd = counts[2:][seen], crowd[seen]
        ious = _ious(overlap[kept, 2:][:, seen], areas[kept], truth_areas, crowd)  # (P, N)
        rows, class_ids, scores = self._detections(instances)
        self._matches[image_id] = self._match(ious[rows], class_ids, scores, classes[seen], crowd)

    def summarize(self) -> PrecisionScores:
        """Returns AP over all pictures added."""
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
                f"{name}@{limit}": float("nan") if best[t, m] < 0 else float(best[t, m])
                for m, limit in enumerate(self._proposals)
                for t, name in enumerate(RECALL_THRESHOLDS)
            },
        )

    def detections(self) -> list[Detections]:
        """Returns per class what the curves are made of, for resampling over pictures (images sorted by id)."""
        return [self._detections_of(k) for k in range(len(self.class_names) - 1)]

    def recalled(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns per picture the objects met, (I, 3 · M) in the order of `recall`, and the objects there are, (I,)."""
        records = [self._matches[image_id][-1] for image_id in sorted(self._matches)]
        met = np.zeros((len(records), len(self._proposals), len(RECALL_THRESHOLDS)), int)
        objects = np.zeros(len(records), int)
        for i, record in enumerate(records):
            if record is not None:
                right = record["dtMatches"] & ~record["dtIgnore"]  # (3, D)
                met[i] = [right[:, :limit].sum(axis=1) for limit in self._proposals]
                objects[i] = np.count_nonzero(~record["gtIgnore"])
        return met.reshape(len(records), -1), objects

    def _check(self, image_id, instances, truth, classes, crowd) -> None:
        if image_id in self._matches:
            raise InputError(f"each picture is evaluated once. Received: {image_id!r} again")
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
            if instance.mask.shape != truth.shape or instance.mask.dtype != bool:
                raise InputError(
                    f"masks must be boolean, of the shape of the truth, {truth.shape}. "
                    f"Received: {instance.mask.dtype} {instance.mask.shape} in {image_id!r}"
                )

    def _detections(self, instances: Sequence["Instance"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns of each detection the row of its mask, its class and its score, each (D,)."""
        if not self._every_class:
            rows = np.arange(len(instances))
            return rows, np.array([i.class_id for i in instances], int), np.array([i.score for i in instances], float)
        others = len(self.class_names) - 1
        probs = np.array([np.float64(i.objectness) * i.class_probs[1:] for i in instances]).reshape(-1, others)
        return np.repeat(np.arange(len(instances)), others), np.tile(np.arange(others) + 1, len(probs)), probs.ravel()

    def _match(self, ious, class_ids, scores, classes, crowd) -> list[dict | None]:
        truths = [{"id": 1 + i, "area": 1, "ignore": bool(c), "iscrowd": int(c)} for i, c in enumerate(crowd)]
        found = [{"id": 1 + i, "area": 1, "score": float(s)} for i, s in enumerate(scores)]
        precision, recall = self._coco(), self._coco(agnostic=True)
        matches = []
        for k in range(1, len(self.class_names)):
            mine, theirs = np.flatnonzero(class_ids == k), np.flatnonzero(classes == k)
            chosen = [found[i] for i in mine], [truths[i] for i in theirs]
            matches.append(_evaluate(precision, k, *chosen, ious[mine][:, theirs]))
        # COCOeval wants every detection under a category; the last call looks at all of them as one.
        matches.append(_evaluate(recall, 1, found, truths, ious))
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
        from pycocotools.cocoeval import COCOeval  # here, so that commands can say what to install

        coco = COCOeval(iouType="segm")
        coco.params.catIds = list(range(1, len(self.class_names)))
        coco.params.areaRng, coco.params.areaRngLbl = [_EVERY_AREA], ["all"]
        coco.params.maxDets = [max(MAX_DETECTIONS, *self._proposals)]
        if agnostic:
            coco.params.useCats = 0
            coco.params.iouThrs = np.array(list(RECALL_THRESHOLDS.values()))
            coco.params.maxDets = list(self._proposals)
        return coco


def _evaluate(coco: "COCOeval", category: int, found: list[dict], truths: list[dict], ious: np.ndarray) -> dict | None:
    """Runs COCO's matching on one picture and keeps what `accumulate` reads of it."""
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


def _ious(overlap: np.ndarray, areas: np.ndarray, truth_areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns (P, N) IoU; for a crowd the union is the prediction alone, as in pycocotools."""
    union = areas[:, None] + truth_areas[None, :] - overlap
    union = np.where(crowd[None, :], areas[:, None], union)
    return overlap / np.maximum(union, 1)


def _by_threshold(precision: np.ndarray) -> dict[str, float]:
    """Means over the classes that have objects: (10, classes) → "ap", "ap50" …"""
    precision = precision[:, ~np.isnan(precision[0])]
    if precision.shape[1] == 0:
        return dict.fromkeys(("ap", *AP_THRESHOLDS), float("nan"))
    return {"ap": float(precision.mean()), **{name: float(precision[t].mean()) for name, t in AP_THRESHOLDS.items()}}
