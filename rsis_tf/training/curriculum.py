"""Which losses count, how many steps are predicted and whether the encoder learns, epoch by epoch.

The rules are those of the original's training loop: something is switched on when its epoch has come, or when the
validation loss has not improved for longer than the patience. They are functions from one frozen stage to the next and
know nothing of models.

Every switch resets the patience. It resets the best loss too, with one exception: an encoder that starts because its
epoch has come changes no loss, and the original keeps the best value then. If patience starts the encoder, it does not.
"""

import dataclasses
import math

from rsis_tf.config import TrainConfig

FIRST_STEPS = 2
"""Steps that a curriculum starts with."""

SMOOTHING = 0.9
"""Share of the average so far in the next one, with `smooth_curves`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What is in force in an epoch, and what is known of the validation loss.

    Attributes:
        num_steps: T, steps predicted in training and validation.
        use_class_loss, use_stop_loss: whether the loss is in the sum.
        update_encoder: whether the encoder's weights are updated.
        best_loss: the lowest validation loss since it was last reset.
        waited: epochs since then without a better one.
        smoothed_loss: with `smooth_curves`, the average of the validation losses since the last switch; None if there
            is none.
        finished: whether patience to stop has run out.
    """

    num_steps: int
    use_class_loss: bool = False
    use_stop_loss: bool = False
    update_encoder: bool = False
    best_loss: float = math.inf
    waited: int = 0
    smoothed_loss: float | None = None
    finished: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switch:
    """One change of stage.

    Attributes:
        what: "class loss", "stop loss", "encoder" or "steps".
        reason: "epoch" or "patience".
        restore_best: whether training goes on from the best weights so far instead of the last.
    """

    what: str
    reason: str
    restore_best: bool = False


def first_stage(config: TrainConfig) -> Stage:
    """Returns the stage of epoch 0."""
    steps = min(FIRST_STEPS, config.num_steps) if config.curriculum_learning else config.num_steps
    stage, _ = begin_epoch(Stage(num_steps=steps), config, 0)
    return stage


def begin_epoch(stage: Stage, config: TrainConfig, epoch: int) -> tuple[Stage, tuple[Switch, ...]]:
    """Switches on what is due by epoch.

    Args:
        stage: after the epoch before.
        config: the plan.
        epoch: counted from 0.

    Returns:
        The stage of this epoch, and what changed.
    """
    switches = []
    for what, after in (
        ("encoder", config.finetune_after),
        ("class loss", config.class_loss_after),
        ("stop loss", config.stop_loss_after),
    ):
        if epoch >= after and _may_start(stage, config, what):
            stage = _started(stage, config, what, keep_best=what == "encoder")
            switches.append(Switch(what=what, reason="epoch"))
    return stage, tuple(switches)


def end_epoch(stage: Stage, config: TrainConfig, val_loss: float) -> tuple[Stage, Switch | None]:
    """Takes in the validation loss and, when patience has run out, begins the next stage.

    One thing at a time, in the original's order: class loss, more steps, encoder, stop loss. All but more steps go on
    from the best weights. A stage that has just begun has `waited` 0; `stage.waited == 0` without a switch means that
    `val_loss` is the best so far.

    Args:
        stage: of this epoch.
        config: the plan.
        val_loss: of this epoch, as measured.

    Returns:
        The stage after this epoch, and what changed.
    """
    val_loss = counted_loss(stage, config, val_loss)
    if config.smooth_curves:
        stage = dataclasses.replace(stage, smoothed_loss=val_loss)
    if val_loss < stage.best_loss - config.min_delta:
        return dataclasses.replace(stage, best_loss=val_loss, waited=0), None
    stage = dataclasses.replace(stage, waited=stage.waited + 1)
    if config.patience is not None and stage.waited > config.patience:
        for what in ("class loss", "steps", "encoder", "stop loss"):
            if _may_start(stage, config, what):
                return _started(stage, config, what), Switch(what=what, reason="patience", restore_best=what != "steps")
    if config.patience_stop is not None and stage.waited > config.patience_stop:
        stage = dataclasses.replace(stage, finished=True)
    return stage, None


def counted_loss(stage: Stage, config: TrainConfig, val_loss: float) -> float:
    """Returns the validation loss that is compared with the best one: as measured, or smoothed (`smooth_curves`).

    Args:
        stage: of this epoch.
        config: the plan.
        val_loss: of this epoch, as measured.
    """
    before = stage.smoothed_loss
    # An average that is not a number would stay so for ever.
    if not config.smooth_curves or before is None or not math.isfinite(before):
        return val_loss
    return SMOOTHING * before + (1 - SMOOTHING) * val_loss


def may_restore(stage: Stage, config: TrainConfig) -> bool:
    """Whether a later switch by patience may go back to the best weights."""
    pending = ("class loss", "encoder", "stop loss")
    # The stop loss of a curriculum may start later than now: more steps count as reached.
    later = dataclasses.replace(stage, num_steps=config.num_steps)
    return config.patience is not None and any(_may_start(later, config, what) for what in pending)


def _may_start(stage: Stage, config: TrainConfig, what: str) -> bool:
    match what:
        case "class loss":
            return config.use_class_loss and config.class_loss_after != -1 and not stage.use_class_loss
        case "stop loss":
            long_enough = not config.curriculum_learning or stage.num_steps > config.min_steps
            return config.use_stop_loss and config.stop_loss_after != -1 and not stage.use_stop_loss and long_enough
        case "encoder":
            return config.update_encoder and config.finetune_after != -1 and not stage.update_encoder
        case "steps":
            return config.curriculum_learning and stage.num_steps < config.num_steps
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
    steps = min(stage.num_steps + config.steps_cl, config.num_steps)
    return dataclasses.replace(stage, num_steps=steps)
