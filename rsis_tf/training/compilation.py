"""Joins a model with its criterion and optimisers."""

import keras

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.training.losses import Criterion
from rsis_tf.training.optimizer import build_optimizer


def compile_model(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> RSIS:
    """Prepares a model for `fit`, `train_on_batch` and `test_on_batch`.

    Targets are a dictionary with `masks` (B, N, H, W), `classes` (B, N) and `valid` (B, N), valid objects first; the
    results are `loss`, `mask_loss`, `class_loss` and `stop_loss`.

    Args:
        model: from `build_model` or `keras.models.load_model`.
        config: losses, optimiser and number of steps.
        total_steps: steps of the whole training, for `schedule="cosine"`.

    Returns:
        The same model.
    """
    model.num_steps = config.num_steps
    model.update_encoder = config.update_encoder
    model.encoder_batch_statistics = config.encoder_batch_norm == "train"
    model.criterion = Criterion(config)
    # XLA cannot call the host, and the matcher is on the host; JAX has a callback for that.
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer=build_optimizer(model, config, total_steps=total_steps), jit_compile=jit)
    return model
