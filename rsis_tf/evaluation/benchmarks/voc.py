"""The paper's tables for Pascal VOC: AP at IoU .5, .6, .7 and .8 (table 3) and class-agnostic recall (table 4).

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (2010), and the original's `eval.py`, whose
protocol is "paper-voc": each mask counts for all classes, with score class probability × objectness; void pixels are
removed; masks that cover less than 0.1 % of the image are dropped; then COCO's evaluation.

As in the original, recall is measured over the same repeated masks. The ten best predictions of an image can be one
mask with ten class names, so recall with 50 proposals can be higher than with 10 although a sequence has ten steps.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsis_tf.data.sample import Dataset
from rsis_tf.evaluation.json_values import plain
from rsis_tf.evaluation.metrics.average_precision import AveragePrecision
from rsis_tf.evaluation.metrics.bootstrap import RESAMPLES, Interval
from rsis_tf.evaluation.metrics.coco_matching import RECALL_THRESHOLDS
from rsis_tf.evaluation.predictions import Predictor, Progress, Sink, predict_dataset
from rsis_tf.evaluation.protocols import PROTOCOLS, Protocol

PAPER = PROTOCOLS["paper-voc"]
REPORTED = ("ap50", "ap60", "ap70", "ap80")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocScores:
    """Fractions in 0 … 1; NaN where there are no objects.

    Attributes:
        mean: "ap50", "ap60", "ap70", "ap80", mean over classes.
        per_class: class name → the same keys, and "objects".
        recall: "ar50@10" … "ar85@50", or with the protocol's `max_dets`.
        intervals: 95 % bootstrap interval over images of each of `mean` and `recall`.
        images: number of images.
    """

    mean: dict[str, float]
    per_class: dict[str, dict[str, float]]
    recall: dict[str, float]
    intervals: dict[str, Interval]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return plain(dataclasses.asdict(self))


def evaluate_voc(
    predictor: Predictor,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
    sinks: Sequence[Sink] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    protocol: Protocol = PAPER,
) -> VocScores:
    """Predicts every image and scores it as the paper does; arguments and errors as in `scoring.evaluate`.

    The predictor should follow the protocol too: open it with stop_mode "each" and pass it to `protocol_masks.follow`.
    """
    precision = AveragePrecision.of_protocol(dataset.class_names, protocol)
    predict_dataset(
        predictor,
        dataset,
        [lambda sample, found: precision.add(sample.image_id, found, sample.label_map, sample.classes), *sinks],
        progress=progress,
    )
    scores = precision.summarize()
    kept = ("objects", *REPORTED)
    return VocScores(
        mean={name: scores.mean[name] for name in REPORTED},
        per_class={name: {key: values[key] for key in kept} for name, values in scores.per_class.items()},
        recall=scores.recall,
        intervals={
            **precision.precision_intervals(REPORTED, resamples=resamples, seed=seed),
            **precision.recall_intervals(resamples=resamples, seed=seed),
        },
        images=len(dataset),
    )


def table(scores: VocScores) -> str:
    """Returns tables 3 and 4 as text, in percent."""
    names = ["mean", *scores.per_class]
    width = max(map(len, names)) + 2
    lines = [f"AP in percent, {scores.images} images", " " * width + "".join(f"{n.upper():>8}" for n in REPORTED)]
    for name, values in [("mean", scores.mean), *scores.per_class.items()]:
        lines.append(f"{name:<{width}}" + "".join(f"{_percent(values[key]):>8}" for key in REPORTED))
    proposals = [name.split("@")[1] for name in scores.recall if name.startswith("ar50@")]
    head = "".join(f"{n + ' proposals':>15}" for n in proposals)
    lines += ["", "class-agnostic average recall in percent", f"{'IoU':<8}{head}"]
    for recall, iou in RECALL_THRESHOLDS.items():
        lines.append(f"{iou:<8}" + "".join(f"{_percent(scores.recall[f'{recall}@{n}']):>15}" for n in proposals))
    lines += ["", "95 % intervals over images"]
    lines += [f"{name:<10}{_percent(low)} … {_percent(high)}" for name, (low, high) in scores.intervals.items()]
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f}"
