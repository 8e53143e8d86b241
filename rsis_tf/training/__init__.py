"""Losses, matching and the training run."""

from rsis_tf.config import TrainConfig
from rsis_tf.training.compilation import compile_model
from rsis_tf.training.loggers.interface import Callback

__all__ = ["Callback", "TrainConfig", "compile_model"]
