"""Reads a trained model: a `.keras` file, a run folder, or a checkpoint folder of the original code."""

import os
import pathlib
import re
import warnings
from typing import TYPE_CHECKING

from rsis_tf.config.model import CHECKPOINT_FILES
from rsis_tf.errors import InputError, reason_of
from rsis_tf.models.pytorch.closed_pickle import shown
from rsis_tf.runtime import check_finite

if TYPE_CHECKING:
    from rsis_tf.models.rsis import RSIS

_NAME = re.compile(r"[A-Za-z][\w-]*")


def load_model(path: str | os.PathLike) -> "RSIS":
    """Reads a model.

    Args:
        path: a `.keras` file; a run folder, whose `best.keras` is read; or a folder with the original's `encoder.pt`,
            `decoder.pt` and `args.pkl`, which are converted in memory.

    Raises:
        InputError: if it is missing, broken, not a model of this project, or has a weight that is not finite.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if (path / "best.keras").is_file():
            return _read_keras_file(path / "best.keras")
        if any((path / name).is_file() for name in CHECKPOINT_FILES):
            from rsis_tf.models.pytorch.convert import load_checkpoint

            return load_checkpoint(path)
        raise InputError(
            "expected a run folder with best.keras, or a checkpoint folder of the original code "
            f"({', '.join(CHECKPOINT_FILES)}). Received: {path}"
        )
    if not path.is_file():
        raise InputError(f"expected a run folder or a .keras file. Received: {path}, which is not there")
    if path.suffix.lower() != ".keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    return _read_keras_file(path)


def load_pretrained(path: str | os.PathLike) -> "RSIS":
    """Reads a model like `load_model`; for a name it says that there are only paths.

    Raises:
        InputError: for a name, and as `load_model`.
    """
    if isinstance(path, str) and _NAME.fullmatch(path) and not pathlib.Path(path).exists():
        raise InputError(
            "names of pretrained models are not available yet; expected the path of a .keras file, a run folder, or a "
            f"checkpoint folder of the original code. Received: {path!r}"
        )
    return load_model(path)


def _read_keras_file(path: pathlib.Path) -> "RSIS":
    import keras

    from rsis_tf.models.keras_file import check_keras_file
    from rsis_tf.models.registry import network_class

    try:
        check_keras_file(path)
        with warnings.catch_warnings():
            # Keras only warns of some weights that are missing, and keeps the random ones.
            warnings.filterwarnings("error", "Skipping nested container")
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # the readers raise whatever failed: zip, JSON, HDF5, key and value errors
        reason = shown(reason_of(error), 300)
        raise InputError(f"expected a whole model file of rsis_tf. Received: {path} ({reason})") from None
    if not isinstance(model, network_class()):
        raise InputError(f"expected a model of rsis_tf. Received: a {type(model).__name__} in {path}")
    _check_finite(model, path)
    return model


def _check_finite(model: "RSIS", path: pathlib.Path) -> None:
    """Raises an `InputError` for a weight that is NaN or infinite.

    The outputs do not always show it: at a deepest map of 1×1 pixel, the outer weights of a 3×3 kernel only meet the
    padding, and act from the first larger image on.
    """
    import keras

    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if values.dtype.kind not in "iu" and values.size:
            check_finite({weight.path: values}, path)
