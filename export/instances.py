"""Compares the instances that two graphs give for one image."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from export.options import Thresholds
from export.tolerances import VerificationError
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.runtime import OUTPUTS, Instance, decode

Array = np.ndarray
Outputs = Mapping[str, Array]
"""Of one image: `masks` (T, h, w), `classes` (T, K) and `stop` (T,), probabilities."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well the instances of an image agree.

    Attributes:
        value: see `rsis_tf.evaluation.metrics.agreement`.
        wanted, found: number of instances with the thresholds of the file.
        lowered: whether there were none, so that lower thresholds were used for `value`.
    """

    value: float
    wanted: int
    found: int
    lowered: bool


def compare_instances(wanted: Outputs, got: Outputs, size: tuple[int, int], thresholds: Thresholds) -> Agreement:
    """Compares what two graphs find in an image.

    If both find nothing, they agree whatever their outputs are. Then the instances of lower thresholds are compared.

    Args:
        wanted, got: outputs of the reference and of the graph to check.
        size: (H, W) of the image.
        thresholds: those of the file.
    """
    expected, found = (decoded(outputs, size, thresholds) for outputs in (wanted, got))
    counts = len(expected), len(found)
    lowered = not expected and not found
    if lowered:
        lower = lower_thresholds(wanted, thresholds)
        expected, found = (decoded(outputs, size, lower) for outputs in (wanted, got))
    return Agreement(value=agreement(expected, found), wanted=counts[0], found=counts[1], lowered=lowered)


def check_instances(
    wanted: Outputs,
    got: Outputs,
    *,
    size: tuple[int, int],
    atol: float,
    thresholds: Thresholds,
) -> None:
    """Compares the instances of one image.

    A probability within `atol` of a threshold may lie on either side of it.

    Raises:
        VerificationError: the message does not name the input; the caller adds it.
    """

    def by_step(outputs: Outputs, shift: float = 0.0) -> dict[int, Instance]:
        # The masks are shifted and not the threshold, since a shifted threshold could leave 0 … 1.
        shifted = {**outputs, "masks": outputs["masks"] - np.float32(shift)}
        return {each.step: each for each in decoded(shifted, size, thresholds) if each.step < sure}

    doubtful = np.abs(wanted["stop"] - thresholds["stop_threshold"]) <= atol
    sure = int(np.argmax(doubtful)) if doubtful.any() else len(doubtful)
    band = 1.01 * atol + 1e-6  # masks are resized, which rounds as well
    theirs, least, most = by_step(got), by_step(wanted, band), by_step(wanted, -band)
    if not set(least) <= set(theirs) <= set(most):
        raise VerificationError(
            f"expected instances at the steps {sorted(by_step(wanted))}. Received: {sorted(theirs)}"
        )
    for step, instance in theirs.items():
        probs = most[step].class_probs
        if probs[instance.class_id] < probs[1:].max() - 2 * atol:
            best = 1 + int(probs[1:].argmax())
            raise VerificationError(f"expected class {best} at step {step}. Received: {instance.class_id}")
        missing = int((least[step].mask & ~instance.mask).sum()) if step in least else 0
        extra = int((instance.mask & ~most[step].mask).sum())
        if missing or extra:
            raise VerificationError(
                f"expected the same mask at step {step}. Received: {missing} pixels missing, {extra} too many"
            )


def lower_thresholds(outputs: Outputs, thresholds: Thresholds) -> Thresholds:
    """Returns thresholds that let the first step through, if its mask differs from pixel to pixel.

    They are half the objectness of the first step, and the middle between the extremes of its mask where no pixel
    reaches the threshold.
    """
    mask = outputs["masks"][0]
    low, high = float(mask.min()), float(mask.max())
    return Thresholds(
        stop_threshold=min(thresholds["stop_threshold"], max(float(outputs["stop"][0]) / 2, 0.0)),
        mask_threshold=thresholds["mask_threshold"] if high >= thresholds["mask_threshold"] else (low + high) / 2,
    )


def decoded(outputs: Outputs, size: tuple[int, int], thresholds: Thresholds) -> Sequence[Instance]:
    """Returns the instances of an image."""
    return decode(*(outputs[name] for name in OUTPUTS), size=size, class_names=(), **thresholds)
