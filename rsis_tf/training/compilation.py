"""Prepares a model for training: its objective and its optimisers."""

import keras

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.training.curriculum import Stage, first_stage
from rsis_tf.training.losses.criterion import Criterion
from rsis_tf.training.objective import Objective
from rsis_tf.training.optimizer import build_optimizer, optimizer_parts


def compile_model(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> RSIS:
    """Prepares a model for `fit`, `train_on_batch` and `test_on_batch`, in the stage of epoch 0.

    From then on this model in memory predicts as many steps as its stage trains (`config.num_steps`, fewer at the
    beginning of a curriculum). A file that it is saved to has those of its configuration.

    Targets are a dictionary with `masks` (B, N, H, W), `classes` (B, N) and `valid` (B, N), valid objects first, and
    optionally `remaining`, `ignored` and `padding` (see `rsis_tf.training.losses.criterion.Criterion`). The results are
    `loss`, `mask_loss`, `class_loss`, `stop_loss` and the terms of the mask head.

    Args:
        model: from `build_model` or `keras.models.load_model`.
        config: losses, optimiser and number of steps.
        total_steps: steps of the whole training, for `schedule="cosine"`.

    Returns:
        The same model.
    """
    model.objective = Objective(model.config.mask_head)
    model.encoder_batch_statistics = config.optimization.encoder_batch_norm == "train"
    model.recompute_steps = config.optimization.recompute
    # The matcher runs on the host. TensorFlow's XLA cannot call the host; JAX has a callback for that.
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer=build_optimizer(model, config, total_steps=total_steps), jit_compile=jit)
    apply_stage(model, config, first_stage(config))
    return model


def apply_stage(model: RSIS, config: TrainConfig, stage: Stage) -> None:
    """Changes a compiled model to a stage; weights and optimiser state stay.

    Args:
        model: prepared by `compile_model`.
        config: as given to it.
        stage: steps, losses and parts of the model that are in force from now on.
    """
    objective = model.objective
    if not isinstance(objective, Objective):
        raise ValueError("expected a model prepared by compile_model. Received: one without an objective")
    objective.num_steps = stage.num_steps
    length = config.sequence_length
    objective.sequence_length = None if length is None else min(length, stage.num_steps)
    objective.criterion = Criterion(
        config.losses,
        mask_head=model.config.mask_head,
        use_class_loss=stage.use_class_loss,
        use_stop_loss=stage.use_stop_loss,
    )
    model.update_encoder = stage.update_encoder
    model.batch_statistics = not stage.frozen_batch_norm
    parts = optimizer_parts(model.optimizer)
    switches = {
        "encoder": stage.update_encoder,
        "class_head": stage.use_class_loss,
        "stop_head": stage.use_stop_loss,
    }
    for name, enabled in switches.items():
        if name in parts:  # unless its `trainable` is False
            parts[name].enabled = enabled
    # All of these are read when a step is traced; without its function, Keras traces the step again.
    model.train_function = model.test_function = model.predict_function = None
