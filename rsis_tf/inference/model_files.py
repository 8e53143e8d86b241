"""Finds out which kind of model a path holds, and reads Keras models."""

import os
import pathlib
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import check_finite, reason_of

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

_KINDS = {".keras": "keras", ".onnx": "onnx", ".tflite": "tflite"}
_LARGEST_TEXT = 1 << 24
"""Bytes of a JSON file in a `.keras` file; a model of this project has some thousands."""
_CHECKPOINT = ("encoder.pt", "decoder.pt", "args.pkl")
MODEL_HELP = (
    "a run's folder, a .keras, .onnx or .tflite file, the folder of a SavedModel or of a stepwise ONNX export, or a "
    f"checkpoint's folder of the original code ({', '.join(_CHECKPOINT)})"
)


def find_model(path: str | os.PathLike) -> tuple[str, pathlib.Path]:
    """Tells which kind of model a path holds, from the names of files only.

    Args:
        path: see `rsis_tf.inference.open_model`.

    Returns:
        "keras", "onnx", "tflite", "saved_model" or "pytorch", and the file or folder to open: `best.keras` for a run's
        folder, otherwise the path.

    Raises:
        InputError: if there is no model.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be a string or a path. Received: a {type(path).__name__}")
    path = pathlib.Path(path)
    if os.path.isdir(path):
        if os.path.isfile(path / "best.keras"):
            return "keras", path / "best.keras"
        if os.path.isfile(path / "saved_model.pb"):
            return "saved_model", path
        if os.path.isfile(path / "step.onnx"):
            return "onnx", path
        if any(os.path.isfile(path / name) for name in _CHECKPOINT):
            return "pytorch", path
        raise InputError(
            "expected a run's folder with best.keras in it, a SavedModel, a stepwise ONNX export, or a checkpoint of "
            f"the original code ({', '.join(_CHECKPOINT)}). Received: {path}"
        )
    if not os.path.isfile(path):
        raise InputError(f"expected a run's folder or a model file. Received: {path}, which is not there")
    if path.suffix.lower() not in _KINDS:
        raise InputError(f"expected a run's folder or a model file ({', '.join(_KINDS)}). Received: {path}")
    return _KINDS[path.suffix.lower()], path


def load_model(path: str | os.PathLike) -> "RSIS":
    """Reads a Keras model from a `.keras` file, a run's folder, or a checkpoint's folder of the original code.

    Raises:
        InputError: if it is not there, broken, not a model of this project, or has weights that are not finite.
    """
    kind, path = find_model(path)
    if kind == "pytorch":
        from rsis_tf.models.pytorch.convert import load_checkpoint

        return load_checkpoint(path)
    if kind != "keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    from rsis_tf.models import RSIS  # first: it starts Keras without notices

    import keras  # isort: skip

    _check_sizes(path)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, HDF5, key and value errors
        raise InputError(f"expected a complete model file of rsis_tf. Received: {path} ({reason_of(error)})") from None
    if not isinstance(model, RSIS):
        raise InputError(f"expected a model of rsis_tf. Received: a {type(model).__name__} in {path}")
    for weight in model.weights:
        values = np.asarray(weight)
        if values.dtype.kind == "f" and values.size:
            check_finite({weight.path: values}, path)
    return model


def _check_sizes(path: pathlib.Path) -> None:
    """Refuses a `.keras` file whose parts would fill the memory when they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"expected a complete model file of rsis_tf. Received: {path} ({reason_of(error)})") from None
    for part in parts:
        most = _LARGEST_TEXT if part.filename.endswith(".json") else _LARGEST_TEXT + 20 * part.compress_size
        if part.file_size > most:
            raise InputError(
                f"expected {part.filename} of at most {most} bytes in a model file of rsis_tf. "
                f"Received: {part.file_size} bytes in {path}"
            )
