"""Runs an exported model: numpy, Pillow and onnxruntime, no TensorFlow. An application may ship this one file.

from rsis_tf.runtime import Predictor

predictor = Predictor("model.onnx")
for instance in predictor(image):  # image: (H, W, 3) uint8, any size
    print(instance.step, instance.class_name, instance.score, instance.mask.sum())
"""

import contextlib
import dataclasses
import itertools
import json
import numbers
import os
import pathlib
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def check_batch(images: Any, fixed: int | None) -> int:
    """Returns B of a (B, h, w, 3) uint8 array; `fixed` is the batch that a graph always takes.

    Raises:
        RuntimeInputError: for anything else, or more images than `fixed`.
    """
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        received = (
            f"shape {images.shape}, dtype {images.dtype}" if isinstance(images, np.ndarray) else type(images).__name__
        )
        raise RuntimeInputError(f"images must be a (B, h, w, 3) uint8 RGB array. Received: {received}")
    if images.size == 0 or (fixed is not None and len(images) > fixed):
        most = "at least one image" if fixed is None else f"1 to {fixed} images"
        raise RuntimeInputError(f"images must hold {most}. Received: shape {images.shape}")
    return len(images)


def each_image(images: Any) -> Iterator[Any]:
    """Returns an iterator over images, which `check_image` has not seen yet.

    Raises:
        RuntimeInputError: for something that holds no images, or for one image in place of several.
    """
    if isinstance(images, Iterable) and not isinstance(images, str | bytes | dict | np.ndarray):
        return iter(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return iter(images)
    received = f"one array of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    raise RuntimeInputError(f"images must be a sequence of (H, W, 3) uint8 RGB arrays. Received: {received}")


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
    draw: Callable[[Array, tuple[int, int], float], Array] | None = None,
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
        draw: makes the mask of one step, (h, w) probabilities, (H, W), `mask_threshold` → (H, W) bool; None for
            bilinear resizing and the threshold.

    Returns:
        The instances; those without a pixel are left out.

    Raises:
        RuntimeInputError: for shapes that do not belong together, a threshold outside 0 … 1, or an unknown `stop_mode`
            or `aspect`.
    """
    check_options(stop_mode=stop_mode, stop_threshold=stop_threshold, mask_threshold=mask_threshold, aspect=aspect)
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
        mask = (draw or _draw)(masks[step], size, mask_threshold)  # (H, W)
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


def check_options(
    *,
    providers: str | Sequence[str | tuple[str, dict]] | None = None,
    threads: int | None = None,
    stop_mode: str = "first",
    stop_threshold: float | None = None,
    mask_threshold: float | None = None,
    image_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    aspect: str = "stretch",
) -> None:
    """Checks the options that every predictor takes, see `Predictor`; None stands for the default.

    Raises:
        RuntimeInputError: for a value of another type or out of range; the message names the option.
    """
    if not isinstance(stop_mode, str) or stop_mode not in STOP_MODES:
        raise RuntimeInputError(f"stop_mode must be one of {', '.join(STOP_MODES)}. Received: {stop_mode!r}")
    if not isinstance(aspect, str) or aspect not in ASPECTS:
        raise RuntimeInputError(f"aspect must be one of {', '.join(ASPECTS)}. Received: {aspect!r}")
    for name, value in (("stop_threshold", stop_threshold), ("mask_threshold", mask_threshold)):
        # NaN fails the comparison.
        if value is not None and not (_is_number(value, numbers.Real) and 0 <= value <= 1):
            raise RuntimeInputError(f"{name} must be a number in 0..1. Received: {name}={value!r}")
    for name, value in (("threads", threads), ("batch_size", batch_size)):
        if value is not None and not (_is_number(value, numbers.Integral) and value >= 1):
            raise RuntimeInputError(f"{name} must be a positive integer. Received: {value!r}")
    if image_size is not None:
        sides = tuple(image_size) if isinstance(image_size, Sequence | np.ndarray) else ()
        if len(sides) != 2 or not all(_is_number(side, numbers.Integral) and side >= 1 for side in sides):
            raise RuntimeInputError(
                f"image_size must be two positive integers (height, width). Received: {image_size!r}"
            )
    _provider_entries(providers)


class Predictor:
    """Pictures in, instances out, from a file that `python -m export.onnx` wrote.

    One predictor may be used by several threads at once; it keeps nothing between calls.

    Args:
        path: the .onnx file, or the folder of an export in the layout `stepwise`.
        providers: where to compute, best first: "cpu", "cuda", "tensorrt", ONNX Runtime's own names, or
            (name, options) pairs; one name stands for a list of it. Default: the CPU. One that is unavailable is an
            error, never replaced.
        threads: CPU threads for one call; default: one for each core.
        stop_mode: "first" or "each", see `decode`.
        stop_threshold, mask_threshold: see `decode`; default: those in the file.
        image_size: (h, w) the network runs at; default: the one in the file. Files of a fixed size take no other.
        batch_size: pictures in one run of `batch` and `stream`; files of a fixed batch take no other.

    Attributes:
        class_names: K names, the first of them "background"; empty if the file holds none.
        category_ids: K numbers by which COCO files call the classes, 0 for background; empty if the file holds none.
        aspect: "stretch" or "keep", see `resize_image`; files that do not say stretch.
        metadata: what the exporter wrote into the file, as text.
        stop_threshold: objectness from which a step holds an object.
        mask_threshold: probability from which a pixel belongs to an object.
        draw: see `decode`; None unless set.

    Raises:
        RuntimeInputError: for a file that is missing, broken or not of this project, or an option out of range; in
            calls, for something that is not an image, and when ONNX Runtime fails.
    """

    draw: Callable[[Array, tuple[int, int], float], Array] | None = None

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        providers: str | Sequence[str | tuple[str, dict]] | None = None,
        threads: int | None = None,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        mask_threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise RuntimeInputError(f"path must be a string or a path. Received: path={path!r}")
        self.path = pathlib.Path(path)
        check_options(
            providers=providers,
            threads=threads,
            stop_mode=stop_mode,
            stop_threshold=stop_threshold,
            mask_threshold=mask_threshold,
            image_size=image_size,
            batch_size=batch_size,
        )
        self._graph = open_graph(self.path, providers=providers, threads=threads)
        self._input = self._check_graph()
        self.metadata: dict[str, str] = dict(self._graph.get_modelmeta().custom_metadata_map)
        self.class_names = tuple(self._read("class_names", list))
        # Older files have none.
        self.category_ids = tuple(self._read("category_ids", list)) if "category_ids" in self.metadata else ()
        size = tuple(self._read("image_size", list))
        check_options(image_size=size, aspect=self.metadata.get("aspect", "stretch"))
        image_size = None if image_size is None else tuple(map(int, image_size))
        self.image_size = _only("image_size", image_size, None if self._read("dynamic_size") else size) or size
        self.aspect = self.metadata.get("aspect", "stretch")
        self._fixed_batch = self._input.shape[0] if isinstance(self._input.shape[0], int) else None
        self.batch_size = int(_only("batch_size", batch_size, self._fixed_batch) or 8)
        self.stop_threshold = self._threshold("stop_threshold", stop_threshold)
        self.mask_threshold = self._threshold("mask_threshold", mask_threshold)
        self._decoding = {
            "class_names": self.class_names,
            "stop_threshold": self.stop_threshold,
            "mask_threshold": self.mask_threshold,
            "stop_mode": stop_mode,
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
        images = each_image(images)
        while chunk := list(itertools.islice(images, self.batch_size)):
            sizes = [check_image(image).shape[:2] for image in chunk]
            outputs = self.run(np.stack([resize_image(image, self.image_size, self.aspect) for image in chunk]))
            for size, *output in zip(sizes, *outputs, strict=True):
                yield decode(*output, size=size, draw=self.draw, **self._decoding)

    def run(self, images: Array) -> tuple[Array, Array, Array]:
        """Runs the graph alone.

        Args:
            images: (B, h, w, 3) uint8, at a size the graph takes.

        Returns:
            masks (B, T, h, w), classes (B, T, K) and stop (B, T): probabilities, float32; fewer than T steps from a
            file that stops early.

        Raises:
            RuntimeInputError: for other arrays, and when ONNX Runtime fails.
        """
        count = check_batch(images, self._fixed_batch)
        if self._fixed_batch is not None:  # the places left over are filled with black pictures
            images = np.pad(images, [(0, self._fixed_batch - count), (0, 0), (0, 0), (0, 0)])
        feed = images.astype(np.float32 if self._input.type == "tensor(float)" else np.uint8, copy=False)
        with _failures(f"expected ONNX Runtime to run {self.path} on an input of shape {feed.shape}"):
            outputs = self._graph.run(list(OUTPUTS), {self._input.name: feed}, _quiet_run())
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

    def _threshold(self, name: str, asked: float | None) -> float:
        if asked is not None:
            return float(asked)
        value = self._read(name, int | float)
        check_options(**{name: value})
        return float(value)

    def _read(self, key: str, kind: Any = object) -> Any:
        try:
            value = json.loads(self.metadata[key])
            if not isinstance(value, kind):
                raise ValueError
            return value
        except (KeyError, ValueError):
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
        steps = self._encoder.get_modelmeta().custom_metadata_map.get("num_steps")
        if steps is None or not steps.isdecimal():
            raise RuntimeInputError(
                "expected the folder of a stepwise export, with 'num_steps' in its metadata. "
                f"Received: {folder} with {steps!r}"
            )
        self._steps = int(steps)
        on_gpu = self._encoder.get_providers()[0] in ("CUDAExecutionProvider", "TensorrtExecutionProvider")
        self._device = "cuda" if on_gpu else "cpu"
        self.get_inputs, self.get_modelmeta = self._encoder.get_inputs, self._encoder.get_modelmeta

    def get_outputs(self) -> list[Any]:
        """Returns the outputs of one step under the names of the whole."""
        return [types.SimpleNamespace(name=name) for name in OUTPUTS]

    def run(self, names: Sequence[str], feed: dict[str, Array], run_options: Any = None) -> list[Array]:
        """Does what `InferenceSession.run` does, with as many steps as it takes."""
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("image", np.ascontiguousarray(feed["image"]))
        values = self._bound(self._encoder, binding, run_options, on_device=True)
        ended = np.zeros(len(feed["image"]), bool)
        found: list[list[Array]] = []
        while len(found) < self._steps and not ended.all():
            binding = self._step.io_binding()
            for wanted in self._step.get_inputs():
                binding.bind_ortvalue_input(wanted.name, values[wanted.name])
            made = self._bound(self._step, binding, run_options, on_device=False)
            values |= {name.removeprefix("next_"): value for name, value in made.items() if name.startswith("next_")}
            found.append([made[name].numpy() for name in ("mask", "classes_of_step", "stop_of_step")])
            if self.stop_threshold is not None:
                ended |= ~(found[-1][2] >= self.stop_threshold)
        outputs = dict(zip(OUTPUTS, (np.stack(steps, axis=1) for steps in zip(*found, strict=True)), strict=True))
        return [outputs[name] for name in names]

    def _bound(self, session: Any, binding: Any, run_options: Any, *, on_device: bool) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name, self._device if on_device or name.startswith("next_") else "cpu")
        session.run_with_iobinding(binding, run_options)
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
    try:
        import onnxruntime  # here, so that decoding works without it and importing this module stays quick
    except ImportError as error:
        raise RuntimeInputError(
            'running ONNX files needs one ONNX Runtime: pip install "rsis_tf[cpu]", or, for NVIDIA GPUs, '
            f'pip install "rsis_tf[runtime-gpu]". Received: {error}'
        ) from None
    if not path.is_file():
        raise RuntimeInputError(f"expected an ONNX file. Received: {path}, which is not a file")
    check_options(providers=providers, threads=threads)
    asked = _provider_entries(providers)
    names = [name for name, _ in asked]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    if missing:
        # A CUDA provider that is lost: onnxruntime lies over onnxruntime-gpu, or is there alone.
        gpu = ' (for NVIDIA GPUs, in a new environment: pip install "rsis_tf[runtime-gpu]")'
        raise RuntimeInputError(
            f"expected providers of the installed onnxruntime, {onnxruntime.get_available_providers()}"
            f"{gpu if any('CUDA' in name or 'Tensorrt' in name for name in missing) else ''}. Received: {missing}"
        )
    if any("CUDA" in name or "Tensorrt" in name for name in names) and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads or 0)
    with _failures(f"expected an ONNX file that loads on {names[0]}", f"{path} "):
        session = onnxruntime.InferenceSession(str(path), options, providers=asked, enable_fallback=0)
    if session.get_providers()[: len(names)] != names:
        raise RuntimeInputError(
            f"expected {names}, but not all of them start here. Received: {session.get_providers()}"
        )
    return session


def _provider_entries(providers: str | Sequence[str | tuple[str, dict]] | None) -> list[tuple[str, dict]]:
    """Returns (ONNX Runtime's name, options) pairs; those of the CPU for None."""
    short = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
    if providers is None:
        providers = ["cpu"]
    pairs = []
    for entry in [providers] if isinstance(providers, str) else _sequence(providers):
        name, options = (entry, {}) if isinstance(entry, str) else entry if _is_pair(entry) else (None, None)
        if not isinstance(name, str) or not isinstance(options, dict):
            pairs = []
            break
        pairs.append((short.get(name.lower(), name), dict(options)))
    if not pairs:
        raise RuntimeInputError(
            f"providers must be a name, or a list of names and (name, options) pairs. Received: {providers!r}"
        )
    return pairs


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def _quiet_run() -> Any:
    """Options of one run: what fails arrives as an exception, so ONNX Runtime need not print it too."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # fatal errors alone
    return options


@contextlib.contextmanager
def _failures(expected: str, received: str = "") -> Iterator[None]:
    """Turns what ONNX Runtime raises into a `RuntimeInputError` of one line."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    own = tuple(value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception))
    try:
        yield
    except (*own, ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RuntimeInputError(
            f"{expected}. Received: {received}({reason})" if received else f"{expected}. Received: {reason}"
        ) from None


def _draw(mask: Array, size: tuple[int, int], threshold: float) -> Array:
    return _resize_mask(mask, size) >= threshold


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
