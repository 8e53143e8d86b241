"""Compares whole outputs of two graphs: the mean difference and the correlation of masks, classes and stop.

Graphs that find nothing have the same instances, whatever their outputs are. The outputs themselves still show whether
a file computes what its model computes.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from export.tolerances import Tolerances, VerificationError
from rsis_tf.runtime import OUTPUTS

Array = np.ndarray
Batch = Mapping[str, Array]
"""`masks` (B, T, h, w), `classes` (B, T, K) and `stop` (B, T), probabilities."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """Difference of one output over all images.

    Attributes:
        mean: mean absolute difference.
        spread: mean distance of the wanted values from their mean.
        correlation: Pearson's, of the wanted and the received values; NaN if one of them is constant.
    """

    mean: float
    spread: float
    correlation: float

    @property
    def share(self) -> float:
        """The mean difference as a share of the spread."""
        return self.mean / self.spread if self.spread else (0.0 if self.mean == 0 else float("inf"))

    def __str__(self) -> str:
        return f"mean difference {self.mean:.1e}, {self.share:.2%} of the spread, correlation {self.correlation:.4f}"


class TensorComparison:
    """Collects outputs batch by batch.

    The steps of masks and classes have the weight with which the sequence reaches them: the smallest objectness so far
    of the wanted outputs. Steps after the end are not read by anyone, and rounding may change them completely.

    Args:
        align: whether steps may have swapped their objects; each wanted step is then compared with the most similar
            step.
    """

    def __init__(self, *, align: bool) -> None:
        self._align = align
        self._values: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in OUTPUTS}

    def add(self, wanted: Batch, got: Batch) -> None:
        """Adds a batch; both sides have the same shapes."""
        got = {name: np.asarray(got[name], np.float32) for name in OUTPUTS}
        if self._align:
            got = _aligned(wanted, got)
        reached = np.minimum.accumulate(wanted["stop"], axis=1)  # (B, T)
        for name in OUTPUTS:
            values = wanted[name]
            weights = np.ones_like(reached) if name == "stop" else reached
            weights = np.broadcast_to(weights.reshape(reached.shape + (1,) * (values.ndim - 2)), values.shape)
            self._values[name].append((values.ravel(), got[name].ravel(), weights.ravel()))

    def results(self) -> dict[str, TensorDifference]:
        """Returns the difference of each output over everything added."""
        return {
            name: _difference(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in self._values.items()
        }


def check_tensors(results: dict[str, TensorDifference], tolerances: Tolerances, *, found: int) -> list[str]:
    """Compares the mean difference and the correlation of each output with what passes.

    Args:
        results: of `TensorComparison`.
        tolerances: what passes.
        found: number of objects that the model finds in the images.

    Returns:
        A sentence for what could not be compared.

    Raises:
        VerificationError: the message names the output.
    """
    constant = []
    for name, result in results.items():
        allowed = tolerances.mean_difference * result.spread
        if not result.mean <= allowed + tolerances.resolution:
            raise VerificationError(
                f"expected {name} with a mean difference of {allowed + tolerances.resolution:.2g} or less from the "
                f"Keras model. Received: {result}"
            )
        if allowed < tolerances.resolution:
            constant.append(name)
        elif not result.correlation >= tolerances.correlation:
            raise VerificationError(
                f"expected {name} that correlate with the Keras model's to {tolerances.correlation:g} in these images "
                f"(--verify-images names others). Received: {result}"
            )
    remarks = []
    if constant:
        remarks.append(f"the model's values of {', '.join(constant)} hardly vary; only their mean was compared")
    if not found:
        remarks.append("the model finds no object in these images; --verify-images names others")
        if "masks" in constant:
            remarks.append("nothing was compared")
            if tolerances.must_compare:
                raise VerificationError(
                    "expected images in which the model finds something, or masks that vary: an 8-bit file cannot be "
                    "compared otherwise (--verify-images names images, --no-verify writes the file without a "
                    f"comparison). Received: no object, and masks with a spread of {results['masks'].spread:.1e}"
                )
    return remarks


def _difference(wanted: Array, got: Array, weights: Array) -> TensorDifference:
    x, y, weights = (values.astype(np.float64) for values in (wanted, got, weights))
    weights = weights / weights.sum() if weights.sum() > 0 else np.full_like(weights, 1 / len(weights))
    a, b = x - weights @ x, y - weights @ y
    variances = (weights @ a**2) * (weights @ b**2)
    return TensorDifference(
        mean=float(weights @ np.abs(x - y)),
        spread=float(weights @ np.abs(a)),
        correlation=float(weights @ (a * b) / np.sqrt(variances)) if variances > 0 else float("nan"),
    )


def _aligned(wanted: Batch, got: Batch) -> dict[str, Array]:
    """Puts the steps of each image in the order in which they are most similar to the wanted ones."""
    result = {name: np.array(got[name]) for name in OUTPUTS}
    for image in range(len(wanted["stop"])):
        cost = sum(_distances(wanted[name][image], got[name][image]) for name in ("masks", "classes"))  # (T, T)
        if np.isfinite(cost).all():
            order = linear_sum_assignment(cost)[1]
            for name in OUTPUTS:
                result[name][image] = got[name][image][order]
    return result


def _distances(ours: Array, theirs: Array) -> Array:
    """Returns (T, T): the mean difference of each step of ours from each step of theirs."""
    ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    return np.array([np.abs(step - theirs).mean(axis=1) for step in ours])
