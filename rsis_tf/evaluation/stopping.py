"""Chooses the stop threshold, the objectness at which a sequence ends, by the lowest counting error.

The stop signal is trained as a probability, and the paper ends a sequence at one half (section 3.2). The best threshold
depends on the training: on the share of steps that hold an object, and on how well the objects are found. It is chosen
after the training, which costs one pass over some images.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import Dataset
from rsis_tf.evaluation.predictions import Progress
from rsis_tf.runtime import resize_image

if TYPE_CHECKING:
    from rsis_tf.inference import KerasPredictor

CANDIDATES = np.arange(5, 96) / 100  # 0.05 … 0.95

STANDARD_ERRORS = 3.0
"""Three rather than one, because the best threshold is the best of many and looks better than it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopChoice:
    """A threshold and its counting error.

    Attributes:
        threshold: between the first and the last of `CANDIDATES`.
        error: mean absolute error of the number of objects at this threshold.
        error_at_half: the same error at a threshold of one half.
        images: number of images that were counted.
    """

    threshold: float
    error: float
    error_at_half: float
    images: int

    def __str__(self) -> str:
        return (
            f"stop threshold {self.threshold:g}: counting error {self.error:.2f} on {self.images} training images "
            f"({self.error_at_half:.2f} with 0.5)"
        )


def choose_stop_threshold(
    predictor: "KerasPredictor",
    dataset: Dataset,
    *,
    limit: int = 256,
    progress: Progress | None = None,
) -> StopChoice:
    """Finds the threshold with the lowest counting error on images spread evenly over a dataset.

    It counts steps before masks are drawn, so a step with an empty mask counts too.

    Args:
        predictor: the model.
        dataset: samples at their own size; the training images can be used.
        limit: maximum number of images.
        progress: called with (images done, all images) after each batch.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).astype(int))
    stop, counts = [], []
    for start in range(0, len(indices), predictor.batch_size):
        samples = [dataset[int(index)] for index in indices[start : start + predictor.batch_size]]
        images = np.stack(  # (B, h, w, 3)
            [resize_image(sample.image, predictor.image_size, predictor.aspect) for sample in samples]
        )
        stop.append(predictor.run(images)[2])
        counts += [len(sample.classes) for sample in samples]
        if progress:
            progress(len(counts), len(indices))
    return best_threshold(np.concatenate(stop), np.array(counts))


def best_threshold(stop: np.ndarray, counts: np.ndarray) -> StopChoice:
    """Chooses the middle of the range of thresholds that count about as well as the best one.

    A threshold counts about as well as the best one if its counting error is larger by at most `STANDARD_ERRORS`
    standard errors, taken over the differences of the images. The error changes little over a wide range, and its
    lowest value lies anywhere in that range by chance; the middle differs less between trainings, and it is farthest
    from both slopes. The best threshold is the one with the lowest error, and of equal ones that closest to one half.

    Args:
        stop: (P, T) objectness of the steps of each image.
        counts: (P,) true number of objects; more than T count as T, because no sequence is longer.
    """
    running = np.minimum.accumulate(stop, axis=1)  # (P, T), below the threshold from the end of the sequence on
    counts = np.minimum(counts, stop.shape[1])
    found = (running[None] >= CANDIDATES[:, None, None]).sum(axis=2)  # (C, P)
    errors = np.abs(found - counts)  # (C, P)
    means = errors.mean(axis=1)
    best = min(range(len(CANDIDATES)), key=lambda index: (means[index], abs(CANDIDATES[index] - 0.5)))
    differences = errors - errors[best]
    as_good = differences.mean(axis=1) <= STANDARD_ERRORS * differences.std(axis=1) / np.sqrt(len(counts))
    first = last = best
    while first > 0 and as_good[first - 1]:
        first -= 1
    while last < len(CANDIDATES) - 1 and as_good[last + 1]:
        last += 1
    chosen = (first + last) // 2
    half = int(np.argmin(np.abs(CANDIDATES - 0.5)))
    return StopChoice(
        threshold=float(CANDIDATES[chosen]),
        error=float(means[chosen]),
        error_at_half=float(means[half]),
        images=len(counts),
    )
