"""PyTorch's Adam in Keras, one optimiser per part of the model, and averages of the weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.replicas import total


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
            # Summed here and not, as Keras would, after clipping: the norm that counts is the whole batch's.
            known = iter(total([grad for grad in grads if grad is not None]))
            super().apply([None if grad is None else next(known) for grad in grads], trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars

    def _backend_update_step(self, grads: list, trainable_variables: list, learning_rate: Any) -> None:
        # The bias corrections are the same for every variable: once a step, not once a variable. With
        # r = √(1 − β₂ᵗ), PyTorch's m/(1 − β₁ᵗ) / (√v/r + ε) is r/(1 − β₁ᵗ) · m / (√v + r·ε).
        step = ops.cast(self.iterations + 1, "float32")
        root = ops.sqrt(1 - ops.power(self.beta_2, step))
        self._step_epsilon = self.epsilon * root
        rate = ops.cast(learning_rate, "float32") * root / (1 - ops.power(self.beta_1, step))
        super()._backend_update_step(grads, trainable_variables, rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        gradient = ops.cast(gradient, dtype)
        if self.l2:
            gradient = gradient + self.l2 * ops.convert_to_tensor(variable)
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        scale = ops.sqrt(second) + ops.cast(self._step_epsilon, dtype)
        self.assign_sub(variable, ops.cast(learning_rate, dtype) * first / scale)

    def finalize_variable_values(self, var_list: list) -> None:
        """Does nothing: with `use_ema`, Keras would put the averages in place of the weights after every `fit`."""

    def averages(self) -> list[tuple[Any, Any]]:
        """Returns (variable, its moving average) for `use_ema`; none before the first step."""
        if not self.use_ema or int(self.iterations) == 0:
            return []
        return list(zip(self._trainable_variables, self._model_variables_moving_average, strict=True))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "l2": self.l2}
        del config["weight_decay"]
        return config


def build_optimizer(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> keras.optimizers.Optimizer:
    """Makes one Adam per part: encoder, class head, stop head, and all the rest.

    A part whose loss or update is switched off (`CoupledAdam.enabled`) keeps its weights, moments and step count, so
    that switching it on later starts it afresh (PyTorch keeps a step count per parameter for that).

    Args:
        model: whose variables are divided.
        config: rates, decay, clipping, average; float16 gets a loss scale.
        total_steps: steps of the whole training, for `schedule="cosine"`.
    """
    parts = {
        "encoder": (model.encoder, config.encoder_learning_rate),
        "class_head": (model.decoder.class_head, config.learning_rate),
        "stop_head": (model.decoder.stop_head, config.learning_rate),
        "decoder": (None, config.learning_rate),
    }
    optimizers = {}
    owner: dict[int, str] = {}
    for name, (layer, rate) in parts.items():
        optimizers[name] = CoupledAdam(
            _schedule(rate, config, total_steps),
            l2=config.weight_decay,
            global_clipnorm=config.clip_norm,
            use_ema=config.ema is not None,
            ema_momentum=config.ema or 0.99,
            name=name,
        )
        owner.update({id(variable): name for variable in (layer.trainable_variables if layer else [])})
    multi = keras.optimizers.MultiOptimizer(lambda variable: optimizers[owner.get(id(variable), "decoder")])
    optimizer = keras.optimizers.LossScaleOptimizer(multi) if config.precision == "mixed_float16" else multi
    optimizer.build(model.trainable_variables)
    return optimizer


def optimizer_parts(optimizer: keras.optimizers.Optimizer) -> dict[str, CoupledAdam]:
    """Returns the optimisers made by `build_optimizer` by the name of their part."""
    return {part.name: part for part in getattr(optimizer, "inner_optimizer", optimizer).optimizers}


@contextlib.contextmanager
def averaged_weights(model: RSIS) -> Iterator[None]:
    """Puts the moving averages in place of the weights for a while; does nothing if none are kept.

    Batch normalisation keeps the statistics of the weights themselves: they are averages already.
    """
    pairs = [pair for part in optimizer_parts(model.optimizer).values() for pair in part.averages()]
    kept = [keras.ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    for variable, average in pairs:
        # A copy: JAX would let both share one buffer, and free it with the weights'.
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, kept, strict=True):
            variable.assign(value)


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
