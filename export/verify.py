"""Compares an exported file with the Keras model on pictures: names, shapes, every output, and the instances."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from export.graph import OUTPUTS, GraphSpec, infer
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.images import read_image
from rsis_tf.models import RSIS
from rsis_tf.runtime import Instance, decode, resize_image

Array = np.ndarray
Run = Callable[[Array], dict[str, Array]]
"""An exported graph: (B, H, W, 3) pictures → `masks`, `classes`, `stop`."""
STOP_BAND = 0.02
"""By how much a stop probability may differ where a sequence ended."""
PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class VerificationError(Exception):
    """The exported file does not answer as the Keras model does; one line that says where and by how much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        shape: of the input, (B, H, W, 3).
        differences: largest absolute difference by output.
        instances: objects found in these pictures.
        agreement: mean over the pictures, see `rsis_tf.evaluation.metrics.agreement`.
    """

    shape: tuple[int, ...]
    differences: dict[str, float]
    instances: int
    agreement: float

    def __str__(self) -> str:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        shape = "x".join(map(str, self.shape))
        return f"{shape}: largest difference {differences}; {self.instances} instances, agreement {self.agreement:.4f}"


def read_pictures(folder: pathlib.Path | None, run: pathlib.Path, count: int = 4) -> list[Array]:
    """Returns pictures to compare on: those of a folder, else the run's samples, else one that is made up.

    Raises:
        InputError: for a folder without a picture, or a broken one.
    """
    for place in (folder, run / "samples"):
        if place is not None and place.is_dir():
            paths = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
            if paths:
                return [read_image(path) for path in paths[:count]]
            if place is folder:
                raise InputError(f"expected pictures ({', '.join(PICTURE_SUFFIXES)}). Received: {folder} without any")
    return [textured_picture()]


def textured_picture(size: tuple[int, int] = (240, 320), seed: int = 0) -> Array:
    """Returns (H, W, 3) uint8: coarse and fine noise with a few bright discs, always the same."""
    rng = np.random.default_rng(seed)
    coarse = resize_image(rng.integers(40, 160, (6, 8, 3), np.uint8), size).astype(np.float32)
    picture = coarse + rng.normal(0, 8, (*size, 1))
    y, x = np.mgrid[: size[0], : size[1]]
    for _ in range(5):
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.15) * min(size)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        picture[disc] = 0.3 * picture[disc] + rng.uniform(100, 180, 3)
    return picture.clip(0, 255).astype(np.uint8)


def make_inputs(pictures: Sequence[Array], spec: GraphSpec, image_size: tuple[int, int]) -> list[Array]:
    """Returns batches that try what is open in the graph: at least two of size and batch, where the graph allows.

    Args:
        pictures: at least one, any sizes.
        spec: shape of the graph.
        image_size: (height, width) the model was trained at.

    Returns:
        (B, H, W, 3) arrays of the graph's input dtype.
    """
    height, width = spec.size or image_size
    open_size = spec.input_shape[1] is None
    sizes = [(height, width), (height + 33, width + 47)] if open_size else [(height, width)]
    batches = [spec.batch, spec.batch] if spec.batch else [1, 2]
    cases = [(batches[0], sizes[0]), (batches[1], sizes[-1])]
    inputs = []
    for start, (batch, size) in enumerate(dict.fromkeys(cases) if len(pictures) == 1 else cases):
        chosen = [pictures[(start + i) % len(pictures)] for i in range(batch)]
        # A picture shown twice is mirrored, so that a batch mixed up would be noticed.
        shown = [picture if i < len(pictures) else picture[:, ::-1] for i, picture in enumerate(chosen)]
        inputs.append(np.stack([resize_image(np.ascontiguousarray(p), size) for p in shown]).astype(spec.input_type))
    return inputs


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Computes float32 products in float32, on GPUs too; what was set before is restored.

    By default TensorFlow lets GPUs since Ampere round their operands to 11 binary digits (TensorFloat-32). That moves
    masks by about 1e-3, more than a right export may.
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
    thresholds: dict[str, float],
    min_agreement: float = 0.0,
) -> list[Case]:
    """Runs the exported graph and the Keras model on the same pictures, TensorFlow in full float32.

    Args:
        run: the exported graph; in full float32 as well, which is the business of who opens it outside TensorFlow.
        model: the Keras model.
        spec: shape of the graph.
        inputs: from `make_inputs`.
        atol: largest difference of a probability that passes.
        thresholds: `stop_threshold` and `mask_threshold`.
        min_agreement: least agreement of the pictures of one input.

    Returns:
        What was found for each input.

    Raises:
        VerificationError: for another shape, a larger difference, or other instances than the Keras model's.
    """
    cases = []
    for images in inputs:
        with full_float32():
            wanted = {name: value.numpy() for name, value in infer(model, images, spec).items()}
            got = run(images)
        try:
            # A file that stops early must have had its reason, however much its masks may differ.
            wanted = _shorten(wanted, got, thresholds["stop_threshold"] + min(atol, STOP_BAND))
            differences = _compare_outputs(wanted, got, atol)
            count, agreements = 0, []
            for index in range(len(images)):
                size = images.shape[1:3]
                ours, theirs = ({name: values[name][index] for name in OUTPUTS} for values in (wanted, got))
                _compare_instances(ours, theirs, size=size, atol=atol, thresholds=thresholds)
                found = [decode(**outputs, size=size, class_names=(), **thresholds) for outputs in (ours, theirs)]
                agreements.append(agreement(*found))
                count += len(found[1])
            mean = float(np.mean(agreements))
            if mean < min_agreement:
                raise VerificationError(f"expected instances that agree to {min_agreement:g}. Received: {mean:.3f}")
        except VerificationError as error:
            raise VerificationError(f"for the input {images.shape}, {error}") from None
        cases.append(Case(shape=images.shape, differences=differences, instances=count, agreement=mean))
    return cases


def _shorten(wanted: dict[str, Array], got: dict[str, Array], threshold: float) -> dict[str, Array]:
    """Cuts the wanted outputs where a file that stops early did, if the Keras model's sequences end there too."""
    taken = got["stop"].shape[1] if "stop" in got and got["stop"].ndim == 2 else 0
    ended = np.logical_or.accumulate(wanted["stop"] < threshold, axis=1).all(axis=0)  # (T,)
    if 0 < taken < len(ended) and ended[taken - 1]:
        return {name: value[:, :taken] for name, value in wanted.items()}
    return wanted


def _compare_outputs(wanted: dict[str, Array], got: dict[str, Array], atol: float) -> dict[str, float]:
    """Returns the largest difference of each output."""
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
    thresholds: dict[str, float],
) -> None:
    """Compares the instances of one picture.

    What lies within `atol` of a threshold may fall on either side of it.

    Raises:
        VerificationError: without the place, which the caller knows.
    """

    def decoded(outputs: dict[str, Array], shift: float = 0.0) -> dict[int, Instance]:
        # Moving the masks instead of the threshold allows a band that goes beyond 0 or 1.
        found = decode(
            **{**outputs, "masks": outputs["masks"] - np.float32(shift)},
            size=size,
            class_names=(),
            stop_threshold=thresholds["stop_threshold"],
            mask_threshold=thresholds["mask_threshold"],
        )
        return {instance.step: instance for instance in found if instance.step < sure}

    doubtful = np.abs(wanted["stop"] - thresholds["stop_threshold"]) <= atol
    sure = int(np.argmax(doubtful)) if doubtful.any() else len(doubtful)
    band = 1.01 * atol + 1e-6  # resizing the masks rounds too
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


def report(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Returns the comparisons as plain values for the JSON file."""
    return [dataclasses.asdict(case) for case in cases]
