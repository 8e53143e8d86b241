"""A disk that is full or read-only: one line, the last state stays, and the training continues when there is room."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from failing_disk import FailingDisk, small_disk
from test_run import DATASETS, tiny_settings
from tiny import log_rows

from rsis_tf import run
from rsis_tf.errors import InputError
from rsis_tf.files import WriteError
from rsis_tf.training.loggers.interface import RunInfo
from rsis_tf.training.loggers.tensorboard import TensorBoardLog


def content(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_training_continues_after_any_write_that_failed(tmp_path, monkeypatch, eager):
    settings = tiny_settings(calibrate_objectness=True)
    whole = tmp_path / "whole"
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch, whole, kinds=("replace",))
        run.train(settings, out=whole, datasets=DATASETS)
    names = [pathlib.Path(entry.partition(" ")[2]).name for entry in disk.done]
    assert {"config.json", "state.json", "best.keras", "last.keras", "log.csv", "stages.json"} < set(names)
    assert {"metrics.json", "curves.png", "sequences.png", "0.png", "epoch-0.npz", "epoch-1.npz"} < set(names)
    for number, name in enumerate(names):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            FailingDisk(patch, out, kinds=("replace",)).fail_at(number)
            reason = r"\((No space left on device|Read-only file system)\)"
            with pytest.raises(WriteError, match=rf"^[^\n]* Received: [^\n]*{name} {reason}$"):
                run.train(settings, out=out, datasets=DATASETS)
        begun = "state.json" in names[:number]
        assert out.exists() == begun, name
        if not begun:
            continue
        assert not list(out.rglob(".*")), name
        run.train(run.resumed_settings(out), out=out, resume=True, datasets=DATASETS)
        assert content(out) == content(whole), name
        for row, other in zip(log_rows(whole), log_rows(out), strict=True):
            assert row == pytest.approx(other, rel=1e-5), name
        shutil.rmtree(out)


def test_the_first_write_is_tried_before_the_data_is_read(tmp_path, monkeypatch):
    def read(*_):
        raise AssertionError("the data was read")

    monkeypatch.setattr(run, "load_dataset", read)
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"Received: --out .*run$"):
        run.train(tiny_settings(), out=tmp_path / "run")


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


def test_a_real_full_disk(disk, eager):
    with pytest.raises(WriteError, match=r"Received: .*epoch-0\.npz \(No space left on device\)"):
        run.train(tiny_settings(), out=disk / "run", datasets=DATASETS)
    assert list(disk.iterdir()) == []


def test_a_real_read_only_disk(disk):
    (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for resume in (False, True):
        with pytest.raises(WriteError, match=r"Received: .*run \(Read-only file system\)"):
            run.train(tiny_settings(), out=disk / "run", datasets=DATASETS, resume=resume)


def run_on(folder, images):
    """Returns what a logger is told of a run in a folder."""
    return RunInfo(folder=folder, settings=tiny_settings(), model=None, resumed=False, images=lambda: images)


def test_tensorboard_on_a_full_disk_is_one_line(disk):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    log = TensorBoardLog()
    log.on_run_begin(run_on(disk, {"a": image}))
    (disk / "other").write_bytes(bytes(4 * 2**20 - 64 * 2**10))

    def write():
        for epoch in range(20):
            log.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 1.0})

    with pytest.raises(WriteError, match=r"Received: .*tensorboard \([^\n]*No space left on device[^\n]*\)$"):
        write()


def test_tensorboard_on_a_read_only_disk_is_one_line(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(WriteError, match=r"Received: .*tensorboard \([^\n]*Read-only file system[^\n]*\)$"):
        TensorBoardLog().on_run_begin(run_on(disk, {}))
