"""Training on two replicas gives the losses, gradients and files of one device on the same batches."""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny import DATA, SCENES, log_rows

from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.errors import InputError
from rsis_tf.training.distribution import is_chief, start

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is of TensorFlow")
ROOT = pathlib.Path(__file__).parents[2]
RUN = ROOT / "tests/training/distribution_run.py"
COMMAND = (
    "--preset paper --ema 0.9 --epochs 2 --train-size 8 --val-size 5 --batch-size 4 --image-size 32 --hidden-size 16 "
    "--min-channels 0 --maxseqlen 2 --patience 0 --min-delta 9 --class-loss-after 9 --schedule constant"
).split()


def free_ports(number):
    """Returns free ports of the loopback interface."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def tf_config(ports, index):
    workers = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def start_process(*command, **variables):
    # Sums over another number of threads are rounded in another way; the bounds below are those of two.
    fixed = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_NUM_INTRAOP_THREADS": "2"}
    environment = os.environ | fixed | variables
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*command, workers=0):
    """Runs a command, in one process or on a number of workers, and returns the output of each."""
    ports = free_ports(workers)
    variables = [{"TF_CONFIG": tf_config(ports, index)} for index in range(workers)] or [{}]
    processes = [start_process(*command, **each) for each in variables]
    try:
        screens = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(screens)
    return screens


def compare(folder, strategy):
    """Compares three steps and a validation under a strategy with those on one device."""
    one, two = (json.loads((folder / f"{name}.json").read_text()) for name in ("none", strategy))
    assert (one["replicas"], two["replicas"]) == (1, 2)
    # The same sums in another order: float32 rounding in the first step. Adam then divides small gradients by
    # themselves, which makes some of their rounding as large as a step.
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-6)
    assert two["losses"][1:] == [pytest.approx(step, rel=1e-5) for step in one["losses"][1:]]
    names = one["weights"] + one["moments"]
    with np.load(folder / "none.npz") as ours, np.load(folder / f"{strategy}.npz") as theirs:
        for i, (name, key) in enumerate(zip(names, ours.files, strict=True)):
            if "skip" in name and "convolution" in name and "bias" in name:
                continue  # before batch normalisation: their gradient is only rounding
            a, b = ours[key], theirs[key]
            weight = i < len(one["weights"]) or name.endswith("_average")
            # Three steps of 1e-3 move a weight by up to 3e-3. Moments tell the scale of the gradients as well.
            np.testing.assert_allclose(b, a, rtol=0, atol=2e-4 if weight else 2e-3 * np.abs(a).max(), err_msg=name)
    return two


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distribution")
    run(RUN, "none", folder, "compact", "convolution")
    return folder


@pytest.mark.slow
def test_two_virtual_devices_train_as_one(one_device):
    run(RUN, "mirrored", one_device, "compact", "convolution")
    result = compare(one_device, "mirrored")
    assert result["refused"].endswith("a multiple of the replicas, 2 here. Received: --batch-size 3")


@pytest.mark.slow
def test_two_workers_train_as_one_device(one_device):
    run(RUN, "multi_worker", one_device, "compact", "convolution", workers=2)
    compare(one_device, "multi_worker")


@pytest.mark.slow
def test_the_voting_head_trains_on_two_replicas_as_on_one(tmp_path):
    for strategy, workers in (("none", 0), ("mirrored", 0), ("multi_worker", 2)):
        run(RUN, strategy, tmp_path, "compact", "voting", workers=workers)
    one = json.loads((tmp_path / "none.json").read_text())["losses"]
    for strategy in ("mirrored", "multi_worker"):
        two = json.loads((tmp_path / f"{strategy}.json").read_text())["losses"]
        assert two[0] == pytest.approx(one[0], rel=1e-5)
        assert two[1:] == [pytest.approx(step, rel=1e-3) for step in one[1:]]


@pytest.mark.slow
def test_two_workers_keep_one_folder_and_resume(tmp_path):
    """The whole command, with a stage that goes back to the best weights, then resumed for one more epoch."""
    run("train.py", *COMMAND, "--epochs", "3", "--out", tmp_path / "one")
    chief, other = run("train.py", *COMMAND, "--strategy", "multi_worker", "--out", tmp_path / "two", workers=2)
    assert "2 replicas" in chief
    assert "AP50" in chief
    assert "epoch" not in other
    files = {path.name for path in (tmp_path / "two").iterdir()}
    assert files == {path.name for path in (tmp_path / "one").iterdir()}
    run("train.py", "--resume", tmp_path / "two", "--epochs", "3", workers=2)
    settings = json.loads((tmp_path / "two/config.json").read_text())["train"]
    assert (settings["epochs"], settings["strategy"]) == (3, "multi_worker")
    rows, others = log_rows(tmp_path / "one"), log_rows(tmp_path / "two")
    assert len(rows) == len(others) == 3
    for row, other_row in zip(rows, others, strict=True):
        # Batch normalisation of 4 values a channel (32 pixels, deepest level) magnifies rounding.
        assert other_row == pytest.approx(row, rel=1e-2)
    stages = [json.loads((tmp_path / name / "stages.json").read_text()) for name in ("one", "two")]
    assert stages[0] == stages[1]
    assert any(entry.get("reason") == "patience" for entry in stages[0])


@pytest.mark.parametrize("training", [True, False])
def test_shares_are_parts_of_the_batches(training):
    data = DATA.__class__(image_size=(32, 32), batch_size=4, max_objects=2)
    scenes = SCENES.__class__(size=(32, 32), length=9, seed=3, max_objects=2)
    whole = list(plain_batches(scenes, data, training=training))
    by_replica = [
        list(tf_batches(scenes, data, training=training, replicas=4, here=range(replica, replica + 2)))
        for replica in (0, 2)
    ]
    assert [len(shares) for shares in by_replica] == [2 * len(whole)] * 2
    for number, (images, targets) in enumerate(whole):
        shares = [share for shares in by_replica for share in shares[2 * number : 2 * number + 2]]
        np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), images)
        for name, array in targets.items():
            np.testing.assert_array_equal(np.concatenate([share[1][name] for share in shares]), array)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", r"Received: TF_CONFIG=''$"),
        ("{", r"Received: TF_CONFIG='{'$"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "Received: .*index"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "Received: .*ps"),
    ],
)
def test_an_invalid_cluster_is_refused(monkeypatch, content, said):
    monkeypatch.setenv("TF_CONFIG", content)
    with pytest.raises(InputError, match=said):
        start("multi_worker", batch_size=4)


def test_the_first_worker_is_the_chief(monkeypatch):
    for index, chief in enumerate((True, False)):
        monkeypatch.setenv("TF_CONFIG", tf_config([1, 2], index))
        assert is_chief("multi_worker") is chief
    cluster = {"chief": ["a:1"], "worker": ["b:1"]}
    for kind, chief in (("chief", True), ("worker", False)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}}))
        assert is_chief("multi_worker") is chief


def test_another_backend_is_refused():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    process = start_process("train.py", "--strategy", "mirrored", KERAS_BACKEND="torch")
    screen, _ = process.communicate()
    assert process.returncode == 2
    assert screen.endswith("Received: KERAS_BACKEND=torch\n")
