"""The name of `rsis_tf.runtime` in earlier versions."""

from rsis_tf.runtime import Instance, Predictor, RuntimeInputError, decode, letterbox, open_session, resize_image

__all__ = ["Instance", "Predictor", "RuntimeInputError", "decode", "letterbox", "open_session", "resize_image"]
