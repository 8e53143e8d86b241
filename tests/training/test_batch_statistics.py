"""Statistics of batch normalisation that are computed again after a training."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from tiny import DATA, SCENES, VOTING, arrays, tiny_model, tiny_trainer

from rsis_tf.config.presets import shapes
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.models.loading import load_model
from rsis_tf.models.normalization import BatchNorm
from rsis_tf.run import train
from rsis_tf.training.batch_statistics import recompute_batch_statistics


def batches(count):
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 40 * (i + 1), (2, 32, 32, 3), np.uint8), None) for i in range(count)]


def norms(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]


def means_of_epochs(trainer):
    """Returns a list to which each epoch of a training adds the moving means of all layers."""
    seen = []

    class Means:
        def on_epoch_end(self, epoch, logs):
            seen.append([np.asarray(norm.moving_mean).copy() for norm in norms(trainer.model)])

    trainer.callbacks = (Means(),)
    return seen


def test_they_are_the_means_over_the_batches_whatever_they_were_before():
    model = tiny_model(**VOTING)
    first = norms(model)[0]
    seen = []
    for images, _ in batches(3):
        first.momentum = 0.0
        model.project(images, training=True)
        seen.append((ops.convert_to_numpy(first.moving_mean), ops.convert_to_numpy(first.moving_variance)))
    first.momentum = 0.9
    for norm in norms(model):
        norm.moving_mean.assign(norm.moving_mean * 0 + 7)
    weights = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert recompute_batch_statistics(model, batches(5), limit=3) == 3
    np.testing.assert_allclose(ops.convert_to_numpy(first.moving_mean), np.mean([m for m, _ in seen], 0), atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(first.moving_variance), np.mean([v for _, v in seen], 0), rtol=1e-5)
    assert {norm.momentum for norm in norms(model)} == {0.9}
    for weight, before in zip(model.trainable_weights, weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), before)


@pytest.mark.slow
def test_encoders_of_keras_applications_get_means_too():
    model = tiny_model(encoder="mobilenet_v2", **VOTING)
    norms = [layer for layer in model.encoder._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 30
    first, momentum = norms[0], norms[0].momentum
    seen = []
    for images, _ in batches(3):
        first.momentum = 0.0
        model.project(images, training=True)
        seen.append(ops.convert_to_numpy(first.moving_variance))
    first.momentum = momentum
    recompute_batch_statistics(model, batches(3), limit=3)
    np.testing.assert_allclose(ops.convert_to_numpy(first.moving_variance), np.mean(seen, 0), rtol=1e-5)
    assert first.momentum == momentum


def test_an_encoder_with_frozen_statistics_keeps_them():
    model = tiny_model(**VOTING)
    model.encoder_batch_statistics = False
    before = [ops.convert_to_numpy(weight).copy() for weight in model.encoder.non_trainable_weights]
    neck = [ops.convert_to_numpy(weight).copy() for weight in model.neck.non_trainable_weights]
    recompute_batch_statistics(model, [({"images": images, "found": None}, None) for images, _ in batches(2)], limit=9)
    for weight, kept in zip(model.encoder.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), kept)
    assert any(
        not np.array_equal(ops.convert_to_numpy(weight), kept)
        for weight, kept in zip(model.neck.non_trainable_weights, neck, strict=True)
    )


def test_a_run_writes_them_to_its_best_model(tmp_path, capsys):
    settings = shapes().changed(
        image_size=(32, 32), hidden_size=16, train_size=4, val_size=2, batch_size=2, epochs=1, stop_threshold=0.5
    )
    settings = settings.changed(calibrate_objectness=False)
    plain = train(settings, out=tmp_path / "plain").folder
    again = train(settings.changed(batch_norm_batches=3), out=tmp_path / "again").folder
    assert "batch normalisation: statistics of 3 training batches" in capsys.readouterr().out
    before, after = load_model(plain), load_model(again)
    for one, other in zip(before.trainable_weights, after.trainable_weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))
    assert not np.allclose(
        ops.convert_to_numpy(norms(before)[0].moving_mean), ops.convert_to_numpy(norms(after)[0].moving_mean), atol=1e-4
    )


def test_the_last_epochs_are_trained_with_kept_statistics(tmp_path, capsys, monkeypatch):
    trainer = tiny_trainer(tmp_path / "run", tiny_model(**VOTING), epochs=4, frozen_batch_norm=0.5)
    seen = means_of_epochs(trainer)
    trainer.fit()
    assert "from epoch 3: statistics of batch normalisation kept (scheduled)" in capsys.readouterr().out
    assert any((one != other).any() for one, other in zip(seen[0], seen[1], strict=True))
    assert any((one != other).any() for one, other in zip(seen[1], seen[2], strict=True))  # the means over many batches
    for one, other in zip(seen[2], seen[3], strict=True):
        np.testing.assert_array_equal(one, other)
    stages = json.loads((tmp_path / "run/stages.json").read_text(encoding="utf-8"))
    assert [(entry["epoch"], entry["frozen_batch_norm"]) for entry in stages] == [(1, False), (3, True)]
    batch = next(plain_batches(SCENES, DATA, training=True))
    # Training folds them into the convolutions, which rounds in another way (tests/models/test_folding.py).
    monkeypatch.setattr(trainer.model, "_encoder_of_kept_statistics", lambda: trainer.model.encoder)
    trained, predicted = (trainer.model(batch[0], training=training)["mask_logits"] for training in (True, False))
    np.testing.assert_allclose(trained, predicted, atol=1e-5)


def test_statistics_are_kept_after_a_return_to_the_best_weights(tmp_path, monkeypatch, eager, capsys):
    trainer = tiny_trainer(
        *(tmp_path / "run", tiny_model(**VOTING)),
        **{"epochs": 4, "frozen_batch_norm": 0.5, "patience": 0, "class_loss_after": 3},
    )
    losses, settled, seen = iter((1.0, 0.5, 2.0, 2.0)), [], means_of_epochs(trainer)
    monkeypatch.setattr(trainer, "_validate", lambda: {"val_loss": next(losses)})
    settle = trainer._settle_batch_statistics
    monkeypatch.setattr(trainer, "_settle_batch_statistics", lambda epoch: (settle(epoch), settled.append(epoch)))
    trainer.fit()
    assert "from epoch 4: class loss on (patience ran out, back to the best weights)" in capsys.readouterr().out
    assert settled == [2, 3]
    # Not the means that came with the best weights, those of epoch 2.
    assert any((one != other).any() for one, other in zip(seen[1], seen[3], strict=True))


def test_a_run_resumed_in_its_last_epochs_ends_like_an_uninterrupted_one(tmp_path, eager):
    # Sums of several threads have no fixed order. Adam would make whole steps of that rounding.
    rates = {"optimizer": "sgd", "learning_rate": 1e-3, "encoder_learning_rate": 1e-3}
    options = {"epochs": 4, "frozen_batch_norm": 0.5, **rates}
    whole = tiny_trainer(tmp_path / "whole", tiny_model(**VOTING), **options)
    whole.fit()
    for stop in (2, 3):
        run = tmp_path / str(stop)
        first = tiny_trainer(run, tiny_model(**VOTING), **options)

        class Interrupt:
            def on_epoch_end(self, epoch, logs, stop=stop):
                if epoch == stop:
                    raise KeyboardInterrupt

        first.callbacks = (Interrupt(),)
        with pytest.raises(KeyboardInterrupt):
            first.fit()
        resumed = tiny_trainer(run, tiny_model(seed=5, **VOTING), **options)
        resumed.fit(resume=True)
        for one, other in zip(arrays(resumed.model.weights), arrays(whole.model.weights), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
