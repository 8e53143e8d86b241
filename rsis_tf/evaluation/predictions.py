"""Runs a predictor over a dataset and passes each image with its predictions to scores, result files and studies."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rsis_tf.data.sample import VOID, Dataset, Sample
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


class Predictor(Protocol):
    """Maps an (H, W, 3) uint8 image of any size to its instances in predicted order, with masks of that size.

    A predictor may also have `stream`, which maps an iterable of images to the instances of each. It is then called
    once for the whole dataset, so that it can run the images in batches.
    """

    class_names: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> "Sequence[Instance]": ...


Sink = Callable[[Sample, "Sequence[Instance]"], None]
"""Receives each sample with its predictions: a score, a writer of result files, a study of the object order."""

Progress = Callable[[int, int], None]
"""Receives the number of images done and the number of all images, after each image."""


def predict_dataset(
    predictor: Predictor,
    dataset: Dataset,
    sinks: Sequence[Sink],
    *,
    progress: Progress | None = None,
    classes: frozenset[int] | None = None,
    every_class: bool = False,
) -> float:
    """Predicts every image at its own size and passes it to each sink. At most one batch is held in memory.

    Args:
        predictor: maps images to instances.
        dataset: samples at their own size.
        sinks: each is called with (sample, instances) after each image.
        progress: called after each image.
        classes: ids of the classes to keep, see `only_classes`; None for all.
        every_class: see `only_classes`.

    Returns:
        Seconds spent in the predictor, without the time to read the dataset and to run the sinks.

    Raises:
        InputError: if the dataset is empty or its classes are not the predictor's.
    """
    total = len(dataset)
    if total == 0:
        raise InputError("expected a dataset with at least one image. Received: an empty one")
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
            sample, instances = only_classes(sample, instances, classes, every_class=every_class)
        for sink in sinks:
            sink(sample, instances)
        if progress:
            progress(done, total)
    return seconds - reading


def only_classes(
    sample: Sample, instances: "Sequence[Instance]", classes: frozenset[int], *, every_class: bool = False
) -> "tuple[Sample, list[Instance]]":
    """Removes all other classes from a sample and its predictions, as if neither dataset nor model had them.

    Objects of other classes become background, predictions of other classes are dropped.

    Args:
        sample: an image with its objects.
        instances: its predictions.
        classes: ids of the classes to keep.
        every_class: keep all predictions, because each counts for every class, with the probability of that class.
            Whoever counts them leaves out the other classes.
    """
    kept = np.isin(sample.classes, sorted(classes))  # (n,)
    numbers = np.zeros(len(kept) + 2, np.int32)  # by label: void, background, objects
    numbers[0], numbers[2:] = VOID, np.where(kept, np.cumsum(kept), 0)
    sample = dataclasses.replace(sample, label_map=numbers[sample.label_map + 1], classes=sample.classes[kept])
    return sample, list(instances) if every_class else of_classes(instances, classes)


def of_classes(instances: "Sequence[Instance]", classes: frozenset[int] | None) -> "list[Instance]":
    """Returns the predictions whose best class is one of the classes; None for all."""
    return [instance for instance in instances if classes is None or instance.class_id in classes]


def scored_classes(
    instance: "Instance", *, every_class: bool, classes: frozenset[int] | None
) -> list[tuple[int, float]]:
    """Returns the classes that a prediction counts for, each with its score.

    Args:
        instance: a prediction.
        every_class: whether it counts for each class, with class probability × objectness, as in the original's
            evaluation, or for its best class only.
        classes: ids of the classes that count; None for all.
    """
    scored = [(instance.class_id, instance.score)]
    if every_class:
        scored = [(k, instance.class_probs[k] * instance.objectness) for k in range(1, len(instance.class_probs))]
    return [(class_id, float(score)) for class_id, score in scored if classes is None or class_id in classes]


def _check_classes(predicted: tuple[str, ...], given: tuple[str, ...]) -> None:
    if len(given) < 2:
        raise InputError(f"expected a dataset with a background and at least one class. Received: {given}")
    if predicted and predicted != given:
        raise InputError(f"expected a dataset with the model's classes, {predicted}. Received: {given}")
