"""One way to predict with any model file: image in, instances out."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from export.runtime import check_options
from rsis_tf.errors import InputError
from rsis_tf.prediction.devices import Providers, limit_threads, require_cpu
from rsis_tf.prediction.exported import ExportedPredictor
from rsis_tf.prediction.streaming import OnnxPredictor, Streaming, input_errors, reason_of

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


def load_model(path: str | pathlib.Path) -> "RSIS":
    """Reads a Keras model from a `.keras` file, a run's folder, or a checkpoint's folder of the original code.

    Raises:
        InputError: if it is not there, broken, or not a model of this project.
    """
    kind, path = find_model(path)
    if kind == "pytorch":
        from rsis_tf.models.convert_pytorch import load_checkpoint

        return load_checkpoint(path)
    if kind != "keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    from rsis_tf.models import RSIS  # first: it starts Keras without notices

    import keras  # isort: skip

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what it stumbled on: zip, JSON, HDF5, key and value errors
        raise InputError(f"expected a whole model file of rsis_tf. Received: {path} ({reason_of(error)})") from None
    if not isinstance(model, RSIS):
        raise InputError(f"expected a model of rsis_tf. Received: a {type(model).__name__} in {path}")
    return model


def open_predictor(
    path: str | pathlib.Path,
    *,
    providers: Providers = None,
    threads: int | None = None,
    stop_mode: str = "first",
    stop_threshold: float | None = None,
    mask_threshold: float | None = None,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> "OnnxPredictor | KerasPredictor | ExportedPredictor":
    """Opens a model file of any kind.

    Args:
        path: a run's folder, a `.keras` file, or a folder with the original's `encoder.pt`, `decoder.pt` and
            `args.pkl` (converted in memory): run by Keras; a SavedModel: run by TensorFlow; `.onnx`, or the folder of a
            stepwise export: run by ONNX Runtime; `.tflite`: run by LiteRT. The last two need neither Keras nor
            TensorFlow.
        providers: execution providers of ONNX Runtime, see `export.runtime.Predictor`. Other files run where their own
            library runs: "cpu" is accepted if that is the CPU, anything else is refused.
        threads: CPU threads for one operation; default: as many as the library takes. TensorFlow can be told only
            before it has computed anything in this process.
        stop_mode: "first" ends the sequence at the first step without an object, as in the paper; "each" judges each
            step alone, as the original's evaluation does.
        stop_threshold: probability from which there is an object; default: what the model or the file says.
        mask_threshold: probability from which a pixel belongs to an object; default: what the file says, else 0.5.
        image_size: (height, width) the network runs at; default: what the model or the file says. Files of a fixed
            size take no other.
        batch_size: images in one run of `stream`; default: what the file is made for, else 8.

    Returns:
        A callable, (H, W, 3) uint8 of any size → instances in predicted order; `stream` takes many images.

    Raises:
        InputError: if the file or an option cannot be used; in calls, for something that is not an image, and when the
            library that runs the file fails.
    """
    kind, path = find_model(path)
    options = {
        "providers": providers,
        "threads": threads,
        "stop_mode": stop_mode,
        "stop_threshold": stop_threshold,
        "mask_threshold": mask_threshold,
        "image_size": image_size,
        "batch_size": batch_size,
    }
    if kind == "onnx":
        return OnnxPredictor(path, **options)
    if kind in ("tflite", "saved_model"):
        return ExportedPredictor(path, **options)
    return KerasPredictor(path, **options)


class KerasPredictor(Streaming):
    """Predicts with a Keras model as `export.runtime.Predictor` does with an ONNX file: same input, same instances.

    Args:
        model: a model, or a path that `load_model` takes.
        providers, threads, stop_mode, stop_threshold, mask_threshold, image_size, batch_size: see `open_predictor`.

    Raises:
        InputError: for a model or an option that cannot be used.
    """

    def __init__(
        self,
        model: "RSIS | str | pathlib.Path",
        *,
        providers: Providers = None,
        threads: int | None = None,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        mask_threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        with input_errors():
            check_options(
                providers=providers,
                threads=threads,
                stop_mode=stop_mode,
                stop_threshold=stop_threshold,
                mask_threshold=mask_threshold,
                image_size=image_size,
                batch_size=batch_size,
            )
        given = isinstance(model, str | pathlib.Path)
        self._path = model if given else "the model"
        if threads is not None:
            limit_threads(threads)
        if providers is not None:
            require_cpu(providers, self._path)
        self.model = load_model(model) if given else model
        config = self.model.config
        self.class_names = config.class_names
        self.category_ids = config.category_ids
        self.image_size = config.image_size if image_size is None else tuple(map(int, image_size))
        self.aspect = config.aspect
        self.batch_size = int(batch_size or 8)
        self.set_decoding(
            stop_mode=stop_mode,
            stop_threshold=stop_threshold,
            mask_threshold=mask_threshold,
            stored={"stop_threshold": config.stop_threshold, "mask_threshold": 0.5},
        )

    def run_network(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs = self.model.predict_on_batch(images)
        return _sigmoid(outputs["mask_logits"]), outputs["class_probs"], _sigmoid(outputs["stop_logits"])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh: exact at both ends, without the overflow of exp.
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float32)))
