"""A training that ends by the clock, and goes on as if nothing had happened."""

import json

import numpy as np
import pytest
from test_run import DATASETS, tiny_settings
from tiny import arrays, log_rows, tiny_trainer

from rsis_tf import run
from rsis_tf.errors import InputError
from rsis_tf.inference import load_model
from rsis_tf.training.time_limit import TimeLimit


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def test_an_epoch_fits_if_it_is_over_before_the_limit():
    clock = Clock()
    limit = TimeLimit(1.0, begun=100.0, now=clock)
    fits = {}
    for begun, ended in ((100, 1300), (1300, 2500), (1300, 2501), (3000, 3400), (3600, 3800)):
        clock.time = begun
        limit.begin_epoch()
        clock.time = ended
        fits[begun, ended] = limit.allows_another()
    # The limit is at 3700: after 2500 there are 1200 seconds left, and the epoch took 1200.
    assert list(fits.values()) == [True, True, False, False, False]
    limit = TimeLimit(now=clock)
    clock.time = 1e9
    assert limit.allows_another()


@pytest.mark.slow
def test_a_run_that_is_out_of_time_ends_in_full_and_resumes_to_the_same_weights(tmp_path, eager, capsys):
    settings = tiny_settings(epochs=2, schedule="cosine", ema=0.9, calibrate_objectness=True)
    run.train(settings, out=tmp_path / "whole", datasets=DATASETS)
    capsys.readouterr()

    options = {"datasets": DATASETS, "max_hours": 1e-9}  # no second epoch ever fits
    trained = run.train(settings, out=tmp_path / "parts", **options)
    assert len(log_rows(tmp_path / "parts")) == 1
    assert trained.scores.images == 2
    assert {"metrics.json", "best.keras", "curves.png", "sequences.png"} <= {p.name for p in trained.folder.iterdir()}
    screen = capsys.readouterr().out
    assert "stopped after epoch 1: another does not fit into 1e-09 hours. The learning rate is still" in screen
    assert f"`rsis train --resume {tmp_path / 'parts'}` trains the other 1" in screen
    run.train(run.resumed_settings(tmp_path / "parts"), out=tmp_path / "parts", resume=True, **options)
    assert "stopped after epoch 2" not in capsys.readouterr().out

    assert log_rows(tmp_path / "parts") == log_rows(tmp_path / "whole")
    for name in ("best.keras", "last.keras"):
        whole, parts = (load_model(tmp_path / folder / name) for folder in ("whole", "parts"))
        for one, other in zip(whole.weights, parts.weights, strict=True):
            np.testing.assert_array_equal(*arrays([one, other]))
    scores = [json.loads((tmp_path / folder / "metrics.json").read_text()) for folder in ("whole", "parts")]
    assert scores[0]["ap50"] == scores[1]["ap50"]
    assert scores[0]["stop_threshold"] == scores[1]["stop_threshold"]

    # A finished run that is resumed calibrates once more, which changes nothing.
    before = arrays(load_model(tmp_path / "whole/best.keras").weights)
    run.train(run.resumed_settings(tmp_path / "whole"), out=tmp_path / "whole", resume=True, datasets=DATASETS)
    for one, other in zip(before, arrays(load_model(tmp_path / "whole/best.keras").weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_constant_rate_needs_no_warning(tmp_path, eager, capsys):
    tiny_trainer(tmp_path / "run", limit=TimeLimit(1e-9)).fit()
    screen = capsys.readouterr().out
    assert "1e-09 hours. `rsis train" in screen


@pytest.mark.parametrize("hours", [0, -1.0, float("nan"), float("inf"), "2", True])
def test_a_limit_is_a_positive_number(hours, tmp_path):
    with pytest.raises(InputError, match="Received: max_hours="):
        run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, max_hours=hours)
    assert not (tmp_path / "run").exists()


def test_several_workers_have_no_limit(tmp_path):
    with pytest.raises(InputError, match="Received: 1 with multi_worker"):
        run.train(tiny_settings(strategy="multi_worker"), out=tmp_path / "run", datasets=DATASETS, max_hours=1)
