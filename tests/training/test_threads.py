"""The number of threads of a training reaches TensorFlow."""

import subprocess
import sys

import pytest

from rsis_tf import run
from rsis_tf.cli import train as command
from rsis_tf.config.presets import shapes
from rsis_tf.errors import InputError

_PROGRAM = """
from rsis_tf.engine import limit_threads
limit_threads(3, operations=2)
import tensorflow as tf
settings = tf.config.threading
print(settings.get_intra_op_parallelism_threads(), settings.get_inter_op_parallelism_threads())
tf.constant(1) + 1
limit_threads(3, operations=2)  # the same numbers are no change
try:
    limit_threads(3, operations=4)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_tensorflow_takes_the_threads_before_it_starts():
    printed = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stdout
    numbers, error = printed.splitlines()
    assert numbers == "3 2"
    assert error.startswith("InputError threads must be set before TensorFlow computes")
    assert "Received: " in error


def test_a_training_limits_operations_and_their_threads(tmp_path, monkeypatch):
    class LimitedError(Exception):
        pass

    def limit(threads, *, operations):
        raise LimitedError(threads, operations)

    monkeypatch.setattr(run, "limit_threads", limit)
    with pytest.raises(LimitedError, match=r"\(3, 3\)"):
        run.train(shapes(), out=tmp_path / "run", threads=3, check=False)


def test_the_option_is_an_argument_of_the_training_and_no_setting(monkeypatch):
    calls = []
    monkeypatch.setattr(command, "train", lambda settings, **options: calls.append((settings, options)))
    monkeypatch.setattr(command, "_print_result", lambda run: None)
    command.main(["--threads", "2"])
    command.main([])
    assert [options["threads"] for _, options in calls] == [2, None]
    assert calls[0][0] == calls[1][0]


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2"])
def test_a_number_that_is_none_is_refused(tmp_path, threads):
    with pytest.raises(InputError, match="Received: "):
        run.train(shapes(), out=tmp_path / "run", threads=threads)
    assert not (tmp_path / "run").exists()
