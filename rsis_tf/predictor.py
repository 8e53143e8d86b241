"""One way to predict with any model file: picture in, instances out."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from export.runtime import Instance, Predictor, RuntimeInputError, check_image, decode, resize_image
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.models import RSIS


def model_file(path: str | pathlib.Path) -> pathlib.Path:
    """Returns the model file that a path means: the file itself, or `best.keras` of a run's folder.

    Raises:
        InputError: if there is none.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / "best.keras").is_file():
            raise InputError(f"expected a run's folder with best.keras in it. Received: {path}")
        return path / "best.keras"
    if not path.is_file():
        raise InputError(f"expected a run's folder or a model file. Received: {path}, which is not there")
    return path


def load_model(path: str | pathlib.Path) -> "RSIS":
    """Reads a model from a `.keras` file or a run's folder.

    Raises:
        InputError: if it is not there, broken, or not a model of this project.
    """
    path = model_file(path)
    if path.suffix != ".keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    import keras

    from rsis_tf.models import RSIS

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what it stumbled on: zip, JSON, HDF5, key and value errors
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"expected a whole model file of rsis_tf. Received: {path} ({reason})") from None
    if not isinstance(model, RSIS):
        raise InputError(f"expected a model of rsis_tf. Received: a {type(model).__name__} in {path}")
    return model


class KerasPredictor:
    """Predicts with a Keras model as `export.runtime.Predictor` does with an ONNX file: same input, same instances.

    Args:
        model: a model, its `.keras` file, or a run's folder.
        stop_mode: "first" ends the sequence at the first step without an object; "each" judges each step alone.
        batch_size: pictures in one run of `stream`.

    Attributes:
        class_names: K names, the first of them "background"; empty if the model knows none.
    """

    def __init__(self, model: "RSIS | str | pathlib.Path", *, stop_mode: str = "first", batch_size: int = 8) -> None:
        self.model = load_model(model) if isinstance(model, str | pathlib.Path) else model
        self.class_names = self.model.config.class_names
        self.stop_mode = stop_mode
        self.batch_size = batch_size

    def __call__(self, image: np.ndarray) -> list[Instance]:
        """Predicts one picture: (H, W, 3) uint8 of any size → its instances in predicted order."""
        return next(self.stream([image]))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[list[Instance]]:
        """Predicts pictures of any sizes as they come, `batch_size` at a time."""
        chunk: list[np.ndarray] = []
        for image in images:
            chunk.append(check_image(image))
            if len(chunk) == self.batch_size:
                yield from self._predict(chunk)
                chunk = []
        if chunk:
            yield from self._predict(chunk)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs the network alone: (B, h, w, 3) → masks (B, T, h, w), classes (B, T, K), stop (B, T), probabilities."""
        outputs = self.model.predict_on_batch(images)
        return _sigmoid(outputs["mask_logits"]), outputs["class_probs"], _sigmoid(outputs["stop_logits"])

    def _predict(self, images: list[np.ndarray]) -> Iterator[list[Instance]]:
        outputs = self.run(np.stack([resize_image(image, self.model.config.image_size) for image in images]))
        for image, *output in zip(images, *outputs, strict=True):
            yield decode(*output, size=image.shape[:2], class_names=self.class_names, stop_mode=self.stop_mode)


def open_predictor(path: str | pathlib.Path, **options: Any) -> Predictor | KerasPredictor:
    """Opens a model file of any kind.

    Args:
        path: `.onnx` (needs no TensorFlow), `.keras`, or a run's folder.
        options: of `export.runtime.Predictor` or `KerasPredictor`.

    Raises:
        InputError: if the file cannot be used.
    """
    path = model_file(path)
    if path.suffix == ".onnx":
        try:
            return Predictor(path, **options)
        except RuntimeInputError as error:
            raise InputError(str(error)) from None
    if path.suffix == ".keras":
        return KerasPredictor(path, **options)
    raise InputError(f"expected a run's folder, a .keras or an .onnx file. Received: {path}")


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh: exact at both ends, without the overflow of exp.
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float32)))
