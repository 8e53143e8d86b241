"""One step count for the learning rates of all parts: late starts, a return to the best weights, an interruption."""

import json

import numpy as np
import pytest
from tiny import arrays, log_rows, tiny_model, tiny_trainer

from rsis_tf.config import TrainConfig
from rsis_tf.training.compilation import apply_stage, compile_model
from rsis_tf.training.curriculum import Stage
from rsis_tf.training.optimizer import optimizer_parts, step_clock
from rsis_tf.training.state import state_variables


class Rates:
    """A callback that keeps the rates of all parts and the clock at the end of every epoch."""

    def __init__(self):
        self.rows = []

    def on_epoch_end(self, epoch, logs):
        parts = optimizer_parts(self.model.optimizer)
        rates = {name: float(part.learning_rate) for name, part in parts.items()}
        self.rows.append((int(step_clock(self.model.optimizer)), rates))


def rated_trainer(run, **config):
    rates = Rates()
    trainer = tiny_trainer(run, callbacks=[rates], **config)
    rates.model = trainer.model
    return trainer, rates


def test_a_part_that_starts_late_has_the_rate_of_its_step(eager):
    from tiny import DATA, SCENES

    from rsis_tf.data.pipeline import plain_batches

    batch = next(plain_batches(SCENES, DATA, training=False))
    model = tiny_model()
    config = TrainConfig(num_steps=2, schedule="cosine", learning_rate=1.0, encoder_learning_rate=0.1, finetune_after=1)
    compile_model(model, config, total_steps=100)
    parts = optimizer_parts(model.optimizer)
    step_clock(model.optimizer).assign(50)
    for update_encoder in (False, True):
        apply_stage(model, config, Stage(num_steps=2, update_encoder=update_encoder))
        before = arrays(model.encoder.trainable_variables)
        model.train_on_batch(*batch)
    assert {name: int(part.iterations) for name, part in parts.items()} == {
        **{"encoder": 1, "class_head": 0, "stop_head": 0},
        "decoder": 2,
    }
    # Half of the rate is left at step 50; with a warm-up of its own, the encoder would not have moved.
    moved = max(np.abs(a - b).max() for a, b in zip(before, arrays(model.encoder.trainable_variables), strict=True))
    assert 0.04 < moved < 0.06
    step_clock(model.optimizer).assign(100)
    rates = {name: float(part.learning_rate) for name, part in parts.items()}
    assert rates == pytest.approx({"encoder": 1e-3, "class_head": 1e-2, "stop_head": 1e-2, "decoder": 1e-2})


def test_the_clock_goes_on_when_the_best_weights_come_back(tmp_path, eager, capsys):
    trainer, rates = rated_trainer(
        tmp_path / "run",
        **{"schedule": "cosine", "epochs": 4, "patience": 0, "min_delta": 9.0, "finetune_after": 9},
        encoder_learning_rate=1e-2,
    )
    trainer.fit()
    assert "encoder on (patience ran out, back to the best weights)" in capsys.readouterr().out
    assert [clock for clock, _ in rates.rows] == [2, 4, 6, 8]
    for _, parts in rates.rows:
        assert len(set(parts.values())) == 1
    values = [parts["decoder"] for _, parts in rates.rows]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1e-4)


def test_an_interrupted_run_resumes_with_the_same_rates(tmp_path, eager):
    settings = {
        **{"schedule": "cosine", "optimizer": "sgd", "encoder_optimizer": "rmsprop", "smooth_curves": True},
        **{"epochs": 3, "finetune_after": 1, "ema": 0.8},
    }
    whole, rates = rated_trainer(tmp_path / "whole", **settings)
    whole.fit()

    class Killed(BaseException):
        pass

    broken, _ = rated_trainer(tmp_path / "broken", **settings)
    batches = broken.train_batches

    def breaking(epoch):
        if epoch == 2:
            raise Killed
        return batches(epoch)

    broken.train_batches = breaking
    with pytest.raises(Killed):
        broken.fit()
    resumed, others = rated_trainer(tmp_path / "broken", **settings)
    resumed.fit(resume=True)
    assert others.rows == rates.rows[2:]
    for row, other in zip(log_rows(whole.run), log_rows(resumed.run), strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    for one, other in zip(state_variables(whole.model), state_variables(resumed.model), strict=True):
        np.testing.assert_allclose(*arrays([one, other]), rtol=1e-4, atol=1e-6, err_msg=one.path)


def test_a_state_of_an_earlier_version_can_be_resumed(tmp_path, eager):
    """Its stage has no smoothed loss; its arrays are the same."""
    tiny_trainer(tmp_path / "run", epochs=1).fit()
    path = tmp_path / "run/state/state.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["state"]["stage"]["smoothed_loss"]
    path.write_text(json.dumps(content), encoding="utf-8")
    tiny_trainer(tmp_path / "run", epochs=2).fit(resume=True)
    assert [row["epoch"] for row in log_rows(tmp_path / "run")] == [1, 2]
