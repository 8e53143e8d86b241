"""Chooses the objectness from which a step counts as an object: the one that counts best.

The stop signal is trained as a probability, and one half is where the paper ends a sequence (section 3.2). How often
the signal errs to either side depends on the training: on how many steps of a sequence hold an object, and on how well
the objects were found. One number set afterwards corrects that, and costs one pass over some pictures.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import Dataset
from rsis_tf.runtime import resize_image

if TYPE_CHECKING:
    from rsis_tf.inference import KerasPredictor

CANDIDATES = np.arange(1, 20) / 20  # 0.05 … 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopChoice:
    """A threshold and how well it counts.

    Attributes:
        threshold: one of `CANDIDATES`.
        error: mean absolute error of the number of objects with it.
        error_at_half: the same with one half.
        images: pictures they were counted on.
    """

    threshold: float
    error: float
    error_at_half: float
    images: int

    def __str__(self) -> str:
        return (
            f"stop threshold {self.threshold:g}: counting error {self.error:.2f} on {self.images} training pictures "
            f"({self.error_at_half:.2f} with 0.5)"
        )


def choose_stop_threshold(
    predictor: "KerasPredictor",
    dataset: Dataset,
    *,
    limit: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> StopChoice:
    """Finds the threshold of the least counting error over pictures spread evenly over a dataset.

    Steps are counted, before masks are drawn: one whose mask is empty counts too.

    Args:
        predictor: the model.
        dataset: samples at their own size; those that the model was trained on will do.
        limit: pictures taken at most.
        progress: called with (pictures done, pictures in all).
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
    """Finds the threshold of the least counting error; of equal ones the nearest to one half.

    Args:
        stop: (P, T) objectness of the steps of each picture.
        counts: (P,) objects there are; more than T count as T, no sequence can be longer.
    """
    running = np.minimum.accumulate(stop, axis=1)  # (P, T), under the threshold from the end of the sequence on
    counts = np.minimum(counts, stop.shape[1])

    def error(threshold: float) -> float:
        return float(np.abs((running >= threshold).sum(axis=1) - counts).mean())

    threshold = min(CANDIDATES, key=lambda candidate: (error(candidate), abs(candidate - 0.5)))
    return StopChoice(threshold=float(threshold), error=error(threshold), error_at_half=error(0.5), images=len(counts))
