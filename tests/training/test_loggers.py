"""Callbacks and loggers: when they are called, with what, and what happens if they cannot be."""

import sys

import keras
import numpy as np
import pytest
from fake_loggers import fake_mlflow, fake_wandb
from test_run import DATASETS, tiny_settings
from tiny import log_rows

from rsis_tf import run
from rsis_tf.config import LOGGER_NAMES, TrainConfig
from rsis_tf.config.presets import shapes
from rsis_tf.errors import InputError
from rsis_tf.training import Callback
from rsis_tf.training.loggers import LOGGERS, RunInfo, loggers
from rsis_tf.training.loggers.named import load_callback


class Notes(Callback):
    """Keeps its calls."""

    def __init__(self):
        self.calls = []

    def on_run_begin(self, run):
        self.calls.append(("begin", run.folder.name, run.resumed))
        self.run = run

    def on_epoch_end(self, epoch, logs):
        self.calls.append(("epoch", epoch, logs["loss"], logs["val_loss"]))
        self.images = self.run.images()

    def on_run_end(self, scores):
        self.calls.append(("end", scores))


def info(folder, **changes):
    images = {"a": np.zeros((4, 6, 3), np.uint8)}
    return RunInfo(folder=folder, settings=shapes(), model=None, resumed=False, images=lambda: images, **changes)


def test_a_callback_is_told_everything_once(tmp_path, eager):
    first, second = Notes(), Notes()
    trained = run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, callbacks=[first, second])
    assert first.calls == second.calls
    begin, *epochs, end = first.calls
    assert begin == ("begin", "run", False)
    rows = log_rows(tmp_path / "run")
    assert [(epoch + 1, pytest.approx(loss), pytest.approx(val)) for _, epoch, loss, val in epochs] == [
        (row["epoch"], row["loss"], row["val_loss"]) for row in rows
    ]
    assert end[1]["sbd"] == trained.scores.sbd
    assert isinstance(first.run.model, keras.Model)
    assert first.run.settings.model.class_names == trained.settings.model.class_names
    assert len(first.images) == 2
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in first.images.values())


def test_a_callback_ends_with_a_run_that_fails(tmp_path, eager):
    class Failing(Callback):
        def on_epoch_end(self, epoch, logs):
            raise ValueError("no connection")

    notes, never = Notes(), Notes()
    with pytest.raises(ValueError, match="no connection"):
        run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, callbacks=[notes, Failing()])
    assert [call[0] for call in notes.calls] == ["begin", "epoch", "end"]
    assert notes.calls[-1] == ("end", None)
    with pytest.raises(InputError):
        run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, callbacks=[never])
    assert never.calls == []
    # The state before the epoch remains.
    resumed = Notes()
    run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, resume=True, callbacks=[resumed])
    assert [call[:2] for call in resumed.calls][:2] == [("begin", "run"), ("epoch", 0)]
    assert resumed.calls[0][2] is True


def test_a_callback_that_fails_at_the_end_hides_no_error_and_no_other_callback(tmp_path, eager, capsys):
    class First(Callback):
        def on_run_end(self, scores):
            print(scores["ap50"])

    class Second(Callback):
        ended = False

        def on_epoch_end(self, epoch, logs):
            raise RuntimeError("no connection")

        def on_run_end(self, scores):
            self.ended = True

    second = Second()
    with pytest.raises(RuntimeError, match="no connection"):
        run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS, callbacks=[First(), second])
    assert second.ended
    assert "First.on_run_end failed: TypeError: " in capsys.readouterr().err


def test_names_of_loggers_are_those_of_the_table():
    assert tuple(sorted(LOGGERS)) == LOGGER_NAMES
    assert [type(log) for log in loggers(["tensorboard", "tensorboard"])] == [LOGGERS["tensorboard"]]


def test_the_setting_of_earlier_versions_is_a_logger():
    assert TrainConfig(tensorboard=False).loggers == ()
    assert TrainConfig(tensorboard=True).loggers == ("tensorboard",)
    both = TrainConfig(loggers=("wandb",)).changed(tensorboard=True)
    assert both.loggers == ("wandb", "tensorboard")
    assert both.changed(tensorboard=False).loggers == ("wandb",)
    with pytest.raises(InputError, match="Received: loggers="):
        TrainConfig(loggers=("visdom",))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_without_its_package_says_what_to_install(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    settings = tiny_settings(loggers=(name,))
    with pytest.raises(InputError, match=rf"--logger {name} needs its package: pip install {name}\. Received: none"):
        run.train(settings, out=tmp_path / "run", datasets=DATASETS)
    assert not (tmp_path / "run").exists()


def test_wandb_stays_offline_and_gets_everything(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    log = LOGGERS["wandb"]()
    log.on_run_begin(info(tmp_path / "leaves"))
    log.on_epoch_end(0, {"loss": 1.5, "val_loss": 2.5})
    log.on_run_end({"ap50": 0.5, "foreground_dice": float("nan")})
    (_, mode, start), (_, step, row), end = calls
    assert mode == "offline"
    assert (start["project"], start["name"], start["dir"]) == ("rsis_tf", "leaves", str(tmp_path / "leaves"))
    assert start["config"]["model"]["encoder"] == "compact"
    assert (step, row["epoch"], row["val_loss"], row["sequences/a"].shape) == (1, 1, 2.5, (4, 6, 3))
    assert end == ("finish", 0, {"ap50": 0.5})


def test_wandb_follows_the_users_own_settings(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "plants")
    log = LOGGERS["wandb"]()
    log.on_run_begin(info(tmp_path))
    log.on_run_end(None)
    assert calls[0][1:2] == ("online",)
    assert calls[0][2]["project"] == "plants"
    assert calls[1] == ("finish", 1, {})
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(InputError, match=r"Received: no mode nonsense$"):
        LOGGERS["wandb"]().on_run_begin(info(tmp_path))


def test_mlflow_gets_everything(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    log = LOGGERS["mlflow"]()
    log.on_run_begin(info(tmp_path / "leaves"))
    log.on_epoch_end(4, {"loss": 1.5})
    log.on_run_end({"ap50": 0.5, "ar50@10": 0.25, "foreground_dice": float("nan")})
    assert calls[0] == ("start_run", "leaves")
    assert calls[1][1]["encoder"] == "compact"
    assert calls[2:] == [
        ("log_metrics", 5, {"loss": 1.5}),
        ("log_metrics", None, {"ap50": 0.5, "ar50_10": 0.25}),
        ("end_run", "FINISHED"),
    ]
    log = LOGGERS["mlflow"]()
    with pytest.raises(InputError, match=r"Received: no server$"):
        log.on_run_begin(info(tmp_path / "refused"))


def test_a_run_of_mlflow_that_is_active_is_used_and_not_ended(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls, active=object()))
    log = LOGGERS["mlflow"]()
    log.on_run_begin(info(tmp_path))
    log.on_run_end(None)
    assert [call[0] for call in calls] == ["log_params"]


MODULE = """
class Mail:
    def __init__(self): self.sent = []
    def on_run_begin(self, run): pass
    def on_epoch_end(self, epoch, logs): self.sent.append(epoch)
    def on_run_end(self, scores): pass
    class Inner:
        on_run_begin = on_epoch_end = on_run_end = print
class Half:
    def on_epoch_end(self, epoch, logs): pass
class Needs:
    def __init__(self, address): pass
value = 3
"""


def test_a_callback_is_loaded_by_name(tmp_path, monkeypatch):
    (tmp_path / "notify_of_tests.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    mail = load_callback("notify_of_tests:Mail")
    mail.on_epoch_end(2, {})
    assert mail.sent == [2]
    assert type(load_callback("notify_of_tests:Mail.Inner")).__name__ == "Inner"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notify", "MODULE:CLASS, such as notify:Mail. Received: notify"),
        ("no_such_module:Mail", "imported. Received: .*no_such_module:Mail .ModuleNotFoundError: No module named"),
        ("broken_of_tests:Mail", "imported. Received: .*broken_of_tests:Mail .SyntaxError"),
        ("notify_of_tests:Post", r"a class of notify_of_tests \(.*notify_of_tests.py\). Received: .*:Post$"),
        ("notify_of_tests:Half", "without on_run_begin, on_run_end$"),
        ("notify_of_tests:Needs", "without arguments. Received: .*missing 1 required positional argument"),
        ("notify_of_tests:value", "without arguments. Received: .*'int' object is not callable"),
    ],
)
def test_a_callback_that_cannot_be_loaded_is_one_line(name, message, tmp_path, monkeypatch):
    (tmp_path / "notify_of_tests.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_of_tests.py").write_text("class", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_callback(name)
    assert len(str(caught.value).splitlines()) == 1
