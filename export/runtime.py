"""The name of `rsis_tf.runtime` in earlier versions."""

from rsis_tf.runtime import *  # noqa: F403
from rsis_tf.runtime import Instance, Predictor, RuntimeInputError, decode

__all__ = ["Instance", "Predictor", "RuntimeInputError", "decode"]
