"""Runs an exported model: numpy, Pillow and onnxruntime, no TensorFlow. An application may ship this one file.

from export.runtime import Predictor

predictor = Predictor("model.onnx")
for instance in predictor(image):  # image: (H, W, 3) uint8, any size
    print(instance.step, instance.class_name, instance.score, instance.mask.sum())
"""

import dataclasses
import itertools
import json
import os
import pathlib
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray
STOP_MODES = ("first", "each")
OUTPUTS = ("masks", "classes", "stop")
ASPECTS = ("stretch", "keep")
"""How an image of another shape fills the network's frame: scaled on each axis, or scaled as a whole and padded."""


class RuntimeInputError(ValueError):
    """A file, image or option this module cannot work with; the message is one line that ends in what was received."""


@dataclasses.dataclass(frozen=True, eq=False)
class Instance:
    """One predicted object.

    Attributes:
        mask: (H, W) bool, at the size of the picture given.
        class_id: 1 … K−1.
        class_name: name of the class.
        score: class probability × objectness.
        step: t, place in the predicted sequence, from 0.
        objectness: probability that step t holds an object.
        class_probs: (K,) float32, probabilities of all classes, 0 = background.
    """

    mask: Array
    class_id: int
    class_name: str
    score: float
    step: int
    objectness: float
    class_probs: Array


def check_image(image: Any) -> Array:
    """Returns the picture unchanged if it is an (H, W, 3) uint8 array with at least one pixel.

    Raises:
        RuntimeInputError: for anything else.
    """
    if not isinstance(image, np.ndarray):
        raise RuntimeInputError(f"an image must be an (H, W, 3) uint8 RGB array. Received: {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise RuntimeInputError(
            f"an image must be an (H, W, 3) uint8 RGB array. Received: shape {image.shape}, dtype {image.dtype}"
        )
    return image


def letterbox(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Places an image undistorted in the middle of a frame, as large as it fits.

    Whole numbers throughout, so that every language gives the same.

    Args:
        source: (H, W) of the image.
        size: (h, w) of the frame.

    Returns:
        (top, left, height, width) of the image in the frame; height and width are rounded half up, at least 1.
    """
    (source_height, source_width), (height, width) = source, size
    if source_height * width >= source_width * height:
        inner = height, max((2 * source_width * height + source_height) // (2 * source_height), 1)
    else:
        inner = max((2 * source_height * width + source_width) // (2 * source_width), 1), width
    return (height - inner[0]) // 2, (width - inner[1]) // 2, *inner


def resize_image(image: Array, size: tuple[int, int], aspect: str = "stretch") -> Array:
    """Scales an image with an antialiased triangle filter, the one every predictor of the project uses.

    Args:
        image: (H, W, 3) uint8.
        size: (h, w) of the result.
        aspect: "stretch" scales each axis by itself; "keep" keeps the shape and pads with black (`letterbox`).

    Returns:
        (h, w, 3) uint8.
    """
    height, width = size
    if check_image(image).shape[:2] == (height, width):
        return image
    if aspect == "keep":
        top, left, *inner = letterbox(image.shape[:2], size)
        frame = np.zeros((height, width, 3), np.uint8)
        frame[top : top + inner[0], left : left + inner[1]] = resize_image(image, tuple(inner))
        return frame
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def decode(
    masks: Array,
    classes: Array,
    stop: Array,
    *,
    size: tuple[int, int],
    class_names: Sequence[str],
    stop_threshold: float = 0.5,
    mask_threshold: float = 0.5,
    stop_mode: str = "first",
    aspect: str = "stretch",
) -> list[Instance]:
    """Turns the network's output for one picture into instances, in predicted order.

    Args:
        masks: (T, h, w) probabilities.
        classes: (T, K) probabilities, 0 = background.
        stop: (T,) objectness, the probability that a step holds an object.
        size: (H, W) of the picture; each mask is scaled to it before the threshold.
        class_names: K names, or none at all (then "class 1", "class 2", …).
        stop_threshold: a step below it holds no object.
        mask_threshold: a pixel belongs to the object from this probability on.
        stop_mode: "first" ends the sequence at the first step below `stop_threshold` (paper, section 3.2);
            "each" judges every step by itself, as the original's evaluation does.
        aspect: how the image came to (h, w), see `resize_image`; with "keep" the padding is cut off each mask first.

    Returns:
        The instances; those without a pixel are left out.

    Raises:
        RuntimeInputError: for shapes that do not belong together, or an unknown `stop_mode` or `aspect`.
    """
    _one_of("stop_mode", stop_mode, STOP_MODES)
    _one_of("aspect", aspect, ASPECTS)
    masks, classes, stop = np.asarray(masks), np.asarray(classes), np.asarray(stop)
    if masks.ndim != 3 or classes.shape[:1] != masks.shape[:1] or classes.ndim != 2 or stop.shape != masks.shape[:1]:
        raise RuntimeInputError(
            "masks, classes and stop must have the shapes (T, h, w), (T, K) and (T,). "
            f"Received: {masks.shape}, {classes.shape} and {stop.shape}"
        )
    if classes.shape[1] < 2 or len(class_names) not in (0, classes.shape[1]):
        raise RuntimeInputError(
            f"expected a name for each class, background included. Received: {len(class_names)} names, "
            f"{classes.shape[1]} classes"
        )
    if aspect == "keep":
        top, left, height, width = letterbox(size, masks.shape[1:])
        masks = masks[:, top : top + height, left : left + width]
    instances = []
    for step, objectness in enumerate(stop.astype(np.float32)):
        if not objectness >= stop_threshold:  # written so that NaN ends the sequence too
            if stop_mode == "first":
                break
            continue
        mask = _resize_mask(masks[step], size) >= mask_threshold  # (H, W)
        if not mask.any():
            continue
        probs = classes[step].astype(np.float32)  # (K,)
        class_id = 1 + int(np.argmax(probs[1:]))
        instances.append(
            Instance(
                mask=mask,
                class_id=class_id,
                class_name=class_names[class_id] if class_names else f"class {class_id}",
                score=float(probs[class_id]) * float(objectness),
                step=step,
                objectness=float(objectness),
                class_probs=probs,
            )
        )
    return instances


class Predictor:
    """Pictures in, instances out, from a file that `python -m export.onnx` wrote.

    One predictor may be used by several threads at once; it keeps nothing between calls.

    Args:
        path: the .onnx file, or the folder of an export in the layout `stepwise`.
        providers: where to compute, best first: "cpu", "cuda", "tensorrt", ONNX Runtime's own names, or
            (name, options) pairs. Default: the CPU. One that is not to be had is an error, never replaced.
        threads: CPU threads for one call; default: one for each core.
        stop_mode: "first" or "each", see `decode`.
        stop_threshold, mask_threshold: see `decode`; default: those in the file.
        image_size: (h, w) the network runs at; default: the one in the file. Files of a fixed size take no other.
        batch_size: pictures in one run of `batch` and `stream`; files of a fixed batch take no other.

    Attributes:
        class_names: K names, the first of them "background"; empty if the file holds none.
        aspect: "stretch" or "keep", see `resize_image`; files that do not say stretch.
        metadata: what the exporter wrote into the file, as text.
        stop_threshold: objectness from which a step holds an object.

    Raises:
        RuntimeInputError: for a file that is missing, broken or not of this project, or an option out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        providers: Sequence[str | tuple[str, dict]] | None = None,
        threads: int | None = None,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        mask_threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.path = pathlib.Path(path)
        self._graph = open_graph(self.path, providers=providers, threads=threads)
        self._input = self._check_graph()
        self.metadata: dict[str, str] = dict(self._graph.get_modelmeta().custom_metadata_map)
        self.class_names = tuple(self._read("class_names"))
        size = tuple(self._read("image_size"))
        self.image_size = _only("image_size", image_size, None if self._read("dynamic_size") else size) or size
        self.aspect = _one_of("the file's aspect", self.metadata.get("aspect", "stretch"), ASPECTS)
        self._fixed_batch = self._input.shape[0] if isinstance(self._input.shape[0], int) else None
        self.batch_size = _only("batch_size", batch_size, self._fixed_batch) or 8
        self.stop_threshold = self._read("stop_threshold") if stop_threshold is None else stop_threshold
        self._decoding = {
            "class_names": self.class_names,
            "stop_threshold": self.stop_threshold,
            "mask_threshold": self._read("mask_threshold") if mask_threshold is None else mask_threshold,
            "stop_mode": _one_of("stop_mode", stop_mode, STOP_MODES),
            "aspect": self.aspect,
        }
        if stop_mode == "each" and self.metadata.get("layout") == "loop":
            raise RuntimeInputError(f"a file of the layout loop stops by itself. Received: stop_mode='each' for {path}")
        if self.metadata.get("layout") == "loop" and self.stop_threshold < self._read("stop_threshold"):
            raise RuntimeInputError(
                f"a file of the layout loop ends at its own stop_threshold, {self._read('stop_threshold')}, and can be "
                f"asked to end no later. Received: stop_threshold={self.stop_threshold}"
            )
        if isinstance(self._graph, Stepwise) and stop_mode == "first":
            self._graph.stop_threshold = self.stop_threshold

    def __call__(self, image: Array) -> list[Instance]:
        """Predicts one picture: (H, W, 3) uint8 of any size → its instances in predicted order."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[Array]) -> list[list[Instance]]:
        """Predicts pictures of any sizes, `batch_size` at a time; the answers come in the order of the pictures."""
        return list(self.stream(images))

    def stream(self, images: Iterable[Array]) -> Iterator[list[Instance]]:
        """Predicts pictures as they come, `batch_size` at a time, and holds no more than those."""
        images = iter(images)
        while chunk := list(itertools.islice(images, self.batch_size)):
            sizes = [check_image(image).shape[:2] for image in chunk]
            outputs = self.run(np.stack([resize_image(image, self.image_size, self.aspect) for image in chunk]))
            for size, *output in zip(sizes, *outputs, strict=True):
                yield decode(*output, size=size, **self._decoding)

    def run(self, images: Array) -> tuple[Array, Array, Array]:
        """Runs the graph alone.

        Args:
            images: (B, h, w, 3) uint8, at a size the graph takes.

        Returns:
            masks (B, T, h, w), classes (B, T, K) and stop (B, T): probabilities, float32; fewer than T steps from a
            file that stops early.
        """
        count = len(images)
        if self._fixed_batch is not None:  # the places left over are filled with black pictures
            images = np.pad(images, [(0, self._fixed_batch - count), (0, 0), (0, 0), (0, 0)])
        feed = images.astype(np.float32 if self._input.type == "tensor(float)" else np.uint8, copy=False)
        outputs = self._graph.run(list(OUTPUTS), {self._input.name: feed})
        masks, classes, stop = (output[:count].astype(np.float32, copy=False) for output in outputs)
        return masks, classes, stop

    def _check_graph(self) -> Any:
        inputs, outputs = self._graph.get_inputs(), [output.name for output in self._graph.get_outputs()]
        ours = len(inputs) == 1 and inputs[0].name == "image" and len(inputs[0].shape) == 4
        if not ours or not set(OUTPUTS) <= set(outputs):
            raise RuntimeInputError(
                "expected a model written by export.onnx, with the input image and the outputs masks, classes, stop. "
                f"Received: {self.path} with {[node.name for node in inputs]} and {outputs}"
            )
        return inputs[0]

    def _read(self, key: str) -> Any:
        try:
            return json.loads(self.metadata[key])
        except (KeyError, json.JSONDecodeError):
            raise RuntimeInputError(
                f"expected a model written by export.onnx, with {key!r} in its metadata. "
                f"Received: {self.path} with {self.metadata.get(key)!r}"
            ) from None


class Stepwise:
    """An encoder and a step graph behind the interface of one session: ends when no picture has an object left.

    What passes from step to step stays on the device that computes.

    Args:
        folder: with `encoder.onnx` and `step.onnx`.
        providers, threads: see `Predictor`.

    Attributes:
        stop_threshold: objectness under which a picture's sequence has ended; None to take all steps.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        providers: Sequence[str | tuple[str, dict]] | None = None,
        threads: int | None = None,
    ) -> None:
        self._encoder, self._step = (
            open_session(folder / name, providers=providers, threads=threads) for name in ("encoder.onnx", "step.onnx")
        )
        self.stop_threshold: float | None = None
        self._steps = int(self._encoder.get_modelmeta().custom_metadata_map["num_steps"])
        on_gpu = self._encoder.get_providers()[0] in ("CUDAExecutionProvider", "TensorrtExecutionProvider")
        self._device = "cuda" if on_gpu else "cpu"
        self.get_inputs, self.get_modelmeta = self._encoder.get_inputs, self._encoder.get_modelmeta

    def get_outputs(self) -> list[Any]:
        """Returns the outputs of one step under the names of the whole."""
        return [types.SimpleNamespace(name=name) for name in OUTPUTS]

    def run(self, names: Sequence[str], feed: dict[str, Array]) -> list[Array]:
        """Does what `InferenceSession.run` does, with as many steps as it takes."""
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("image", np.ascontiguousarray(feed["image"]))
        values = self._bound(self._encoder, binding, on_device=True)
        ended = np.zeros(len(feed["image"]), bool)
        found: list[list[Array]] = []
        while len(found) < self._steps and not ended.all():
            binding = self._step.io_binding()
            for wanted in self._step.get_inputs():
                binding.bind_ortvalue_input(wanted.name, values[wanted.name])
            made = self._bound(self._step, binding, on_device=False)
            values |= {name.removeprefix("next_"): value for name, value in made.items() if name.startswith("next_")}
            found.append([made[name].numpy() for name in ("mask", "classes_of_step", "stop_of_step")])
            if self.stop_threshold is not None:
                ended |= ~(found[-1][2] >= self.stop_threshold)
        outputs = dict(zip(OUTPUTS, (np.stack(steps, axis=1) for steps in zip(*found, strict=True)), strict=True))
        return [outputs[name] for name in names]

    def _bound(self, session: Any, binding: Any, *, on_device: bool) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name, self._device if on_device or name.startswith("next_") else "cpu")
        session.run_with_iobinding(binding)
        return dict(zip(names, binding.get_outputs(), strict=True))


def open_graph(
    path: pathlib.Path, *, providers: Sequence[str | tuple[str, dict]] | None = None, threads: int | None = None
) -> Any:
    """Opens an .onnx file, or the folder of a stepwise export.

    Returns:
        An `onnxruntime.InferenceSession`, or a `Stepwise` that looks like one.

    Raises:
        RuntimeInputError: see `open_session`.
    """
    if path.is_dir():
        return Stepwise(path, providers=providers, threads=threads)
    return open_session(path, providers=providers, threads=threads)


def open_session(
    path: pathlib.Path, *, providers: Sequence[str | tuple[str, dict]] | None = None, threads: int | None = None
) -> Any:
    """Opens an ONNX file on exactly the execution providers asked for.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        RuntimeInputError: for a file that is missing or broken, and when a provider asked for does not start
            (ONNX Runtime itself would go on with the CPU).
    """
    import onnxruntime  # here, so that decoding works without it and importing this module stays quick
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    if not path.is_file():
        raise RuntimeInputError(f"expected an ONNX file. Received: {path}, which is not a file")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise RuntimeInputError(f"threads must be a positive integer. Received: {threads!r}")
    asked = [_provider_name(entry) for entry in (providers or ["cpu"])]
    names = [name for name, _ in asked]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    if missing:
        raise RuntimeInputError(
            f"expected providers of the installed onnxruntime, {onnxruntime.get_available_providers()}. "
            f"Received: {missing}"
        )
    if any("CUDA" in name or "Tensorrt" in name for name in names) and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    failures = tuple(
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=asked, enable_fallback=0)
    except (*failures, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RuntimeInputError(
            f"expected an ONNX file that loads on {names[0]}. Received: {path} ({reason})"
        ) from None
    if session.get_providers()[: len(names)] != names:
        raise RuntimeInputError(
            f"expected {names}, but not all of them start here. Received: {session.get_providers()}"
        )
    return session


def _provider_name(entry: str | tuple[str, dict]) -> tuple[str, dict]:
    name, options = (entry, {}) if isinstance(entry, str) else entry
    short = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
    return short.get(name.lower(), name), dict(options)


def _resize_mask(mask: Array, size: tuple[int, int]) -> Array:
    mask = mask.astype(np.float32, copy=False)  # (h, w); uint8 would lose the values around the threshold
    if mask.shape == tuple(size):
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR))  # (H, W)


def _only(name: str, asked: Any, fixed: Any) -> Any:
    asked = tuple(asked) if isinstance(asked, list) else asked
    if asked is not None and fixed is not None and asked != fixed:
        raise RuntimeInputError(f"this file takes {name} {fixed} alone. Received: {asked}")
    return asked if fixed is None else fixed


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise RuntimeInputError(f"{name} must be one of {', '.join(choices)}. Received: {value!r}")
    return value
