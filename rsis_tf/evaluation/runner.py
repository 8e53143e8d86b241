"""Runs a predictor over a dataset and scores it: COCO average precision and the leaf challenge's counts and Dice."""

import collections
import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rsis_tf.data.sample import VOID, Dataset, Sample
from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks import protocols
from rsis_tf.evaluation.metrics import leaves
from rsis_tf.evaluation.metrics.average_precision import AP_THRESHOLDS, AveragePrecision
from rsis_tf.evaluation.metrics.bootstrap import (
    RESAMPLES,
    Interval,
    mean_interval,
    precision_intervals,
    ratio_intervals,
)

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


class Predictor(Protocol):
    """(H, W, 3) uint8 image of any size → instances in predicted order, masks at its size.

    One that also has `stream`, from many images to the instances of each, is handed the images batch by batch.
    """

    class_names: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> "list[Instance]": ...


Sink = Callable[[Sample, "list[Instance]"], None]
"""Something that is shown every picture with its predictions: a writer of result files, a study of the order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model is worth on a dataset. Fractions are 0 … 1; NaN where there is nothing to measure.

    Attributes:
        ap, ap50, ap75: COCO average precision of masks, mean over classes: IoU .50:.05:.95, .50, .75.
        sbd: symmetric best Dice, mean over pictures (a picture without objects counts 0, as the challenge has it).
        abs_dic: |DiC|, mean over pictures of the absolute error in the number of objects.
        dic: the same with its sign, prediction − truth.
        foreground_dice: mean over the pictures where it is defined.
        images, objects, predictions: how many there were.
        seconds_per_image: mean time in the predictor.
        at: AP at the IoUs the paper reports: "ap50", "ap60", "ap70", "ap75", "ap80".
        recall: class-agnostic average recall, "ar50@10" … "ar85@50" (paper, table 4), or at `max_dets` proposals.
        per_class: class name → "objects", "ap", "ap50" …
        intervals: 95 % bootstrap interval over pictures of each score above, by its name.
    """

    ap: float
    ap50: float
    ap75: float
    sbd: float
    abs_dic: float
    dic: float
    foreground_dice: float
    images: int
    objects: int
    predictions: int
    seconds_per_image: float
    at: dict[str, float]
    recall: dict[str, float]
    per_class: dict[str, dict[str, float]]
    intervals: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return plain(dataclasses.asdict(self))


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    progress: Callable[[int, int], None] | None = None,
    sinks: Sequence[Sink] = (),
    classes: frozenset[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    protocol: protocols.Protocol = protocols.PLAIN,
) -> Scores:
    """Predicts every picture at its own size and scores the predictions; masks are not kept.

    Masks of one picture may overlap: AP takes them as they are, the leaf scores take the label map in which the
    earliest step keeps a pixel (`leaves.label_map`) unless the protocol says otherwise. Void pixels are taken out of
    predictions.

    Args:
        predictor: picture → instances.
        dataset: samples at their own size, image ids unique.
        progress: called with (pictures done, pictures in all) after each.
        sinks: each called with (sample, instances) after each picture.
        classes: ids of the classes that are scored, see `show`; None for all.
        resamples: draws for the intervals.
        seed: of the draws.
        protocol: its `every_class`, `min_size` and `max_dets` make the precision, its `overlap` the label map; the
            predictor should follow it too (`masks.follow`).

    Raises:
        InputError: for an empty dataset, or one whose classes are not the predictor's.
    """
    precision = AveragePrecision(
        dataset.class_names,
        every_class=protocol.every_class,
        min_share=protocol.min_size,
        proposals=protocol.max_dets,
    )
    per_image: dict[str, list[float]] = {name: [] for name in ("sbd", "abs_dic", "dic", "foreground_dice")}
    counts: list[tuple[int, int]] = []

    def score(sample: Sample, instances: "list[Instance]") -> None:
        precision.add(sample.image_id, instances, sample.label_map, sample.classes)
        for name, value in leaf_scores(instances, sample.label_map, overlap=protocol.overlap).items():
            per_image[name].append(value)
        counts.append((len(sample.classes), len(instances)))

    seconds = show(predictor, dataset, [score, *sinks], progress=progress, classes=classes)
    objects, predictions = map(sum, zip(*counts, strict=True))
    scores = precision.summarize()
    names = ("ap", *AP_THRESHOLDS)
    groups = [range(10), *([t] for t in AP_THRESHOLDS.values())]
    options = {"resamples": resamples, "seed": seed}
    intervals = dict(zip(names, precision_intervals(precision.detections(), groups, **options), strict=True))
    intervals |= {name: mean_interval(values, **options) for name, values in per_image.items()}
    intervals |= dict(zip(scores.recall, ratio_intervals(*precision.recalled(), **options), strict=True))
    return Scores(
        **{name: scores.mean[name] for name in ("ap", "ap50", "ap75")},
        **{name: _mean(values) for name, values in per_image.items()},
        images=len(counts),
        objects=objects,
        predictions=predictions,
        seconds_per_image=seconds / len(counts),
        at={name: scores.mean[name] for name in AP_THRESHOLDS},
        recall=scores.recall,
        per_class={
            name: scores.per_class[name]
            for k, name in enumerate(dataset.class_names)
            if k > 0 and (classes is None or k in classes)
        },
        intervals=intervals,
    )


def show(
    predictor: Predictor,
    dataset: Dataset,
    sinks: Sequence[Sink],
    *,
    progress: Callable[[int, int], None] | None = None,
    classes: frozenset[int] | None = None,
) -> float:
    """Predicts every image and shows it, with its predictions, to each sink; one batch is in memory at a time.

    Args:
        predictor: images → instances.
        dataset: samples at their own size.
        sinks: each called with (sample, instances) after each image.
        progress: called with (images done, images in all) after each.
        classes: ids of the classes that are shown, as if neither dataset nor model had others: their objects become
            background, their predictions are left out. None for all.

    Returns:
        Seconds spent in the predictor; reading the dataset and the sinks take none of it.

    Raises:
        InputError: for an empty dataset, or one whose classes are not the predictor's.
    """
    total = len(dataset)
    if total == 0:
        raise InputError("expected a dataset with at least one picture. Received: an empty one")
    _check_classes(tuple(predictor.class_names), tuple(dataset.class_names))
    waiting: collections.deque[Sample] = collections.deque()
    reading = 0.0

    def images() -> Iterator[np.ndarray]:
        nonlocal reading
        for index in range(total):
            start = time.perf_counter()
            sample = dataset[index]
            reading += time.perf_counter() - start
            waiting.append(sample)
            yield sample.image

    stream = getattr(predictor, "stream", None)
    predicted = iter(stream(images()) if stream else map(predictor, images()))
    seconds = 0.0
    for done in range(1, total + 1):
        start = time.perf_counter()
        instances = next(predicted)
        seconds += time.perf_counter() - start
        sample = waiting.popleft()
        if classes is not None:
            sample, instances = only_classes(sample, instances, classes)
        for sink in sinks:
            sink(sample, instances)
        if progress:
            progress(done, total)
    return seconds - reading


def only_classes(
    sample: Sample, instances: "Sequence[Instance]", classes: frozenset[int]
) -> "tuple[Sample, list[Instance]]":
    """Returns the sample and its predictions as if there were no other classes; other objects become background."""
    kept = np.isin(sample.classes, sorted(classes))  # (n,)
    numbers = np.zeros(len(kept) + 2, np.int32)  # by label: void, background, objects
    numbers[0], numbers[2:] = VOID, np.where(kept, np.cumsum(kept), 0)
    sample = dataclasses.replace(sample, label_map=numbers[sample.label_map + 1], classes=sample.classes[kept])
    return sample, [instance for instance in instances if instance.class_id in classes]


def leaf_scores(instances: "Sequence[Instance]", truth: np.ndarray, *, overlap: str = "earliest") -> dict[str, float]:
    """Returns the leaf challenge's scores of one picture: "sbd", "abs_dic", "dic", "foreground_dice".

    Args:
        instances: predictions, masks (H, W) bool.
        truth: (H, W) int label map; `VOID` pixels are background in it and in the prediction. Objects that others
            hide entirely are left out, the challenge would count their unused ids.
        overlap: see `leaves.label_map`.
    """
    void = truth == VOID
    prediction = leaves.label_map(instances, truth.shape, void=void, overlap=overlap)
    truth = leaves.consecutive(np.where(void, 0, truth))
    dic = leaves.count_difference(prediction, truth)
    return {
        "sbd": leaves.symmetric_best_dice(prediction, truth),
        "abs_dic": abs(dic),
        "dic": dic,
        "foreground_dice": leaves.foreground_dice(prediction, truth),
    }


def table(scores: Scores) -> str:
    """Returns the scores as text for the screen."""
    head = f"{scores.images} images, {scores.objects} objects, {scores.predictions} predictions"
    lines = [f"{head}, {1000 * scores.seconds_per_image:.1f} ms per image", ""]
    rows = [("AP", "ap"), *((f"AP{name[2:]}", name) for name in scores.at), ("SBD", "sbd"), ("|DiC|", "abs_dic")]
    rows += [("DiC", "dic"), ("foreground Dice", "foreground_dice"), *((name.upper(), name) for name in scores.recall)]
    values = {**scores.at, **scores.recall}
    lines.append(f"{'score':<16}{'value':>8}   95 % interval over images")
    for title, name in rows:
        value, (low, high) = values.get(name, getattr(scores, name, None)), scores.intervals[name]
        lines.append(f"{title:<16}{_number(value):>8}   {_number(low)} … {_number(high)}")
    width = max(len("class"), *map(len, scores.per_class)) + 2
    lines += ["", f"{'class':<{width}}{'objects':>8}{'AP':>8}{'AP50':>8}{'AP75':>8}"]
    for name, values in scores.per_class.items():
        cells = "".join(f"{_number(values[key]):>8}" for key in ("ap", "ap50", "ap75"))
        lines.append(f"{name:<{width}}{values['objects']:>8}{cells}")
    return "\n".join(lines)


def write_json(path: str | pathlib.Path, values: Any) -> None:
    """Writes values as JSON, beside the file first; NaN becomes null."""
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.part")
    text = json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)


def _check_classes(predicted: tuple[str, ...], given: tuple[str, ...]) -> None:
    if len(given) < 2:
        raise InputError(f"expected a dataset with a background and at least one class. Received: {given}")
    if predicted and predicted != given:
        raise InputError(f"expected a dataset with the model's classes, {predicted}. Received: {given}")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def plain(value: Any) -> Any:
    """Returns dictionaries, lists and numbers that JSON knows: arrays as lists, NaN as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value
