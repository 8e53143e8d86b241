"""Quiet start of Keras, and helpers on the path: tests import `golden_weights`, `legacy_torch` and the like."""

import functools
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from rsis_tf.engine import quiet_start

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest_plugins = ["skips"]
# Golden numbers are float32; NVIDIA's libraries round to TensorFloat-32 on GPUs since Ampere unless told not to.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
quiet_start()


@pytest.fixture
def toy_model(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Returns a function that writes a toy graph (see `write_toy_graph`) into the folder of the test."""
    from toy_graphs import write_toy_graph

    return functools.partial(write_toy_graph, tmp_path / "toy.onnx")
