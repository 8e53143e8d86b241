"""The order of stages, without a model."""

import math

import pytest

from rsis_tf.errors import InputError
from rsis_tf.training import TrainConfig
from rsis_tf.training.curriculum import begin_epoch, end_epoch, first_stage, may_restore, smoothed


def play(config, losses):
    """Applies the rules to validation losses; returns the switches as (epoch, what, reason), and the stages."""
    stage = first_stage(config)
    switches, stages = [], []
    for epoch, loss in enumerate(losses):
        stage, begun = begin_epoch(stage, config, epoch)
        switches += [(epoch, switch.what, switch.reason) for switch in begun]
        stages.append(stage)
        stage, switch = end_epoch(stage, config, loss)
        if switch:
            switches.append((epoch + 1, switch.what, switch.reason))
        if stage.finished:
            break
    return switches, stages


def test_everything_is_on_from_the_start_by_default():
    stage = first_stage(TrainConfig(num_steps=7))
    assert (stage.num_steps, stage.use_class_loss, stage.use_stop_loss, stage.update_encoder) == (7, True, True, True)
    assert play(TrainConfig(), [1.0] * 50)[0] == []


def test_switches_come_at_their_epoch_and_reset_the_best_loss():
    config = TrainConfig(class_loss_after=2, stop_loss_after=3, finetune_after=1)
    switches, stages = play(config, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert switches == [(1, "encoder", "epoch"), (2, "class loss", "epoch"), (3, "stop loss", "epoch")]
    assert not stages[0].update_encoder
    assert stages[1].best_loss == 0.5  # the encoder's switch resets only the patience
    assert stages[1].waited == 0
    assert stages[2].best_loss == stages[3].best_loss == math.inf
    assert stages[2].waited == 0
    assert stages[4].best_loss == 0.8  # the first value of the new sum is its best


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(class_loss_after=-1, stop_loss_after=-1, finetune_after=-1, patience=0),
        TrainConfig(use_class_loss=False, use_stop_loss=False, update_encoder=False, patience=0),
    ],
)
def test_never_is_never(config):
    switches, stages = play(config, [1.0] * 20)
    assert switches == []
    assert not any((stages[-1].use_class_loss, stages[-1].use_stop_loss, stages[-1].update_encoder))
    assert not may_restore(stages[-1], config)


def test_patience_starts_one_thing_at_a_time():
    config = TrainConfig(class_loss_after=99, stop_loss_after=99, finetune_after=99, patience=1)
    switches, _ = play(config, [1.0] * 12)
    # Epoch 0 sets the best value; epochs 1 and 2 are no better, which is more than a patience of one. Every switch by
    # patience resets the best value, so the epoch after it sets it again.
    assert switches == [(3, "class loss", "patience"), (6, "encoder", "patience"), (9, "stop loss", "patience")]


def test_an_encoder_started_by_patience_resets_the_best_loss():
    config = TrainConfig(class_loss_after=-1, stop_loss_after=-1, finetune_after=9, patience=0)
    switches, stages = play(config, [0.5, 0.6, 0.9, 0.8])
    assert switches == [(2, "encoder", "patience")]
    assert [stage.best_loss for stage in stages] == [math.inf, 0.5, math.inf, 0.9]
    assert stages[3].waited == 0  # 0.9 is the best of the new stage, so there is a checkpoint of it


def test_smoothed_losses_are_those_of_the_original():
    """The original's rule by hand: 0.9 · before + 0.1 · new, restarted at every switch."""
    losses = [1.0, 0.0, 2.0, 1.0, 0.0, 0.5, 0.0]
    config = TrainConfig(smooth_curves=True, class_loss_after=4, stop_loss_after=-1)
    stage, counted = first_stage(config), []
    for epoch, loss in enumerate(losses):
        stage, _ = begin_epoch(stage, config, epoch)
        counted.append(smoothed(stage, config, loss))
        stage, _ = end_epoch(stage, config, loss)
        assert stage.smoothed_loss == counted[-1]
    before = [1.0, 0.9, 0.9 * 0.9 + 0.1 * 2.0, 0.9 * (0.9 * 0.9 + 0.1 * 2.0) + 0.1]
    assert counted == pytest.approx([*before, 0.0, 0.05, 0.045])  # the class loss begins with epoch 4
    assert stage.best_loss == 0.0


def test_smoothed_losses_decide_on_patience():
    """One good epoch after bad ones has the lowest loss, but not the lowest average."""
    losses = [1.0, 3.0, 0.9, 0.9, 0.9]
    measured, smoothed = (
        play(TrainConfig(patience_stop=1, smooth_curves=smooth), losses)[1] for smooth in (False, True)
    )
    assert len(measured) == 5
    assert len(smoothed) == 3


def test_a_loss_that_is_not_finite_does_not_stay_in_the_average():
    _, stages = play(TrainConfig(smooth_curves=True), [1.0, math.nan, 0.5, 0.5])
    assert stages[3].best_loss == 0.5


def test_curriculum_adds_steps_up_to_all_of_them_and_the_stop_loss_waits():
    config = TrainConfig(num_steps=6, curriculum_learning=True, steps_cl=3, min_steps=5, stop_loss_after=0, patience=0)
    switches, stages = play(config, [1.0] * 8)
    assert [stage.num_steps for stage in stages] == [2, 2, 5, 5, 6, 6, 6, 6]
    assert switches == [(2, "steps", "patience"), (4, "steps", "patience"), (4, "stop loss", "epoch")]


def test_a_curriculum_never_starts_with_more_steps_than_the_model_has():
    assert first_stage(TrainConfig(num_steps=1, curriculum_learning=True)).num_steps == 1


def test_training_ends_when_patience_to_stop_has_run_out():
    _, stages = play(TrainConfig(patience_stop=2), [1.0, 0.5, 0.6, 0.7, 0.4, 0.4, 0.4, 0.4, 0.1, 0.1])
    assert len(stages) == 8  # epochs 5, 6 and 7 are no better than epoch 4


def test_small_gains_do_not_count_and_nan_is_never_better():
    _, stages = play(TrainConfig(min_delta=0.2), [1.0, 0.9, 0.7, math.nan, 0.6])
    assert [stage.best_loss for stage in stages] == [math.inf, 1.0, 1.0, 0.7, 0.7]
    assert [stage.waited for stage in stages] == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "fields",
    [
        *({"class_loss_after": -2}, {"patience": -1}, {"ema": 1.0}, {"precision": "float16"}, {"steps_cl": 0}),
        *({"optimizer": "lion"}, {"encoder_optimizer": ""}, {"momentum": 1.0}, {"momentum": -0.1}),
        *({"stop_balance": 1.5}, {"stop_balance": -0.1}, {"encoder_weight_decay": -1.0}, {"mask_weight": -1.0}),
    ],
)
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(InputError, match=rf"Received: {next(iter(fields))}="):
        TrainConfig(**fields)


def test_statistics_of_batch_normalisation_are_kept_at_the_end():
    config = TrainConfig(epochs=5, frozen_batch_norm=0.4)
    switches, stages = play(config, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert switches == [(3, "batch norm", "epoch")]
    assert [stage.frozen_batch_norm for stage in stages] == [False] * 3 + [True] * 2
    assert stages[3].best_loss == 0.5  # the sum of losses is the same
    # Without an epoch before, there would be no statistics to keep.
    assert play(TrainConfig(epochs=2, frozen_batch_norm=0.9), [1.0, 1.0])[0] == [(1, "batch norm", "epoch")]
    assert play(TrainConfig(epochs=1, frozen_batch_norm=0.9), [1.0])[0] == []
    with pytest.raises(InputError, match="Received: batch_norm_batches=7"):
        TrainConfig(frozen_batch_norm=0.4, batch_norm_batches=7)
