"""What the trainer does at a change of stage, and options of a training: averages, precision, transfer, TensorBoard."""

import json

import keras
import numpy as np
import pytest
from tiny import arrays, log_rows, tiny_model, tiny_trainer

from rsis_tf.config import TrainConfig
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.errors import InputError
from rsis_tf.training import compile_model
from rsis_tf.training.building import transfer_weights
from rsis_tf.training.compilation import apply_stage
from rsis_tf.training.curriculum import Stage
from rsis_tf.training.optimizer import averaged_weights, optimizer_parts


def one_batch():
    from tiny import DATA, SCENES

    return next(plain_batches(SCENES, DATA, training=False))


def counts(model):
    return {name: int(part.iterations) for name, part in optimizer_parts(model.optimizer).items()}


def test_a_part_learns_from_its_stage_on():
    """Traced, as in a real training: a stage must make Keras trace again."""
    model = tiny_model()
    config = TrainConfig(num_steps=3, class_loss_after=5, stop_loss_after=5, finetune_after=5)
    compile_model(model, config)
    batch = one_batch()
    losses = model.train_on_batch(*batch, return_dict=True)
    assert losses["loss"] == pytest.approx(losses["mask_loss"], rel=1e-5)
    assert counts(model) == {"encoder": 0, "class_head": 0, "stop_head": 0, "decoder": 1}
    moments = optimizer_parts(model.optimizer)["decoder"]._momentums
    before = arrays(moments)

    apply_stage(model, config, Stage(num_steps=2, use_class_loss=True, update_encoder=True))
    assert all((a == b).all() for a, b in zip(before, arrays(moments), strict=True))
    losses = model.train_on_batch(*batch, return_dict=True)
    assert losses["loss"] == pytest.approx(losses["mask_loss"] + 0.1 * losses["class_loss"], rel=1e-5)
    assert counts(model) == {"encoder": 1, "class_head": 1, "stop_head": 0, "decoder": 2}
    assert model.predict_on_batch(batch[0])["stop_logits"].shape == (2, 2)


def test_switches_are_printed_and_written(tmp_path, eager, capsys):
    trainer = tiny_trainer(
        tmp_path / "run",
        epochs=3,
        class_loss_after=1,
        stop_loss_after=-1,
        curriculum_learning=True,
        patience=0,
        min_delta=9.0,
    )
    trainer.fit()
    screen = capsys.readouterr().out
    assert "from epoch 2: class loss on (scheduled)" in screen
    # The first value after a reset is the best whatever it is; the next one is not better by 9.
    assert "from epoch 4: 3 steps (patience ran out)" in screen
    entries = json.loads((trainer.run / "stages.json").read_text())
    assert [(entry["epoch"], entry["num_steps"], entry["class_loss"], entry.get("switch")) for entry in entries] == [
        (1, 2, False, None),
        (2, 2, True, "class loss"),
        (4, 3, True, "steps"),
    ]
    rows = log_rows(trainer.run)
    assert rows[0]["loss"] == pytest.approx(rows[0]["mask_loss"], rel=1e-5)
    assert rows[1]["loss"] > rows[1]["mask_loss"]


def test_patience_goes_back_to_the_best_weights(tmp_path, eager):
    trainer = tiny_trainer(tmp_path / "run", epochs=2, class_loss_after=9, patience=0, min_delta=9.0)
    seen = []
    commit = trainer._commit
    trainer._commit = lambda improved: (seen.append(arrays(trainer.model.weights)), commit(improved))
    trainer.fit()
    start, best, restored = seen
    assert any((a != b).any() for a, b in zip(start, best, strict=True))
    for one, other in zip(best, restored, strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_stops_early(tmp_path, eager, capsys):
    trainer = tiny_trainer(tmp_path / "run", epochs=9, patience_stop=0, min_delta=9.0)
    trainer.fit()
    assert len(log_rows(trainer.run)) == 2
    assert "stopped after epoch 2" in capsys.readouterr().out
    tiny_trainer(tmp_path / "run", epochs=9, patience_stop=0, min_delta=9.0).fit(resume=True)
    assert len(log_rows(trainer.run)) == 2


def test_best_model_holds_the_averages(tmp_path, eager):
    decay = 0.5
    trainer = tiny_trainer(tmp_path / "run", tiny_model(), epochs=1, ema=decay)
    seen = []
    trainer.model.train_function = None
    train_step = trainer.model.train_step
    trainer.model.train_step = lambda data: (train_step(data), seen.append(arrays(trainer.model.trainable_weights)))[0]
    trainer.fit()
    assert len(seen) == 2
    best = keras.models.load_model(trainer.run / "best.keras")
    last = keras.models.load_model(trainer.run / "last.keras")
    # The average starts as the weights after the first step.
    for one, first, second in zip(arrays(best.trainable_weights), *seen, strict=True):
        np.testing.assert_allclose(one, decay * first + (1 - decay) * second, rtol=1e-5, atol=1e-7)
    for one, second in zip(arrays(last.trainable_weights), seen[1], strict=True):
        np.testing.assert_array_equal(one, second)
    compile_model(best, trainer.config)
    validated = best.evaluate(trainer.val_batches(), steps=2, verbose=0, return_dict=True)
    assert log_rows(trainer.run)[0]["val_loss"] == pytest.approx(validated["loss"], rel=1e-5)
    before = arrays(trainer.model.weights)
    with averaged_weights(trainer.model):
        pass
    assert all((a == b).all() for a, b in zip(before, arrays(trainer.model.weights), strict=True))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_float32_and_leaves_float32_files(tmp_path, eager, precision):
    losses = {}
    for used in ("float32", precision):
        model = tiny_model(precision=used)
        compile_model(model, TrainConfig(num_steps=2, precision=used, learning_rate=1e-3))
        assert {variable.dtype for variable in model.weights} == {"float32"}
        losses[used] = [model.train_on_batch(*one_batch(), return_dict=True)["loss"] for _ in range(3)]
    assert losses[precision] == pytest.approx(losses["float32"], rel=2e-2)
    assert losses[precision] != losses["float32"]
    assert losses[precision][2] < losses[precision][0]
    assert model.encoder.layers[1].compute_dtype == precision.removeprefix("mixed_")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert {layer.compute_dtype for layer in loaded._flatten_layers()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_transfer_copies_all_but_the_layer_of_other_classes():
    source = tiny_model(seed=1, class_names=("background", "a", "b", "c"))
    for names, same in ((("background", "leaf"), False), (source.config.class_names, True)):
        model = tiny_model(num_classes=len(names), class_names=names)
        fresh = arrays(model.decoder.class_head.weights)
        assert transfer_weights(model, source) == same
        head = {id(variable) for variable in model.decoder.class_head.weights}
        for variable, trained in zip(model.weights, source.weights, strict=True):
            if same or id(variable) not in head:
                np.testing.assert_array_equal(*arrays([variable, trained]))
        if not same:
            np.testing.assert_array_equal(model.decoder.class_head.kernel, fresh[0])
    with pytest.raises(
        InputError, match=r"Received: hidden_size=16 instead of 32, skip_mode='concat' instead of 'sum'"
    ):
        transfer_weights(tiny_model(hidden_size=32, skip_mode="sum"), source)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorBoard's files are written by TensorFlow")
def test_tensorboard_gets_curves_and_pictures(tmp_path):
    import tensorflow as tf

    from rsis_tf.training.loggers import LOGGERS, RunInfo

    def images():
        return {"scene": np.zeros((4, 6, 3), np.uint8)}

    log = LOGGERS["tensorboard"]()
    log.on_run_begin(RunInfo(folder=tmp_path, settings=None, model=None, resumed=False, images=images))
    log.on_epoch_end(0, {"loss": 1.5, "val_loss": 2.5})
    log.on_run_end(None)
    found = {}
    for path in sorted(tmp_path.rglob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[path.parent.name, value.tag] = (event.step, tf.make_ndarray(value.tensor))
    assert set(found) == {("train", "loss"), ("validation", "loss"), ("validation", "sequences/scene")}
    assert found["train", "loss"] == (1, 1.5)
    assert found["validation", "loss"] == (1, 2.5)
    assert tf.io.decode_png(found["validation", "sequences/scene"][1][2]).shape == (4, 6, 3)
