"""PyTorch's Adam in Keras, and one optimiser per part of the model."""

from typing import Any

import keras
from keras import ops

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS


class CoupledAdam(keras.optimizers.Adam):
    """Adam as PyTorch computes it, with an on/off switch.

    Two departures from `keras.optimizers.Adam`: the L2 penalty is added to the gradient (Keras decouples it), and
    epsilon is added after the second moment's bias correction (Keras adds it before, which makes it up to thirty times
    larger in the first steps).

    Args:
        learning_rate: a number or a schedule.
        l2: coefficient of the penalty; the gradient becomes g + l2·w.
        epsilon: 1e-8, PyTorch's.
        kwargs: of `keras.optimizers.Adam`, for example `global_clipnorm`.

    Attributes:
        enabled: while False, `apply` leaves variables, moments and the step count as they are, as PyTorch does for
            parameters without a gradient. Read when a train step is compiled.
    """

    def __init__(self, learning_rate: Any = 1e-3, *, l2: float = 0.0, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)
        self.l2 = l2
        self.enabled = True

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        if self.enabled:
            super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        step = ops.cast(self.iterations + 1, dtype)
        first_correction = 1 - ops.power(ops.cast(self.beta_1, dtype), step)
        second_correction = 1 - ops.power(ops.cast(self.beta_2, dtype), step)
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        gradient = ops.cast(gradient, dtype) + self.l2 * ops.convert_to_tensor(variable)
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        scale = ops.sqrt(second) / ops.sqrt(second_correction) + self.epsilon
        self.assign_sub(variable, ops.cast(learning_rate, dtype) / first_correction * first / scale)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "l2": self.l2}
        del config["weight_decay"]
        return config


def build_optimizer(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> keras.optimizers.Optimizer:
    """Makes one Adam per part: encoder, class head, stop head, and all the rest.

    A part whose loss or update is switched off keeps its weights, moments and step count, so that switching it on
    later starts it afresh (PyTorch keeps a step count per parameter for that).

    Args:
        model: whose variables are divided.
        config: rates, decay, clipping, switches.
        total_steps: steps of the whole training, for `schedule="cosine"`.
    """
    parts = {
        "encoder": (model.encoder, config.encoder_learning_rate, config.update_encoder),
        "class_head": (model.decoder.class_head, config.learning_rate, config.use_class_loss),
        "stop_head": (model.decoder.stop_head, config.learning_rate, config.use_stop_loss),
        "decoder": (None, config.learning_rate, True),
    }
    optimizers = {}
    owner: dict[int, str] = {}
    for name, (layer, rate, enabled) in parts.items():
        optimizers[name] = CoupledAdam(
            _schedule(rate, config, total_steps), l2=config.weight_decay, global_clipnorm=config.clip_norm, name=name
        )
        optimizers[name].enabled = enabled
        owner.update({id(variable): name for variable in (layer.trainable_variables if layer else [])})
    multi = keras.optimizers.MultiOptimizer(lambda variable: optimizers[owner.get(id(variable), "decoder")])
    multi.build(model.trainable_variables)
    return multi


def _schedule(rate: float, config: TrainConfig, total_steps: int | None) -> Any:
    if config.schedule == "constant":
        return rate
    if total_steps is None:
        raise ValueError("schedule='cosine' needs total_steps. Received: total_steps=None")
    warm_up = max(1, round(0.03 * total_steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, total_steps - warm_up),
        alpha=0.01,
        warmup_target=rate,
        warmup_steps=warm_up,
    )
