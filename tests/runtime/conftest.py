"""Fixtures: a graph with the exporter's names whose outputs can be counted by hand."""

import functools
import pathlib
from collections.abc import Callable

import pytest
from toy_graphs import write_toy_graph


@pytest.fixture
def toy_model(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes a toy graph (see `write_toy_graph`) into the test's folder and returns its path."""
    return functools.partial(write_toy_graph, tmp_path / "toy.onnx")
