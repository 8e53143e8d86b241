"""Reads a trained model: one of the package, a `.keras` file, a run folder, or a checkpoint of the original code."""

import os
import pathlib
import warnings
from typing import TYPE_CHECKING

from rsis_tf.config.model import CHECKPOINT_FILES
from rsis_tf.errors import InputError, reason_of
from rsis_tf.models.pytorch.closed_pickle import shown
from rsis_tf.runtime import check_finite, verify_checksums
from rsis_tf.zoo import registry

if TYPE_CHECKING:
    from rsis_tf.models.rsis import RSIS


def load_model(path: str | os.PathLike) -> "RSIS":
    """Reads a model.

    Args:
        path: a name that `rsis zoo` lists; a `.keras` file; a run folder, whose `best.keras` is read; or a folder with
            the original's `encoder.pt`, `decoder.pt` and `args.pkl`, which are converted in memory.

    Raises:
        InputError: if it is missing, broken, not a model of this project, or has a weight that is not finite.
    """
    found = registry.find(path, ".keras")
    if found is not None:
        verify_checksums(found)
        return _read_keras_file(found)
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
        raise InputError(
            "expected the name of a model, a run folder or a .keras file. "
            f"Received: {path}, which is not there{registry.hint(path)}"
        )
    if path.suffix.lower() != ".keras":
        raise InputError(f"expected a .keras file. Received: {path}")
    return _read_keras_file(path)


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
