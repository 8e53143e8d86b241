"""One process writes a run's folder; others are refused, and nothing is left of a training that cannot begin."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rsis_tf.errors import InputError
from rsis_tf.files import LOCK, WriteError, locked, write_text
from rsis_tf.run_folder import new_folder

ROOT = pathlib.Path(__file__).parents[2]
TINY = (
    "--epochs 1 --train-size 8 --val-size 4 --batch-size 4 --image-size 32 --hidden-size 16 --min-channels 0 --steps 2"
).split()


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path):
    with locked(tmp_path):
        with pytest.raises(InputError, match=rf"Received: {tmp_path}, whose .lock is held"):
            locked(tmp_path).__enter__()
        assert os.listdir(tmp_path) == [LOCK]
    assert os.listdir(tmp_path) == []
    with locked(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    program = (
        "import sys, time; from rsis_tf.files import locked\n"
        "with locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="is held"), locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert os.listdir(tmp_path) == [LOCK]
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("mode", ["named", "next"])
def test_two_processes_that_claim_folders_at_the_same_time_never_share_one(tmp_path, mode):
    rounds = 50
    command = [sys.executable, ROOT / "tests/training/claim.py", mode, str(time.time() + 3), str(rounds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    claimed = [process.communicate()[0].split() for process in processes]
    assert [len(one) for one in claimed] == [rounds, rounds]
    folders = [folder for one in claimed for folder in one if folder != "-"]
    assert len(set(folders)) == len(folders)
    assert len(folders) == (rounds if mode == "named" else 2 * rounds)
    assert {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("file")} == set(folders)
    assert not list(tmp_path.rglob(LOCK))


@pytest.mark.slow
def test_of_two_trainings_that_race_for_a_folder_one_trains(tmp_path):
    def results(*options):
        command = [sys.executable, "train.py", *map(str, options)]
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        return sorted((process.communicate()[1], process.returncode) for process in processes)

    for options in ((*TINY, "--out", tmp_path / "run"), ("--resume", tmp_path / "run")):
        (_, trained), (error, refused) = results(*options)
        assert (trained, refused) == (0, 2)
        assert (
            error == f"error: expected a folder that no other process is writing. Received: {tmp_path / 'run'}, "
            "whose .lock is held\n"
        )


def fail_in(out, state):
    """Begins a run, and fails after a file of its state."""
    with new_folder(out, "run") as folder:
        write_text(folder / "config.json", "{}")
        (folder / "state").mkdir()
        (folder / "state" / state).touch()
        raise InputError("reason")


def test_a_folder_is_left_as_it_was_found_if_the_training_cannot_begin(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new/deep/run"):
        with pytest.raises(InputError, match="reason"):
            fail_in(out, "epoch-0.npz")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_run_that_has_begun_is_kept(tmp_path):
    with pytest.raises(InputError, match="reason"):
        fail_in(tmp_path / "run", "state.json")
    assert (tmp_path / "run/state/state.json").is_file()


@pytest.mark.parametrize("out", ["file", "file/run", "x" * 300, "x\0y"])
def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path, out):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"^(expected|out must be) [^\n]* Received: [^\n]*$"),
        new_folder(tmp_path / out, "run"),
    ):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path, monkeypatch):
    def read_only(path, *_, **__):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(os, "mkdir", read_only)
    with (
        pytest.raises(WriteError, match=r"Received: .*run \(Read-only file system\)"),
        new_folder(tmp_path / "run", "run"),
    ):
        pass
