"""Recurrent instance segmentation for TensorFlow and Keras (Salvador et al., arXiv 1712.00617).

    import rsis_tf

    model = rsis_tf.open_model("runs/leaves")  # or a .keras, .onnx or .tflite file, or a SavedModel
    found = model("photo.jpg")

The names below are imported when they are first used: `import rsis_tf` loads neither Keras nor TensorFlow.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsis_tf.inference import load_model, open_model
    from rsis_tf.models import RSIS, ModelConfig, build_model
    from rsis_tf.runtime import Instance, Instances, Predictor

__version__ = "0.1.0"

_HOMES = {
    "Instance": "rsis_tf.runtime",
    "Instances": "rsis_tf.runtime",
    "ModelConfig": "rsis_tf.models",
    "Predictor": "rsis_tf.runtime",
    "RSIS": "rsis_tf.models",
    "build_model": "rsis_tf.models",
    "load_model": "rsis_tf.inference",
    "open_model": "rsis_tf.inference",
    "train": "rsis_tf.run",
}
"""Public name → the module that defines it."""
__all__ = [
    "RSIS",
    "Instance",
    "Instances",
    "ModelConfig",
    "Predictor",
    "__version__",
    "build_model",
    "load_model",
    "open_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


if "keras" in sys.modules:
    # A program that uses Keras gets the classes that keras.models.load_model needs for the project's files.
    import rsis_tf.models  # noqa: F401
