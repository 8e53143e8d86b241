"""Joins a model with its criterion and optimisers."""

import keras

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.training.curriculum import Stage, first_stage
from rsis_tf.training.losses.criterion import Criterion
from rsis_tf.training.optimizer import build_optimizer, optimizer_parts


def compile_model(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> RSIS:
    """Prepares a model for `fit`, `train_on_batch` and `test_on_batch`, in the stage that epoch 0 has.

    Targets are a dictionary with `masks` (B, N, H, W), `classes` (B, N) and `valid` (B, N), valid objects first; the
    results are `loss`, `mask_loss`, `class_loss` and `stop_loss`, and of a model that votes `voting_loss` and
    `pointing_loss`. `remaining` (B,) may be among the targets: so many objects, the first ones, are left to find; and
    `ignored` (B, H, W): 1 where it is not known whether there is an object; and `padding` (B, H, W): 1 beside the
    image.

    Args:
        model: from `build_model` or `keras.models.load_model`.
        config: losses, optimiser and number of steps.
        total_steps: steps of the whole training, for `schedule="cosine"`.

    Returns:
        The same model.
    """
    model.encoder_batch_statistics = config.optimization.encoder_batch_norm == "train"
    # XLA cannot call the host, and the matcher is on the host; JAX has a callback for that.
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer=build_optimizer(model, config, total_steps=total_steps), jit_compile=jit)
    apply_stage(model, config, first_stage(config))
    return model


def apply_stage(model: RSIS, config: TrainConfig, stage: Stage) -> None:
    """Brings a compiled model into a stage; weights and optimiser state stay.

    Args:
        model: prepared by `compile_model`.
        config: as given to it.
        stage: steps, losses and parts that are in force from now on.
    """
    model.num_steps = stage.num_steps
    length = config.sequence_length
    model.train_steps = None if length is None else min(length, stage.num_steps)
    model.update_encoder = stage.update_encoder
    model.criterion = Criterion(config, use_class_loss=stage.use_class_loss, use_stop_loss=stage.use_stop_loss)
    parts = optimizer_parts(model.optimizer)
    parts["encoder"].enabled = stage.update_encoder
    parts["class_head"].enabled = stage.use_class_loss
    parts["stop_head"].enabled = stage.use_stop_loss
    # All of these are read when a step is traced, and Keras traces anew where there is no function.
    model.train_function = model.test_function = model.predict_function = None
