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

CANDIDATES = np.arange(1, 20) / 20  # 0.05 … 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopChoice:
    """A threshold and its counting error.

    Attributes:
        threshold: one of `CANDIDATES`.
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
    """Finds the threshold with the lowest counting error; of equal ones, the one closest to one half.

    Args:
        stop: (P, T) objectness of the steps of each image.
        counts: (P,) true number of objects; more than T count as T, because no sequence is longer.
    """
    running = np.minimum.accumulate(stop, axis=1)  # (P, T), below the threshold from the end of the sequence on
    counts = np.minimum(counts, stop.shape[1])

    def error(threshold: float) -> float:
        return float(np.abs((running >= threshold).sum(axis=1) - counts).mean())

    threshold = min(CANDIDATES, key=lambda candidate: (error(candidate), abs(candidate - 0.5)))
    return StopChoice(threshold=float(threshold), error=error(threshold), error_at_half=error(0.5), images=len(counts))
