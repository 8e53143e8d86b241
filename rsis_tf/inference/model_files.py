"""Finds out which kind of model a path holds, and reads Keras models."""

import os
import pathlib
from typing import TYPE_CHECKING

from rsis_tf.config.model import CHECKPOINT_FILES
from rsis_tf.errors import InputError
from rsis_tf.zoo import registry

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

_KINDS = {".keras": "keras", ".onnx": "onnx", ".tflite": "tflite"}
MODEL_HELP = (
    "a name that `rsis zoo` lists, a run's folder, a .keras, .onnx or .tflite file, the folder of a SavedModel or of a "
    f"stepwise ONNX export, or a checkpoint's folder of the original code ({', '.join(CHECKPOINT_FILES)})"
)


def model_path(text: str, suffix: str = ".onnx") -> pathlib.Path:
    """Returns the path of the model that a command line names, as the type of an argument.

    Args:
        text: the name of a model of the package (`rsis_tf.zoo.registry.find`), or a path.
        suffix: of the file that is wanted of a model of the package.
    """
    return registry.find(text, suffix) or pathlib.Path(text)


def find_model(path: str | os.PathLike) -> tuple[str, pathlib.Path]:
    """Tells which kind of model a path holds, from the names of files only.

    Args:
        path: see `rsis_tf.inference.open_model`; the name of a model of the package stands for its ONNX file.

    Returns:
        "keras", "onnx", "tflite", "saved_model" or "pytorch", and the file or folder to open: `best.keras` for a run's
        folder, otherwise the path.

    Raises:
        InputError: if there is no model.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be a string or a path. Received: a {type(path).__name__}")
    path = registry.find(path, ".onnx") or pathlib.Path(path)
    if os.path.isdir(path):
        if os.path.isfile(path / "best.keras"):
            return "keras", path / "best.keras"
        if os.path.isfile(path / "saved_model.pb"):
            return "saved_model", path
        if os.path.isfile(path / "step.onnx"):
            return "onnx", path
        if any(os.path.isfile(path / name) for name in CHECKPOINT_FILES):
            return "pytorch", path
        raise InputError(
            "expected a run's folder with best.keras in it, a SavedModel, a stepwise ONNX export, or a checkpoint of "
            f"the original code ({', '.join(CHECKPOINT_FILES)}). Received: {path}"
        )
    if not os.path.isfile(path):
        raise InputError(
            "expected the name of a model, a run's folder or a model file. "
            f"Received: {path}, which is not there{registry.hint(path)}"
        )
    if path.suffix.lower() not in _KINDS:
        raise InputError(f"expected a run's folder or a model file ({', '.join(_KINDS)}). Received: {path}")
    return _KINDS[path.suffix.lower()], path


def load_model(path: str | os.PathLike) -> "RSIS":
    """Reads a Keras model: `rsis_tf.models.loading.load_model`, imported when it is called, since it starts Keras."""
    from rsis_tf.models.loading import load_model

    return load_model(path)
