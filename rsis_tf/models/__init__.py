"""The network. Importing this package lets `keras.models.load_model` read its `.keras` files."""

from rsis_tf.config import ModelConfig
from rsis_tf.engine import quiet_start

quiet_start()

from rsis_tf.models.rsis import RSIS, build_model  # noqa: E402  (imports Keras, which starts TensorFlow)

__all__ = ["RSIS", "ModelConfig", "build_model"]
