"""Compares an exported file with the Keras model on images: names, shapes, every output, and the instances."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from export.graph import GraphSpec, infer
from export.images import find_images
from export.options import Thresholds
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.images import read_image, synthetic_image
from rsis_tf.models import RSIS
from rsis_tf.runtime import OUTPUTS, Instance, decode, resize_image

Array = np.ndarray
Run = Callable[[Array], dict[str, Array]]
"""An exported graph: (B, H, W, 3) images → `masks`, `classes`, `stop`."""
STOP_BAND = 0.02
"""Largest difference of a stop probability that passes at the step where a sequence ended."""


class VerificationError(Exception):
    """The outputs of a file differ from those of the Keras model; the message is one line with place and difference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        shape: of the input, (B, H, W, 3).
        differences: largest absolute difference of each output.
        instances: number of objects found in the images.
        agreement: mean over the images, see `rsis_tf.evaluation.metrics.agreement`.
    """

    shape: tuple[int, ...]
    differences: dict[str, float]
    instances: int
    agreement: float

    def __str__(self) -> str:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        shape = "x".join(map(str, self.shape))
        return f"{shape}: largest difference {differences}; {self.instances} instances, agreement {self.agreement:.4f}"


def read_images(folder: pathlib.Path | None, run: pathlib.Path, count: int = 4) -> list[Array]:
    """Returns images to compare on: those of a folder, else the run's samples, else one synthetic image.

    Raises:
        InputError: for a folder without images, or an image that cannot be read.
    """
    if folder is None:
        try:
            paths = find_images(run / "samples")
        except InputError:
            return [synthetic_image()]
    else:
        paths = find_images(folder)
    return [read_image(path) for path in paths[:count]]


def make_inputs(images: Sequence[Array], spec: GraphSpec, image_size: tuple[int, int]) -> list[Array]:
    """Returns two batches that use what is dynamic in the graph: two sizes, two batch sizes, or both.

    Args:
        images: at least one, any sizes.
        spec: shape of the graph.
        image_size: (height, width) at which the model was trained.

    Returns:
        (B, H, W, 3) arrays of the dtype of the graph's input; only one, if a second one would be the same.
    """
    height, width = spec.size or image_size
    dynamic_size = spec.input_shape[1] is None
    sizes = [(height, width), (height + 33, width + 47)] if dynamic_size else [(height, width)]
    batches = [spec.batch, spec.batch] if spec.batch else [1, 2]
    cases = [(batches[0], sizes[0]), (batches[1], sizes[-1])]
    inputs = []
    for start, (batch, size) in enumerate(dict.fromkeys(cases) if len(images) == 1 else cases):
        chosen = [images[(start + i) % len(images)] for i in range(batch)]
        # A repeated image is mirrored, so that a file that mixes up the images of a batch is noticed.
        distinct = [image if i < len(images) else image[:, ::-1] for i, image in enumerate(chosen)]
        resized = [resize_image(np.ascontiguousarray(image), size) for image in distinct]
        inputs.append(np.stack(resized).astype(spec.input_type))
    return inputs


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
    atol: float,
    thresholds: Thresholds,
    min_agreement: float = 0.0,
) -> list[Case]:
    """Runs the exported graph and the Keras model on the same images, TensorFlow in full float32.

    Args:
        run: the exported graph. A library other than TensorFlow must be told to use full float32 when it opens the
            file.
        model: the Keras model.
        spec: shape of the graph.
        inputs: from `make_inputs`.
        atol: largest difference of a probability that passes.
        thresholds: those of the file.
        min_agreement: least agreement that passes, as the mean over the images of one input.

    Returns:
        One case for each input.

    Raises:
        VerificationError: for another shape, a larger difference, or instances that differ from those of the model.
    """
    cases = []
    for images in inputs:
        with full_float32():
            wanted = {name: value.numpy() for name, value in infer(model, images, spec).items()}
            got = run(images)
        try:
            # Even where masks may differ by more, an early stop needs a stop probability near the threshold.
            wanted = _shorten(wanted, got, thresholds["stop_threshold"] + min(atol, STOP_BAND))
            differences = _compare_outputs(wanted, got, atol)
            count, agreements = 0, []
            for index in range(len(images)):
                size = images.shape[1:3]
                ours, theirs = ({name: values[name][index] for name in OUTPUTS} for values in (wanted, got))
                _compare_instances(ours, theirs, size=size, atol=atol, thresholds=thresholds)
                expected, found = (_decode(outputs, size, thresholds) for outputs in (ours, theirs))
                agreements.append(agreement(expected, found))
                count += len(found)
            mean = float(np.mean(agreements))
            if mean < min_agreement:
                raise VerificationError(f"expected instances that agree to {min_agreement:g}. Received: {mean:.3f}")
        except VerificationError as error:
            raise VerificationError(f"for the input {images.shape}, {error}") from None
        cases.append(Case(shape=images.shape, differences=differences, instances=count, agreement=mean))
    return cases


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


def _compare_instances(
    wanted: dict[str, Array],
    got: dict[str, Array],
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

    def decoded(outputs: dict[str, Array], shift: float = 0.0) -> dict[int, Instance]:
        # The masks are shifted and not the threshold, since a shifted threshold could leave 0 … 1.
        shifted = outputs | {"masks": outputs["masks"] - np.float32(shift)}
        return {instance.step: instance for instance in _decode(shifted, size, thresholds) if instance.step < sure}

    doubtful = np.abs(wanted["stop"] - thresholds["stop_threshold"]) <= atol
    sure = int(np.argmax(doubtful)) if doubtful.any() else len(doubtful)
    band = 1.01 * atol + 1e-6  # masks are resized, which rounds as well
    theirs, least, most = decoded(got), decoded(wanted, band), decoded(wanted, -band)
    if not set(least) <= set(theirs) <= set(most):
        raise VerificationError(
            f"expected instances at the steps {sorted(decoded(wanted))}. Received: {sorted(theirs)}"
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


def _decode(outputs: dict[str, Array], size: tuple[int, int], thresholds: Thresholds) -> Sequence[Instance]:
    return decode(*(outputs[name] for name in OUTPUTS), size=size, class_names=(), **thresholds)


def report(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Returns the cases as plain values for the JSON file."""
    return [dataclasses.asdict(case) for case in cases]
