"""Training as a whole: learning, optimisers, checkpoints, and the end of a run whose loss is not finite."""

import itertools
import math

import keras
import numpy as np
import pytest

from rsis_tf.config import DataConfig
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.errors import TrainingDiverged
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.training import TrainConfig, compile_model
from rsis_tf.training.callbacks import clock
from rsis_tf.training.optimizer import build_optimizer, optimizer_parts, step_clock
from rsis_tf.training.trainer import Trainer


def small_model(**config):
    keras.utils.set_random_seed(0)
    return build_model(
        ModelConfig(**{"encoder": "compact", "hidden_size": 32, "min_channels": 8, "num_classes": 4, **config})
    )


def one_batch(size=4):
    data = DataConfig(image_size=(32, 32), batch_size=size, max_objects=2)
    dataset = SyntheticDataset(size=(32, 32), length=size, seed=3, max_objects=2)
    return next(plain_batches(dataset, data, training=False))


@pytest.mark.slow
def test_one_batch_is_memorised():
    model = small_model()
    config = TrainConfig(
        num_steps=3, learning_rate=5e-3, encoder_learning_rate=5e-3, mask_cross_entropy=1.0, class_weight=1.0
    )
    compile_model(model, config)
    images, targets = one_batch()
    for _ in range(300):
        losses = model.train_on_batch(images, targets, return_dict=True)
    compile_model(model, TrainConfig(num_steps=3))  # the mask loss of the paper alone: 1 − soft IoU
    losses = model.test_on_batch(images, targets, return_dict=True)
    assert 1 - losses["mask_loss"] > 0.9
    assert losses["class_loss"] < 0.1
    assert losses["stop_loss"] < 0.1


def test_weights_of_samples_are_refused_where_they_would_have_no_effect(eager):
    model = small_model(decoder_stages=1)
    compile_model(model, TrainConfig(num_steps=1))
    images, targets = one_batch(2)
    for step in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"no sample_weight .* Received: weights of shape \(2,\)"):
            step(images, targets, sample_weight=np.array([1.0, 0.0]))


def test_losses_of_a_validation_pass_add_up(eager):
    """A last batch of one image has the weight of one image in every column."""
    model = small_model()
    config = TrainConfig(num_steps=2, class_weight=0.3, stop_weight=0.7)
    compile_model(model, config)
    data = DataConfig(image_size=(32, 32), batch_size=2, max_objects=2)
    batches = list(
        plain_batches(SyntheticDataset(size=(32, 32), length=3, seed=3, max_objects=2), data, training=False)
    )
    losses = model.evaluate((batch for batch in batches), steps=2, return_dict=True, verbose=0)
    parts = losses["mask_loss"] + 0.3 * losses["class_loss"] + 0.7 * losses["stop_loss"]
    assert losses["loss"] == pytest.approx(parts, rel=1e-5)
    assert [len(images) for images, _ in batches] == [2, 1]
    alone = [model.test_on_batch(*batch, return_dict=True)["stop_loss"] for batch in batches]
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


def test_parts_that_are_switched_off_keep_their_weights():
    model = small_model()
    config = TrainConfig(num_steps=2, use_class_loss=False, use_stop_loss=False, update_encoder=False)
    compile_model(model, config)
    parts = {
        "encoder": model.encoder.trainable_variables,
        "class": model.decoder.class_head.trainable_variables,
        "stop": model.decoder.stop_head.trainable_variables,
        "mask": model.decoder.mask_head.trainable_variables,
    }
    before = {name: [keras.ops.convert_to_numpy(v).copy() for v in variables] for name, variables in parts.items()}
    model.train_on_batch(*one_batch())
    for name, variables in parts.items():
        same = all(
            np.array_equal(v, keras.ops.convert_to_numpy(w)) for v, w in zip(before[name], variables, strict=True)
        )
        assert same == (name != "mask"), name


def test_parts_that_are_not_trainable_are_left_out():
    model = small_model()
    model.encoder.trainable = model.decoder.class_head.trainable = False
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.encoder.weights]
    compile_model(model, TrainConfig(num_steps=2))
    assert set(optimizer_parts(model.optimizer)) == {"stop_head", "decoder"}
    model.train_on_batch(*one_batch())
    for weight, earlier in zip(model.encoder.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), earlier)


def test_every_variable_has_one_optimizer_with_the_rate_of_its_part():
    model = small_model()
    optimizer = build_optimizer(model, TrainConfig(learning_rate=1e-3, encoder_learning_rate=1e-6))
    rates = {part.name: float(part.learning_rate) for part in optimizer.optimizers}
    assert rates == pytest.approx({"encoder": 1e-6, "class_head": 1e-3, "stop_head": 1e-3, "decoder": 1e-3})
    counts = {part.name: len(part._momentums) for part in optimizer.optimizers}
    assert sum(counts.values()) == len(model.trainable_variables)
    assert counts["encoder"] == len(model.encoder.trainable_variables)
    assert counts["class_head"] == counts["stop_head"] == 2


def test_encoder_and_decoder_have_separate_optimizers():
    config = TrainConfig(optimizer="sgd", momentum=0.8, weight_decay=0.1, encoder_optimizer="rmsprop")
    parts = optimizer_parts(build_optimizer(small_model(), config))
    kinds = {name: type(part).__name__ for name, part in parts.items()}
    assert kinds == {"encoder": "CoupledRMSprop"} | dict.fromkeys(("class_head", "stop_head", "decoder"), "CoupledSGD")
    assert parts["decoder"].momentum == parts["class_head"].momentum == 0.8
    assert {part.l2 for part in parts.values()} == {0.1}
    config = TrainConfig(optimizer="rmsprop", weight_decay=0.1, encoder_weight_decay=0.0)
    parts = optimizer_parts(build_optimizer(small_model(), config))
    assert {type(part).__name__ for part in parts.values()} == {"CoupledRMSprop"}
    assert (parts["encoder"].l2, parts["decoder"].l2) == (0.0, 0.1)


@pytest.mark.parametrize("optimizer", ["muon", "rmsprop", "sgd"])
@pytest.mark.parametrize("head", [{}, {"mask_head": "voting", "neck_channels": 8}])  # which has a weight without axes
def test_every_optimizer_lowers_the_loss(optimizer, head):
    model = small_model(**head)
    rate = {"muon": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2}[optimizer]
    compile_model(model, TrainConfig(num_steps=2, optimizer=optimizer, learning_rate=rate, encoder_learning_rate=rate))
    losses = [model.train_on_batch(*one_batch(), return_dict=True)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 0.005


def test_cosine_schedule_warms_up_and_decays():
    optimizer = build_optimizer(small_model(), TrainConfig(schedule="cosine", learning_rate=1.0), total_steps=100)
    values = []
    for step in range(101):
        step_clock(optimizer).assign(step)
        values.append(float(optimizer_parts(optimizer)["decoder"].learning_rate))
    assert values[0] == 0
    assert values[3] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(values[3:]))
    assert values[100] == pytest.approx(0.01, abs=1e-3)


def trainer(tmp_path, model, *, images=None, epochs=2):
    batch = one_batch()
    batch = (batch[0] if images is None else images, batch[1])
    return Trainer(
        model=model,
        config=TrainConfig(num_steps=2, epochs=epochs),
        run=tmp_path,
        train_batches=lambda epoch: (batch for _ in range(2)),
        val_batches=lambda: (batch for _ in range(1)),
        steps_per_epoch=2,
        validation_steps=1,
    )


def test_run_keeps_best_and_last_without_optimizer_state(tmp_path, capsys, eager):
    model = small_model()
    best = trainer(tmp_path, model).fit()
    assert math.isfinite(best)
    names = ["best.keras", "curves.png", "last.keras", "log.csv", "stages.json", "state"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    last = keras.models.load_model(tmp_path / "last.keras")
    for one, other in zip(model.weights, last.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    weights = sum(int(np.prod(v.shape)) for v in model.weights) * 4
    assert (tmp_path / "last.keras").stat().st_size < 1.5 * weights
    screen = capsys.readouterr().out
    assert "epoch 1/2" in screen
    assert "epoch 2/2" in screen


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path, eager):
    with pytest.raises(TrainingDiverged, match=r"Received: loss=nan at step 1 \(epoch 1, batch 1\)"):
        trainer(tmp_path, small_model(), images=np.full((4, 32, 32, 3), np.nan, "float32")).fit()


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path, eager):
    run = trainer(tmp_path, small_model(), epochs=2)
    run._validate = lambda: {"val_loss": math.nan}
    with pytest.raises(TrainingDiverged, match=r"the validation loss must stay finite.*Received: nan after epoch 1$"):
        run.fit()


def test_weights_that_are_not_finite_never_replace_the_last_good_state(tmp_path, eager):
    first = trainer(tmp_path, small_model(), epochs=2)
    validate = first._validate

    def diverging():
        logs = validate()
        weight = first.model.trainable_weights[0]
        weight.assign(weight * np.nan)  # as the last step of an epoch may do, whose loss is that of the weights before
        return logs

    first._validate = diverging
    with pytest.raises(TrainingDiverged, match=r"the weights must stay finite.*after epoch 1$"):
        first.fit()
    assert not (tmp_path / "best.keras").exists()
    assert not (tmp_path / "last.keras").exists()
    resumed = trainer(tmp_path, small_model(), epochs=2)
    resumed.fit(resume=True)
    assert resumed.epochs_done == 2


def test_a_training_of_one_step_learns():
    optimizer = build_optimizer(small_model(), TrainConfig(schedule="cosine", learning_rate=1.0), total_steps=1)
    assert float(optimizer_parts(optimizer)["decoder"].learning_rate) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3725, "1:02:05"), (math.nan, "?")])
def test_clock(seconds, text):
    assert clock(seconds) == text
