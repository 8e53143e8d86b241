"""The paper's tables for Pascal VOC: AP at IoU .5/.6/.7/.8 (table 3) and class-agnostic average recall (table 4).

In the protocol "paper-voc", as the original's evaluation does it: each mask stands for all classes, with score class
probability × objectness; void pixels are taken out; masks under 0.1 % of the picture are left out; then COCO's
evaluation.

The recall is taken over the same repeated masks, as in the original: the ten best of a picture may be one mask under
ten class names, so recall with 50 proposals can exceed that with 10 although a sequence has ten steps.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rsis_tf.data.sample import Dataset
from rsis_tf.errors import command_line
from rsis_tf.evaluation.benchmarks.protocols import PROTOCOLS, Protocol
from rsis_tf.evaluation.metrics.average_precision import AP_THRESHOLDS, AveragePrecision
from rsis_tf.evaluation.metrics.bootstrap import RESAMPLES, Interval, precision_intervals, ratio_intervals
from rsis_tf.evaluation.runner import Predictor, Sink, plain, show, write_json
from rsis_tf.progress import ProgressLine

PAPER = PROTOCOLS["paper-voc"]
REPORTED = ("ap50", "ap60", "ap70", "ap80")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocScores:
    """Fractions 0 … 1; NaN where there is no object.

    Attributes:
        mean: "ap50", "ap60", "ap70", "ap80", mean over classes.
        per_class: class name → the same, and "objects".
        recall: "ar50@10" … "ar85@50", or at the `max_dets` proposals of the protocol.
        intervals: 95 % bootstrap interval over pictures of each of `mean` and `recall`.
        images: how many there were.
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
    progress: Callable[[int, int], None] | None = None,
    sinks: Sequence[Sink] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    protocol: Protocol = PAPER,
) -> VocScores:
    """Predicts every picture and scores it as the paper does; arguments as in `runner.evaluate`.

    The predictor should follow the protocol too: `masks.follow`, of one opened with stop_mode "each".
    """
    precision = AveragePrecision(
        dataset.class_names,
        every_class=protocol.every_class,
        min_share=protocol.min_size,
        proposals=protocol.max_dets,
    )
    show(
        predictor,
        dataset,
        [lambda sample, found: precision.add(sample.image_id, found, sample.label_map, sample.classes), *sinks],
        progress=progress,
    )
    scores = precision.summarize()
    options = {"resamples": resamples, "seed": seed}
    groups = [[AP_THRESHOLDS[name]] for name in REPORTED]
    intervals = dict(zip(REPORTED, precision_intervals(precision.detections(), groups, **options), strict=True))
    intervals |= dict(zip(scores.recall, ratio_intervals(*precision.recalled(), **options), strict=True))
    kept = ("objects", *REPORTED)
    return VocScores(
        mean={name: scores.mean[name] for name in REPORTED},
        per_class={name: {key: values[key] for key in kept} for name, values in scores.per_class.items()},
        recall=scores.recall,
        intervals=intervals,
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
    for iou in (50, 70, 85):
        lines.append(f"{iou / 100:<8}" + "".join(f"{_percent(scores.recall[f'ar{iou}@{n}']):>15}" for n in proposals))
    lines += ["", "95 % intervals over images"]
    lines += [f"{name:<10}{_percent(low)} … {_percent(high)}" for name, (low, high) in scores.intervals.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.benchmarks.voc`."""
    from rsis_tf.cli import evaluation_options as command
    from rsis_tf.evaluation.benchmarks import protocols
    from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile

    arguments = command.parser(
        "Scores a model on Pascal VOC as tables 3 and 4 of the paper do.",
        "python -m rsis_tf.evaluation.benchmarks.voc runs/voc --data VOCdevkit/VOC2012 --out runs/voc/voc",
    )
    command.add_model_and_data(arguments, dataset="voc", stop=None)
    arguments.add_argument("--out", metavar="FOLDER", required=True, help="for voc.json and results.json (COCO)")
    protocols.add_options(arguments, default=PAPER.name, scored_by=("every_class", "max_dets"))
    options = arguments.parse_args(argv)
    with command_line():
        protocol = protocols.chosen(options)
        dataset, predictor = command.open_both(options)
        out = command.output_folder(options.out)
        with ResultsFile(out / "results.json", every_class=protocol.every_class) as results:
            scores = evaluate_voc(predictor, dataset, progress=ProgressLine(), sinks=[results], protocol=protocol)
        write_json(out / "voc.json", {"protocol": protocol.settings(), **scores.to_dict()})
        print(table(scores))
        print(f"\nwritten: {out / 'voc.json'}, {out / 'results.json'}")


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
