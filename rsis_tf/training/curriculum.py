"""Which losses are in the sum, how many steps are predicted and whether the encoder is updated, epoch by epoch.

The rules are those of the original's training loop: something is switched on at its epoch, or when the validation loss
has not improved for longer than the patience. They are functions from one frozen stage to the next, independent of any
model.

Every switch resets the patience. It also resets the best loss, with one exception from the original: an encoder that
starts at its epoch keeps it, because it does not change the sum of losses. If patience starts the encoder, the best
loss is reset. Statistics of batch normalisation that are kept from an epoch on leave the sum as it is too.
"""

import dataclasses
import math
from typing import Annotated, Any

from rsis_tf.config import TrainConfig
from rsis_tf.config.checks import Count, OneOf, Patience, Steps, check_fields

FIRST_STEPS = 2
"""Steps that a curriculum starts with."""

SMOOTHING = 0.9
"""Share of the average so far in the next one, with `smooth_curves`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The rules of one epoch, and the course of the validation loss so far.

    Attributes:
        num_steps: T, steps predicted in training and validation.
        use_class_loss, use_stop_loss: whether the loss is in the sum.
        update_encoder: whether the encoder's weights are updated.
        frozen_batch_norm: whether batch normalisation keeps its statistics.
        best_loss: the lowest validation loss since it was last reset.
        waited: epochs since then without a better one.
        smoothed_loss: with `smooth_curves`, the average of the validation losses since the last switch; None if there
            is none.
        finished: whether patience to stop has run out.
    """

    num_steps: Steps
    use_class_loss: bool = False
    use_stop_loss: bool = False
    update_encoder: bool = False
    frozen_batch_norm: bool = False
    best_loss: float = math.inf
    waited: Patience = 0
    smoothed_loss: float | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switch:
    """One change of stage.

    Attributes:
        what: "class loss", "stop loss", "encoder", "steps" or "batch norm".
        reason: "epoch" or "patience".
        restore_best: whether training continues from the best weights so far instead of the last ones.
    """

    what: str
    reason: str
    restore_best: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageEntry:
    """An entry of `stages.json`: a stage and its first epoch.

    Attributes:
        epoch: counted from 1.
        num_steps: T, steps predicted in training and validation.
        class_loss, stop_loss, encoder: whether the loss is in the sum, and the encoder's weights are updated.
        frozen_batch_norm: whether batch normalisation keeps its statistics.
        switch, reason: of the `Switch` that began the stage; None for the first one.
    """

    epoch: Count
    num_steps: Steps
    class_loss: bool
    stop_loss: bool
    encoder: bool
    frozen_batch_norm: bool = False
    switch: Annotated[str, OneOf(("class loss", "stop loss", "encoder", "steps", "batch norm"))] | None = None
    reason: Annotated[str, OneOf(("epoch", "patience"))] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, stage: Stage, epoch: int, switch: Switch | None = None) -> "StageEntry":
        """Returns the entry of a stage that begins with `epoch`, counted from 0."""
        return cls(
            epoch=epoch + 1,
            num_steps=stage.num_steps,
            class_loss=stage.use_class_loss,
            stop_loss=stage.use_stop_loss,
            encoder=stage.update_encoder,
            frozen_batch_norm=stage.frozen_batch_norm,
            switch=None if switch is None else switch.what,
            reason=None if switch is None else switch.reason,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; the first stage has no switch and no reason."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def first_stage(config: TrainConfig) -> Stage:
    """Returns the stage of epoch 0."""
    plan = config.curriculum
    steps = min(FIRST_STEPS, config.num_steps) if plan.curriculum_learning else config.num_steps
    stage, _ = begin_epoch(Stage(num_steps=steps), config, 0)
    return stage


def begin_epoch(stage: Stage, config: TrainConfig, epoch: int) -> tuple[Stage, tuple[Switch, ...]]:
    """Switches on everything whose epoch has come.

    Args:
        stage: after the epoch before.
        config: of the training.
        epoch: counted from 0.

    Returns:
        The stage of this epoch, and what changed.
    """
    plan = config.curriculum
    switches = []
    for what, after in (
        ("encoder", plan.finetune_after),
        ("class loss", plan.class_loss_after),
        ("stop loss", plan.stop_loss_after),
        ("batch norm", _kept_after(config)),
    ):
        if epoch >= after and _may_start(stage, config, what):
            # With these two, the sum of losses stays the same.
            stage = _started(stage, config, what, keep_best=what in ("encoder", "batch norm"))
            switches.append(Switch(what=what, reason="epoch"))
    return stage, tuple(switches)


def end_epoch(stage: Stage, config: TrainConfig, val_loss: float) -> tuple[Stage, Switch | None]:
    """Records the validation loss and begins the next stage if patience has run out.

    One thing is switched on at a time, in the original's order: class loss, more steps, encoder, stop loss. All except
    more steps continue from the best weights. A stage that has just begun has `waited` 0; `stage.waited == 0` without a
    switch means that `val_loss` is the best so far.

    Args:
        stage: of this epoch.
        config: of the training.
        val_loss: of this epoch, as measured.

    Returns:
        The stage after this epoch, and what changed.
    """
    plan = config.curriculum
    val_loss = smoothed(stage, config, val_loss)
    if plan.smooth_curves:
        stage = dataclasses.replace(stage, smoothed_loss=val_loss)
    if val_loss < stage.best_loss - plan.min_delta:
        return dataclasses.replace(stage, best_loss=val_loss, waited=0), None
    stage = dataclasses.replace(stage, waited=stage.waited + 1)
    if plan.patience is not None and stage.waited > plan.patience:
        for what in ("class loss", "steps", "encoder", "stop loss"):
            if _may_start(stage, config, what):
                return _started(stage, config, what), Switch(what=what, reason="patience", restore_best=what != "steps")
    if plan.patience_stop is not None and stage.waited > plan.patience_stop:
        stage = dataclasses.replace(stage, finished=True)
    return stage, None


def smoothed(stage: Stage, config: TrainConfig, val_loss: float) -> float:
    """Returns the validation loss that is compared with the best one: as measured, or averaged (`smooth_curves`).

    Args:
        stage: of this epoch.
        config: of the training.
        val_loss: of this epoch, as measured.
    """
    before = stage.smoothed_loss
    # An average that is not a number would never become one again.
    if not config.curriculum.smooth_curves or before is None or not math.isfinite(before):
        return val_loss
    return SMOOTHING * before + (1 - SMOOTHING) * val_loss


def may_restore(stage: Stage, config: TrainConfig) -> bool:
    """Whether a later switch by patience may go back to the best weights."""
    pending = ("class loss", "encoder", "stop loss")
    # The stop loss of a curriculum waits for more steps, so this asks as if all steps were reached.
    later = dataclasses.replace(stage, num_steps=config.num_steps)
    return config.curriculum.patience is not None and any(_may_start(later, config, what) for what in pending)


def _kept_after(config: TrainConfig) -> int:
    """Returns the epoch from which batch normalisation keeps its statistics, that after the last one for never."""
    return max(config.epochs - round(config.epochs * config.optimization.frozen_batch_norm), 1)


def _may_start(stage: Stage, config: TrainConfig, what: str) -> bool:
    plan = config.curriculum
    match what:
        case "class loss":
            return plan.class_loss_after != -1 and not stage.use_class_loss
        case "stop loss":
            long_enough = not plan.curriculum_learning or stage.num_steps > plan.min_steps
            return plan.stop_loss_after != -1 and not stage.use_stop_loss and long_enough
        case "encoder":
            return plan.finetune_after != -1 and not stage.update_encoder
        case "steps":
            return plan.curriculum_learning and stage.num_steps < config.num_steps
        case "batch norm":
            return _kept_after(config) < config.epochs and not stage.frozen_batch_norm
    raise ValueError(f"what must name a switch. Received: what={what!r}")


def _started(stage: Stage, config: TrainConfig, what: str, *, keep_best: bool = False) -> Stage:
    best_loss = stage.best_loss if keep_best else math.inf
    stage = dataclasses.replace(stage, waited=0, smoothed_loss=None, best_loss=best_loss)
    match what:
        case "encoder":
            return dataclasses.replace(stage, update_encoder=True)
        case "class loss":
            return dataclasses.replace(stage, use_class_loss=True)
        case "stop loss":
            return dataclasses.replace(stage, use_stop_loss=True)
        case "batch norm":
            return dataclasses.replace(stage, frozen_batch_norm=True)
    steps = min(stage.num_steps + config.curriculum.steps_cl, config.num_steps)
    return dataclasses.replace(stage, num_steps=steps)
