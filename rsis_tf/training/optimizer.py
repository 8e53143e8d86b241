"""One optimiser per part of the model, the step count that their schedules share, and averages of the weights."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from rsis_tf.config import OptimizerConfig, TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.training.muon import Muon
from rsis_tf.training.update_rules import CoupledAdam, CoupledRMSprop, CoupledSGD

Part = CoupledAdam | CoupledRMSprop | CoupledSGD


def build_optimizer(model: RSIS, config: TrainConfig, *, total_steps: int | None = None) -> keras.optimizers.Optimizer:
    """Builds one optimiser per part: encoder, class head, stop head, and everything else.

    A part whose loss or update is switched off (`enabled`) keeps its weights, moments and step count, so that its first
    update is computed like the first step of a training (PyTorch has a step count per parameter for that). Only the
    learning rate goes on: its schedule reads `step_clock`, not the part's own count, so a part that starts late has no
    warm-up and ends with the others.

    Args:
        model: whose variables are divided among the parts.
        config: kinds, rates, decay, clipping, average; with float16 the loss is scaled.
        total_steps: steps of the whole training, for `schedule="cosine"`.
    """
    settings = config.optimization
    parts = {
        "encoder": (model.encoder, settings.encoder_learning_rate),
        "class_head": (model.decoder.class_head, settings.learning_rate),
        "stop_head": (model.decoder.stop_head, settings.learning_rate),
        "decoder": (None, settings.learning_rate),
    }
    optimizers: dict[str, Part] = {}
    owner: dict[int, str] = {}
    multi = keras.optimizers.MultiOptimizer(lambda variable: optimizers[owner.get(id(variable), "decoder")])
    for name, (layer, rate) in parts.items():
        kind, l2 = settings.optimizer, settings.weight_decay
        if name == "encoder":
            kind = settings.encoder_optimizer or kind
            l2 = l2 if settings.encoder_weight_decay is None else settings.encoder_weight_decay
        optimizers[name] = _part(
            kind,
            settings,
            learning_rate=_schedule(rate, settings, total_steps, multi.iterations),
            l2=l2,
            global_clipnorm=settings.clip_norm,
            use_ema=settings.ema is not None,
            ema_momentum=settings.ema or 0.99,
            name=name,
        )
        owner.update({id(variable): name for variable in (layer.trainable_variables if layer else [])})
    optimizer = keras.optimizers.LossScaleOptimizer(multi) if config.precision == "mixed_float16" else multi
    optimizer.build(model.trainable_variables)
    return optimizer


def optimizer_parts(optimizer: keras.optimizers.Optimizer) -> dict[str, Part]:
    """Returns part → optimiser, for an optimiser from `build_optimizer`."""
    return {part.name: part for part in getattr(optimizer, "inner_optimizer", optimizer).optimizers}


def step_clock(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the number of training steps so far, which the schedules of all parts read.

    It increases with every step, whichever parts are enabled.
    """
    return getattr(optimizer, "inner_optimizer", optimizer).iterations


@contextlib.contextmanager
def averaged_weights(model: RSIS) -> Iterator[None]:
    """Replaces the weights by their moving averages inside the block; does nothing if there are none.

    The statistics of batch normalisation stay: they are averages already.
    """
    pairs = [pair for part in optimizer_parts(model.optimizer).values() for pair in part.averages()]
    kept = [keras.ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    for variable, average in pairs:
        # A copy: in JAX both would share one buffer, which is freed with the weights.
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, kept, strict=True):
            variable.assign(value)


def _part(kind: str, settings: OptimizerConfig, **options: Any) -> Part:
    match kind:
        case "adam":
            return CoupledAdam(**options)
        case "muon":
            return Muon(**options)
        case "rmsprop":
            return CoupledRMSprop(**options)
        case "sgd":
            return CoupledSGD(momentum=settings.momentum, **options)
    raise ValueError(f"kind must be adam, muon, rmsprop or sgd. Received: kind={kind!r}")


def _schedule(
    rate: float, settings: OptimizerConfig, total_steps: int | None, clock: keras.Variable
) -> float | Callable[[], Any]:
    if settings.schedule == "constant":
        return rate
    if total_steps is None:
        raise ValueError("schedule='cosine' needs total_steps. Received: total_steps=None")
    if total_steps == 1:  # the first step of a warm-up has the rate 0
        return rate
    warm_up = max(1, round(0.03 * total_steps))
    cosine = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, total_steps - warm_up),
        alpha=0.01,
        warmup_target=rate,
        warmup_steps=warm_up,
    )
    # Keras would pass the step count of the part to a schedule.
    return lambda: cosine(clock)
