"""Losses, matching and the training run."""

from rsis_tf.config import TrainConfig
from rsis_tf.training.compilation import compile_model

__all__ = ["TrainConfig", "compile_model"]
