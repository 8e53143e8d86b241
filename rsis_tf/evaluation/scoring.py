"""Scores a predictor on a dataset: average precision and recall, best Dice, counting errors, with intervals."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsis_tf.data.sample import VOID, Dataset, Sample
from rsis_tf.evaluation.json_values import plain
from rsis_tf.evaluation.metrics import leaves
from rsis_tf.evaluation.metrics.average_precision import PRECISION_SCORES, AveragePrecision
from rsis_tf.evaluation.metrics.bootstrap import RESAMPLES, Interval, known_mean, mean_interval
from rsis_tf.evaluation.metrics.table import SCORES, score
from rsis_tf.evaluation.predictions import Predictor, Progress, Sink, of_classes, predict_dataset
from rsis_tf.evaluation.protocols import PLAIN, Protocol
from rsis_tf.runtime import close_gaps

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

_IN_FRONT = ("ap", "ap50", "ap75")
"""Average precision that `metrics.json` holds beside the image scores; all but "ap" stand under "at" too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a model on a dataset; each is also an attribute, such as `scores.ap50`.

    Fractions are in 0 … 1. A value is NaN where there is nothing to measure.

    Attributes:
        precision: "ap", "ap50", "ap60", "ap70", "ap75", "ap80": COCO average precision of masks, mean over classes; the
            paper reports the IoUs .50, .60, .70 and .80.
        image_scores: name → mean over images, of the rows of `metrics.table` that have a function: "sbd" (an image
            without objects counts 0, as in the challenge), "abs_dic", "dic", "foreground_dice" (mean over the images
            where it is defined).
        recall: class-agnostic average recall, "ar50@10" … "ar85@50" (paper, table 4), or other numbers of `max_dets`.
        per_class: class name → "objects", "ap", "ap50" …
        intervals: name of each score above → 95 % bootstrap interval over images.
        images, objects, predictions: their numbers.
        seconds_per_image: mean time in the predictor.
    """

    precision: dict[str, float]
    image_scores: dict[str, float]
    recall: dict[str, float]
    per_class: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    images: int
    objects: int
    predictions: int
    seconds_per_image: float

    @property
    def values(self) -> dict[str, float]:
        """Name → value of every score, in the order of the tables."""
        return {**self.precision, **self.image_scores, **self.recall}

    def __getattr__(self, name: str) -> float:
        # Python calls this for names that are no fields; `copy` and `pickle` ask for some before the fields are set.
        if not name.startswith("_") and "recall" in self.__dict__ and name in self.values:
            return self.values[name]
        raise AttributeError(f"Scores has the scores {', '.join(SCORES)}. Received: {name}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, in the layout of `metrics.json`, with None for NaN."""
        return plain(
            {
                **{name: self.precision[name] for name in _IN_FRONT},
                **self.image_scores,
                "images": self.images,
                "objects": self.objects,
                "predictions": self.predictions,
                "seconds_per_image": self.seconds_per_image,
                "at": {name: value for name, value in self.precision.items() if name != "ap"},
                "recall": self.recall,
                "per_class": self.per_class,
                "intervals": self.intervals,
            }
        )


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    sinks: Sequence[Sink] = (),
    classes: frozenset[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    protocol: Protocol = PLAIN,
) -> Scores:
    """Predicts every image at its own size and scores the predictions; masks are not kept.

    Masks of one image may overlap. Average precision takes them as they are; the image scores take the label map in
    which the earliest step keeps a pixel, or the latest if the protocol says so (`leaves.label_map`). Void pixels are
    removed from predictions.

    Args:
        predictor: maps images to instances; should follow the protocol too (`protocol_masks.follow`).
        dataset: samples at their own size, image ids unique.
        progress: called after each image.
        sinks: each is called with (sample, instances) after each image; with `every_class` and `classes`, the instances
            include those whose best class is another one.
        classes: ids of the classes to score, see `predictions.only_classes`; None for all.
        resamples: number of bootstrap draws for the intervals.
        seed: seed of the draws.
        protocol: `every_class`, `min_size` and `max_dets` apply to average precision and recall, `overlap` to the label
            map.

    Raises:
        InputError: if the dataset is empty or its classes are not the predictor's.
    """
    precision = AveragePrecision.of_protocol(dataset.class_names, protocol, classes=classes)
    image_values: dict[str, list[float]] = {name: [] for name, row in SCORES.items() if row.function}
    counts: list[tuple[int, int]] = []

    def add(sample: Sample, instances: "Sequence[Instance]") -> None:
        precision.add(sample.image_id, instances, sample.label_map, sample.classes)
        instances = of_classes(instances, classes)
        for name, value in image_scores(instances, sample.label_map, overlap=protocol.overlap).items():
            image_values[name].append(value)
        counts.append((len(sample.classes), len(instances)))

    seconds = predict_dataset(
        predictor, dataset, [add, *sinks], progress=progress, classes=classes, every_class=protocol.every_class
    )
    objects, predictions = (sum(column) for column in zip(*counts, strict=True))
    summary = precision.summarize()
    scored = [name for k, name in enumerate(dataset.class_names) if k > 0 and (classes is None or k in classes)]
    return Scores(
        precision=summary.mean,
        image_scores={name: known_mean(values) for name, values in image_values.items()},
        recall=summary.recall,
        per_class={name: summary.per_class[name] for name in scored},
        intervals={
            **precision.precision_intervals(tuple(PRECISION_SCORES), resamples=resamples, seed=seed),
            **{name: mean_interval(values, resamples=resamples, seed=seed) for name, values in image_values.items()},
            **precision.recall_intervals(resamples=resamples, seed=seed),
        },
        images=len(counts),
        objects=objects,
        predictions=predictions,
        seconds_per_image=seconds / len(counts),
    )


def image_scores(instances: "Sequence[Instance]", truth: np.ndarray, *, overlap: str = "earliest") -> dict[str, float]:
    """Returns the scores of one image by name: the rows of `metrics.table` that have a function.

    Args:
        instances: predictions, masks (H, W) bool.
        truth: (H, W) int label map. `VOID` pixels are background in it and in the prediction. Objects without a visible
            pixel are left out: the leaf challenge would count their unused ids. If all pixels are void, as in test
            images without annotations, the scores are NaN.
        overlap: "earliest" or "latest", see `leaves.label_map`.
    """
    void = truth == VOID
    if void.all():
        return {name: float("nan") for name, row in SCORES.items() if row.function}
    prediction = leaves.label_map(instances, truth.shape, void=void, overlap=overlap)
    truth = close_gaps(np.where(void, 0, truth), int(truth.max(initial=0)))[0]
    return {name: row.function(prediction, truth) for name, row in SCORES.items() if row.function}


def table(scores: Scores) -> str:
    """Returns the scores as text for the screen."""
    head = f"{scores.images} images, {scores.objects} objects, {scores.predictions} predictions"
    lines = [f"{head}, {1000 * scores.seconds_per_image:.1f} ms per image", ""]
    lines.append(f"{'score':<16}{'value':>8}   95 % interval over images")
    for name, value in scores.values.items():
        row, (low, high) = score(name), scores.intervals[name]
        lines.append(f"{row.title:<16}{row.text(value):>8}   {row.text(low)} … {row.text(high)}")
    width = max(len("class"), *map(len, scores.per_class)) + 2
    columns = [score(name) for name in ("ap", "ap50", "ap75")]
    lines += ["", f"{'class':<{width}}{'objects':>8}" + "".join(f"{column.title:>8}" for column in columns)]
    for name, values in scores.per_class.items():
        cells = "".join(f"{column.text(values[column.name]):>8}" for column in columns)
        lines.append(f"{name:<{width}}{values['objects']:>8}{cells}")
    return "\n".join(lines)
