"""A run that is killed and resumed ends like an uninterrupted run."""

import json
import os
import pathlib
import random
import sys

import numpy as np
import pytest
from tiny import arrays, log_rows, tiny_trainer

from rsis_tf.errors import InputError
from rsis_tf.training.state import state_variables

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "robustness"))
import kill

# Dropout, averages, a curriculum, and patience that runs out at once, so that everything in a state changes.
EVERYTHING = {
    "ema": 0.8,
    "clip_norm": 1.0,
    "curriculum_learning": True,
    "min_steps": 2,
    "class_loss_after": 1,
    "stop_loss_after": 9,
    "finetune_after": 9,
    "patience": 0,
    "min_delta": 0.05,
    "epochs": 5,
}


class Killed(BaseException):
    """Stands for the end of the process: no code catches it."""


def killed_at(monkeypatch, replacement, *, after):
    """Ends the process at the n-th rename: after it (`after`) or before it."""
    real, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        count += 1
        if count == replacement and not after:
            raise Killed
        real(source, target)
        if count == replacement:
            raise Killed

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.slow
def test_a_run_killed_at_any_file_ends_like_an_uninterrupted_one(tmp_path, monkeypatch, eager, capsys):
    whole = tiny_trainer(tmp_path / "whole", **EVERYTHING)
    best = whole.fit()
    rows = log_rows(whole.run)
    assert len(rows) == 5
    stages = json.loads((whole.run / "stages.json").read_text())
    assert {entry.get("reason") for entry in stages} == {None, "epoch", "patience"}

    kills = [(1, True), (2, False), (3, True), (5, False), (8, True), (7, True), (9, False), (6, False)]
    died = 0
    for replacement, after in kills:
        with monkeypatch.context() as patch:
            killed_at(patch, replacement, after=after)
            try:
                tiny_trainer(tmp_path / "killed", **EVERYTHING).fit(resume=True)
            except Killed:
                died += 1
    assert died >= 7
    resumed = tiny_trainer(tmp_path / "killed", **EVERYTHING)
    assert resumed.fit(resume=True) == pytest.approx(best, rel=1e-5)
    again = log_rows(resumed.run)
    assert [row["epoch"] for row in again] == [1, 2, 3, 4, 5]
    for row, other in zip(rows, again, strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    assert json.loads((resumed.run / "stages.json").read_text()) == stages
    for one, other in zip(state_variables(whole.model), state_variables(resumed.model), strict=True):
        np.testing.assert_allclose(*arrays([one, other]), rtol=1e-4, atol=1e-6, err_msg=one.path)
    assert sorted(path.name for path in (resumed.run / "state").iterdir())[-1] == "state.json"
    assert not list(resumed.run.rglob(".*"))


def test_an_unfinished_epoch_is_trained_again_and_logged_once(tmp_path, eager):
    whole = tiny_trainer(tmp_path / "whole", epochs=3)
    whole.fit()

    broken = tiny_trainer(tmp_path / "broken", epochs=3)
    batches = broken.train_batches

    def breaking(epoch):
        for batch, content in enumerate(batches(epoch)):
            if (epoch, batch) == (1, 1):
                raise Killed
            yield content

    broken.train_batches = breaking
    with pytest.raises(Killed):
        broken.fit()
    assert len(log_rows(broken.run)) == 1
    resumed = tiny_trainer(tmp_path / "broken", epochs=3)
    resumed.fit(resume=True)
    for row, other in zip(log_rows(whole.run), log_rows(resumed.run), strict=True):
        assert row == pytest.approx(other, rel=1e-5)

    rows = log_rows(resumed.run)
    finished = tiny_trainer(tmp_path / "broken", epochs=3)
    finished.train_batches = None  # nothing is left to train
    finished.fit(resume=True)
    assert log_rows(finished.run) == rows


def test_a_state_that_does_not_fit_is_refused(tmp_path, eager):
    trainer = tiny_trainer(tmp_path / "run", epochs=1)
    trainer.fit()
    with pytest.raises(InputError, match=r"Received: .* arrays, or other shapes, in .*epoch-1\.npz"):
        tiny_trainer(tmp_path / "run", epochs=2, ema=0.9).fit(resume=True)
    (tmp_path / "run/state/epoch-1.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match=r"Received: .*epoch-1\.npz"):
        tiny_trainer(tmp_path / "run", epochs=2).fit(resume=True)
    (tmp_path / "run/state/state.json").write_text("{")
    with pytest.raises(InputError, match=r"Received: .*state\.json"):
        tiny_trainer(tmp_path / "run", epochs=2).fit(resume=True)


@pytest.mark.slow
def test_a_command_killed_beyond_the_first_epoch_ends_with_the_same_weights(tmp_path):
    """`python tests/robustness/kill.py` kills more often."""
    seconds = kill.whole_run(tmp_path / "whole", epochs=8, seed=3)
    moments = kill.killed_run(tmp_path / "killed", epochs=8, seed=3, kills=3, longest=seconds, rng=random.Random(1))
    assert moments
    assert min(moments) >= 1
    assert kill.differences(tmp_path / "whole", tmp_path / "killed") == []
