"""Compares an exported file with the Keras model on images: names, shapes, every output, and the instances."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from export.graph import GraphSpec, infer
from export.instances import check_instances, compare_instances
from export.options import Thresholds
from export.tensors import TensorComparison, TensorDifference, check_tensors
from export.tolerances import Tolerances, VerificationError
from rsis_tf.models import RSIS
from rsis_tf.runtime import OUTPUTS

Array = np.ndarray
Run = Callable[[Array], dict[str, Array]]
"""An exported graph: (B, H, W, 3) images → `masks`, `classes`, `stop`."""
STOP_BAND = 0.02
"""Largest difference of a stop probability that passes at the step where a sequence ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        shape: of the input, (B, H, W, 3).
        differences: largest absolute difference of each output.
        instances: number of objects found in the images.
        agreement: mean over the images, see `rsis_tf.evaluation.metrics.agreement`.
        lowered: number of images without an object, in which the instances of lower thresholds were compared.
    """

    shape: tuple[int, ...]
    differences: dict[str, float]
    instances: int
    agreement: float
    lowered: int

    def __str__(self) -> str:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        shape = "x".join(map(str, self.shape))
        text = f"{shape}: largest difference {differences}; {self.instances} instances, agreement {self.agreement:.4f}"
        if self.lowered:
            text += f" ({self.lowered} of the images with lower thresholds, because nothing was found in them)"
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison that passed.

    Attributes:
        cases: one for each input.
        tensors: difference of each output over all inputs.
        remarks: what could not be compared, one sentence each.
    """

    cases: tuple[Case, ...]
    tensors: dict[str, TensorDifference]
    remarks: tuple[str, ...]


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Makes TensorFlow compute float32 products in full float32, on GPUs too, and restores the setting at the end.

    By default TensorFlow lets GPUs since Ampere round the operands to 11 binary digits (TensorFloat-32). That changes
    masks by about 1e-3, more than the verification of a float32 file lets pass.
    """
    settings = tf.config.experimental
    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)


def compare(
    run: Run,
    model: RSIS,
    spec: GraphSpec,
    inputs: Sequence[Array],
    *,
    tolerances: Tolerances,
    thresholds: Thresholds,
) -> Comparison:
    """Runs the exported graph and the Keras model on the same images, TensorFlow in full float32.

    Args:
        run: the exported graph. A library other than TensorFlow must be told to use full float32 when it opens the
            file.
        model: the Keras model.
        spec: shape of the graph.
        inputs: from `make_inputs`.
        tolerances: what passes.
        thresholds: those of the file.

    Raises:
        VerificationError: for another shape, a larger difference, instances that differ from those of the model, or if
            nothing could be compared and that is an error.
    """
    cases, wanted_instances = [], 0
    tensors = TensorComparison(align=tolerances.loose)
    for images in inputs:
        with full_float32():
            wanted = {name: value.numpy() for name, value in infer(model, images, spec).items()}
            got = run(images)
        try:
            # Even where masks may differ by more, an early stop needs a stop probability near the threshold.
            wanted = _shorten(wanted, got, thresholds["stop_threshold"] + min(tolerances.atol, STOP_BAND))
            differences = _compare_outputs(wanted, got, tolerances.atol)
            tensors.add(wanted, got)
            agreements = []
            for index in range(len(images)):
                size = images.shape[1:3]
                ours, theirs = ({name: values[name][index] for name in OUTPUTS} for values in (wanted, got))
                check_instances(ours, theirs, size=size, atol=tolerances.atol, thresholds=thresholds)
                agreements.append(compare_instances(ours, theirs, size, thresholds))
        except VerificationError as error:
            raise VerificationError(f"for the input {images.shape}, {error}") from None
        wanted_instances += sum(each.wanted for each in agreements)
        case = Case(
            shape=images.shape,
            differences=differences,
            instances=sum(each.found for each in agreements),
            agreement=float(np.mean([each.value for each in agreements])),
            lowered=sum(each.lowered for each in agreements),
        )
        cases.append(case)
    counts = [case.shape[0] for case in cases]
    mean = float(np.average([case.agreement for case in cases], weights=counts))
    if not mean >= tolerances.min_agreement:  # NaN fails too
        raise VerificationError(
            f"for {sum(counts)} images, expected instances that agree to {tolerances.min_agreement:g} on average. "
            f"Received: {mean:.3f}"
        )
    results = tensors.results()
    remarks = check_tensors(results, tolerances, found=wanted_instances)
    return Comparison(cases=tuple(cases), tensors=results, remarks=tuple(remarks))


def _shorten(wanted: dict[str, Array], got: dict[str, Array], threshold: float) -> dict[str, Array]:
    """Shortens the wanted outputs to the steps that a file took, if all sequences of the Keras model end there too."""
    taken = got["stop"].shape[1] if "stop" in got and got["stop"].ndim == 2 else 0
    below = np.asarray(wanted["stop"] < threshold)  # (B, T)
    ended: Array = np.logical_or.accumulate(below, axis=1).min(axis=0)  # (T,)
    if 0 < taken < len(ended) and ended[taken - 1]:
        return {name: value[:, :taken] for name, value in wanted.items()}
    return wanted


def _compare_outputs(wanted: dict[str, Array], got: dict[str, Array], atol: float) -> dict[str, float]:
    """Returns the largest absolute difference of each output.

    Raises:
        VerificationError: for a missing output, another shape, or a difference above `atol`.
    """
    differences = {}
    for name in OUTPUTS:
        if name not in got or got[name].shape != wanted[name].shape:
            received = got[name].shape if name in got else f"outputs {sorted(got)}"
            raise VerificationError(f"expected {name} of shape {wanted[name].shape}. Received: {received}")
        differences[name] = float(np.abs(got[name].astype(np.float32) - wanted[name]).max())
        if not differences[name] <= atol:
            raise VerificationError(
                f"expected {name} within {atol:g} of the Keras model. Received: a difference of {differences[name]:.3g}"
            )
    return differences


def report(comparison: Comparison) -> dict[str, Any]:
    """Returns the comparison as plain values for the JSON file; `null` for the correlation of constants."""
    tensors = {
        name: {"mean_difference": value.mean, "spread": value.spread, "correlation": _finite(value.correlation)}
        for name, value in comparison.tensors.items()
    }
    return {
        "verification": [dataclasses.asdict(case) for case in comparison.cases],
        "verification_of_tensors": tensors,
        "verification_remarks": list(comparison.remarks),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
