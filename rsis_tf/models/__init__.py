"""The network. Importing this package lets `keras.models.load_model` read its `.keras` files."""

from typing import NoReturn

from rsis_tf.config import ModelConfig
from rsis_tf.engine import quiet_start
from rsis_tf.errors import missing_module

__all__ = ["RSIS", "ModelConfig", "build_model"]

try:
    quiet_start()
    from rsis_tf.models.rsis import RSIS, build_model  # imports Keras, which starts TensorFlow
except ModuleNotFoundError as error:
    if missing_module(error) is None:
        raise
    _missing = error.name

    def __getattr__(name: str) -> NoReturn:
        # Raised when the network is used, so that a command in this package can say what to install.
        if name not in __all__:
            raise AttributeError(name)
        raise ModuleNotFoundError(f"rsis_tf.models.{name} needs {_missing}", name=_missing)
