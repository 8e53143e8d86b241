"""One way to predict with any model file: picture in, instances out."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from export.runtime import ASPECTS, Instance, Predictor, RuntimeInputError, check_image, decode, resize_image
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

_KINDS = {".keras": "keras", ".onnx": "onnx", ".tflite": "tflite"}
_CHECKPOINT = ("encoder.pt", "decoder.pt", "args.pkl")
MODEL_HELP = (
    "a run's folder, a .keras, .onnx or .tflite file, the folder of a SavedModel or of a stepwise ONNX export, or a "
    f"checkpoint's folder of the original code ({', '.join(_CHECKPOINT)})"
)


def find_model(path: str | pathlib.Path) -> tuple[str, pathlib.Path]:
    """Tells what kind of model lies at a path, by names alone.

    Args:
        path: see `open_predictor`.

    Returns:
        "keras", "onnx", "tflite", "saved_model" or "pytorch", and the file or folder to open: `best.keras` for a run's
        folder, otherwise the path.

    Raises:
        InputError: if there is none.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if (path / "best.keras").is_file():
            return "keras", path / "best.keras"
        if (path / "saved_model.pb").is_file():
            return "saved_model", path
        if (path / "step.onnx").is_file():
            return "onnx", path
        if any((path / name).is_file() for name in _CHECKPOINT):
            return "pytorch", path
        raise InputError(
            "expected a run's folder with best.keras in it, a SavedModel, a stepwise ONNX export, or a checkpoint of "
            f"the original code ({', '.join(_CHECKPOINT)}). Received: {path}"
        )
    if not path.is_file():
        raise InputError(f"expected a run's folder or a model file. Received: {path}, which is not there")
    if path.suffix.lower() not in _KINDS:
        raise InputError(f"expected a run's folder or a model file ({', '.join(_KINDS)}). Received: {path}")
    return _KINDS[path.suffix.lower()], path


def model_file(path: str | pathlib.Path) -> pathlib.Path:
    """Returns the model file that a path means: the file itself, or `best.keras` of a run's folder.

    Raises:
        InputError: if there is none.
    """
    return find_model(path)[1]


def load_model(path: str | pathlib.Path) -> "RSIS":
    """Reads a Keras model from a `.keras` file, a run's folder, or a checkpoint's folder of the original code.

    Raises:
        InputError: if it is not there, broken, or not a model of this project.
    """
    kind, path = find_model(path)
    if kind == "pytorch":
        return _load_checkpoint(path)
    if kind != "keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    from rsis_tf.models import RSIS  # first: it starts Keras without notices

    import keras  # isort: skip

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what it stumbled on: zip, JSON, HDF5, key and value errors
        raise InputError(f"expected a whole model file of rsis_tf. Received: {path} ({_reason(error)})") from None
    if not isinstance(model, RSIS):
        raise InputError(f"expected a model of rsis_tf. Received: a {type(model).__name__} in {path}")
    return model


def open_predictor(
    path: str | pathlib.Path,
    *,
    stop_mode: str = "first",
    stop_threshold: float | None = None,
    batch_size: int | None = None,
) -> "Predictor | KerasPredictor | ExportedPredictor":
    """Opens a model file of any kind.

    Args:
        path: a run's folder, a `.keras` file, or a folder with the original's `encoder.pt`, `decoder.pt` and
            `args.pkl` (converted in memory; needs PyTorch): run by Keras; a SavedModel: run by TensorFlow; `.onnx`:
            run by ONNX Runtime; `.tflite`: run by LiteRT. The last two need neither Keras nor TensorFlow.
        stop_mode: "first" ends the sequence at the first step without an object, as in the paper; "each" judges each
            step alone, as the original's evaluation does.
        stop_threshold: probability from which there is an object; default: what the model or the file says.
        batch_size: pictures in one run of `stream`; default: what the file is made for, else 8.

    Returns:
        A callable, (H, W, 3) uint8 of any size → instances in predicted order; `stream` takes many pictures.

    Raises:
        InputError: if the file cannot be used.
    """
    kind, path = find_model(path)
    if stop_threshold is not None and not 0 <= stop_threshold <= 1:
        raise InputError(f"stop_threshold must be in 0..1. Received: stop_threshold={stop_threshold:g}")
    options = {"stop_mode": stop_mode, "stop_threshold": stop_threshold, "batch_size": batch_size}
    try:
        if kind == "onnx":
            return Predictor(path, **options)
        if kind in ("tflite", "saved_model"):
            return ExportedPredictor(path, **options)
        return KerasPredictor(path, **options)
    except RuntimeInputError as error:
        raise InputError(str(error)) from None


class _Streaming:
    """What predictors share: pictures of any size to the network's size, batches, outputs to instances.

    Attributes:
        class_names: K names, the first of them "background"; empty if the model knows none.
        image_size: (h, w) the network runs at.
        aspect: "stretch" or "keep", see `export.runtime.resize_image`.
        batch_size: pictures in one run of `stream`.
        stop_threshold: objectness from which a step holds an object.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    aspect: str
    batch_size: int
    stop_threshold: float
    _decoding: dict[str, Any]

    def __call__(self, image: np.ndarray) -> list[Instance]:
        """Predicts one picture: (H, W, 3) uint8 of any size → its instances in predicted order."""
        return next(self.stream([image]))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[list[Instance]]:
        """Predicts pictures of any sizes as they come, `batch_size` at a time, and holds no more than those."""
        images = iter(images)
        while chunk := list(itertools.islice(images, self.batch_size)):
            sizes = [check_image(image).shape[:2] for image in chunk]
            outputs = self.run(
                np.stack([resize_image(image, self.image_size, self.aspect) for image in chunk])  # (B, h, w, 3)
            )
            for size, *output in zip(sizes, *outputs, strict=True):
                yield decode(*output, size=size, class_names=self.class_names, aspect=self.aspect, **self._decoding)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs the network alone: (B, h, w, 3) → masks (B, T, h, w), classes (B, T, K), stop (B, T), probabilities."""
        raise NotImplementedError


class KerasPredictor(_Streaming):
    """Predicts with a Keras model as `export.runtime.Predictor` does with an ONNX file: same input, same instances.

    Args:
        model: a model, or a path that `load_model` takes.
        stop_mode, stop_threshold, batch_size: see `open_predictor`.
    """

    def __init__(
        self,
        model: "RSIS | str | pathlib.Path",
        *,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.model = load_model(model) if isinstance(model, str | pathlib.Path) else model
        self.class_names = self.model.config.class_names
        self.image_size = self.model.config.image_size
        self.aspect = self.model.config.aspect
        self.batch_size = batch_size or 8
        stored = self.model.config.stop_threshold
        self.stop_threshold = stored if stop_threshold is None else stop_threshold
        self._decoding = {"stop_mode": stop_mode, "stop_threshold": self.stop_threshold}

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs = self.model.predict_on_batch(images)
        return _sigmoid(outputs["mask_logits"]), outputs["class_probs"], _sigmoid(outputs["stop_logits"])


class ExportedPredictor(_Streaming):
    """Predicts with a SavedModel or a TFLite file; the JSON file that its exporter wrote must lie beside it.

    A TFLite file is for one thread at a time.

    Args:
        path: the folder or file.
        stop_mode, stop_threshold, batch_size: see `open_predictor`.

    Raises:
        InputError: for a file that is broken or not of this project, or a batch size it does not take.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        *,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        batch_size: int | None = None,
    ) -> None:
        path = pathlib.Path(path)
        side = path.with_name(path.name + ".json")
        try:
            self.metadata: dict[str, Any] = json.loads(side.read_text(encoding="utf-8"))
            fixed, self._dtype = self.metadata["input"]["shape"][0], np.dtype(self.metadata["input"]["dtype"])
            self.class_names = tuple(self.metadata["class_names"])
            self.image_size = tuple(self.metadata["image_size"])
            self.aspect = self.metadata.get("aspect", "stretch")
            stored = self.metadata["stop_threshold"]
            self._decoding = {"mask_threshold": self.metadata["mask_threshold"]}
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"expected the JSON file that the exporter writes beside {path.name}. Received: {side} "
                f"({_reason(error)})"
            ) from None
        if self.aspect not in ASPECTS:
            raise InputError(f"aspect must be one of {', '.join(ASPECTS)}. Received: {self.aspect!r} in {side}")
        self.stop_threshold = stored if stop_threshold is None else stop_threshold
        self._decoding |= {"stop_mode": stop_mode, "stop_threshold": self.stop_threshold}
        self._fixed_batch = fixed if isinstance(fixed, int) else None
        if self._fixed_batch and batch_size not in (None, self._fixed_batch):
            raise InputError(f"this file takes batches of {fixed} alone. Received: batch size {batch_size}, {path}")
        self.batch_size = self._fixed_batch or batch_size or 8
        self._run = _open_graph(path)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(images)
        if self._fixed_batch:  # the places left over are filled with black pictures
            images = np.pad(images, [(0, self._fixed_batch - count), (0, 0), (0, 0), (0, 0)])
        outputs = self._run(images.astype(self._dtype, copy=False))
        masks, classes, stop = (np.asarray(outputs[name])[:count] for name in ("masks", "classes", "stop"))
        return masks, classes, stop


def _open_graph(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    expected = "a SavedModel of export.saved_model" if path.is_dir() else "a file of export.tflite"
    if path.is_dir():
        from rsis_tf.engine import quiet_start

        quiet_start()
        from export.saved_model import open_run
    else:
        from export.tflite import open_run
    try:
        return open_run(path)
    except ImportError as error:
        raise InputError(f'running {path} needs pip install "rsis_tf[train]". Received: {error}') from None
    except Exception as error:  # whatever the reader stumbled on
        raise InputError(f"expected {expected} that can be read. Received: {path} ({_reason(error)})") from None


def _load_checkpoint(folder: pathlib.Path) -> "RSIS":
    from rsis_tf.models.convert_pytorch import config_from_arguments, load_state_dicts
    from rsis_tf.models.torch_checkpoint import read_arguments, read_state

    config = config_from_arguments(read_arguments(folder / "args.pkl"))
    states = read_state(folder / "encoder.pt"), read_state(folder / "decoder.pt")
    from rsis_tf.models import build_model

    model = build_model(config)
    load_state_dicts(model, *states)
    return model


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh: exact at both ends, without the overflow of exp.
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float32)))
