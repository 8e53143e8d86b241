"""What a run is made of: frozen dataclasses for model, data and training, presets, and their JSON files.

This package imports neither Keras nor TensorFlow, so that command lines check their arguments quickly.
"""

from rsis_tf.config.data import AUGMENTATION_NAMES, BORDERS, CROWDS, AugmentationConfig, DataConfig
from rsis_tf.config.mask_heads import MASK_HEADS, SKIP_MODES
from rsis_tf.config.model import ASPECTS, CLASS_FEATURES, ENCODER_NAMES, UNTRAINED_ENCODERS, ModelConfig
from rsis_tf.config.run import RunConfig
from rsis_tf.config.training import (
    LOGGER_NAMES,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    STRATEGIES,
    CurriculumConfig,
    LossConfig,
    OptimizerConfig,
    StartConfig,
    TrainConfig,
)

__all__ = [
    "ASPECTS",
    "AUGMENTATION_NAMES",
    "BORDERS",
    "CLASS_FEATURES",
    "CROWDS",
    "ENCODER_NAMES",
    "LOGGER_NAMES",
    "MASK_HEADS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "SKIP_MODES",
    "STRATEGIES",
    "UNTRAINED_ENCODERS",
    "AugmentationConfig",
    "CurriculumConfig",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "StartConfig",
    "TrainConfig",
]
