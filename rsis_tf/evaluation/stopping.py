"""Shifts the objectness, so that a sequence can end at one half after every training.

The stop signal is trained as a probability, and the paper ends a sequence at one half (section 3.2). After the training
it is no probability that this object exists: a training sees other sequences than prediction, its loss weighs the two
outcomes by `stop_balance`, and the sequences of a prediction depend on the objects found before. A logistic function is
therefore fitted to the sequences of the finished model by maximum likelihood (Platt, "Probabilistic outputs for support
vector machines", 1999), and the logits are shifted to where it is one half. Another object is then as likely as none,
which is where the expected counting error is lowest. The fit costs one pass over some images.

The logits are not multiplied by its slope, which is often near 2: in float32 more values would become exactly 1, and
the order of the objects by score, which average precision measures, would be lost.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.data.sample import Dataset
from rsis_tf.evaluation.predictions import Progress
from rsis_tf.runtime import resize_image

if TYPE_CHECKING:
    from rsis_tf.inference import KerasPredictor

THRESHOLD = 0.5
"""Objectness at which a sequence ends once it is calibrated."""

_LEAST_SLOPE = 0.05
"""With a smaller slope the objectness tells nothing about the end of a sequence; it is left as it is."""

_LEAST_SHIFT = 0.01
"""A smaller shift is left out: the model of a resumed run may have been calibrated before, and its stored objectness
is rounded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What has to be added to the stop logits, so that a sequence ends at one half.

    Attributes:
        shift: of the logits.
        error: mean absolute error of the number of objects with the shifted objectness and a threshold of one half.
        error_before: the same error with the objectness as it was.
        images: number of images that were counted.
    """

    shift: float
    error: float
    error_before: float
    images: int

    @property
    def threshold_before(self) -> float:
        """The objectness before that is one half now."""
        return float(1 / (1 + np.exp(self.shift)))

    def __str__(self) -> str:
        return (
            f"objectness: {self.threshold_before:.2f} becomes {THRESHOLD:g}, counting error {self.error:.2f} on "
            f"{self.images} training images ({self.error_before:.2f} before)"
        )


def calibrate(
    predictor: "KerasPredictor",
    dataset: Dataset,
    *,
    limit: int = 256,
    progress: Progress | None = None,
) -> Calibration:
    """Fits the objectness of a model to the numbers of objects in images spread evenly over a dataset.

    It counts steps before masks are drawn, so a step with an empty mask counts too.

    Args:
        predictor: the model; it is not changed.
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
    return fit(np.concatenate(stop), np.array(counts))


def fit(stop: np.ndarray, counts: np.ndarray) -> Calibration:
    """Finds the shift by maximum likelihood.

    A step holds an object if the image has more objects than there were steps before it. A sequence ends at its first
    step below the threshold, so the lowest logit of the steps so far is what counts. The slope of the logistic function
    has a normal prior around 1 with a variance of 1, which matters only where few steps are counted or all are certain.
    The offset has none: logits that are shifted by some value then get a shift that is smaller by this value, and a
    second calibration changes nothing. If all steps hold an object, or none does, nothing is known about the end, and
    the shift is 0.

    Args:
        stop: (P, T) objectness of the steps of each image.
        counts: (P,) true number of objects; more than T count as T, because no sequence is longer.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    logits = logit(np.minimum.accumulate(stop.astype(np.float64), axis=1).clip(1e-6, 1 - 1e-6))  # (P, T)
    counts = np.minimum(counts, stop.shape[1])
    holds = np.arange(stop.shape[1]) < counts[:, None]  # (P, T)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = parameters
        scaled = slope * logits + offset
        likelihood = (np.logaddexp(0, scaled) - holds * scaled).sum()
        surplus = expit(scaled) - holds
        prior = (slope - 1) ** 2 / 2
        return likelihood + prior, np.array([(surplus * logits).sum() + slope - 1, surplus.sum()])

    shift = 0.0
    if 0 < holds.sum() < holds.size:
        slope, offset = minimize(cost, np.array([1.0, 0.0]), jac=True, options={"gtol": 1e-8 * holds.size}).x
        shift = float(offset / slope) if slope >= _LEAST_SLOPE else 0.0
    if abs(shift) < _LEAST_SHIFT:
        shift = 0.0

    def error(shift: float) -> float:
        return float(np.abs((logits + shift >= 0).sum(axis=1) - counts).mean())

    return Calibration(shift=shift, error=error(shift), error_before=error(0), images=len(counts))
