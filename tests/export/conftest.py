"""Fixtures: a graph with the exporter's names whose answers can be counted by hand, and a small run's folder."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from toy_graphs import write_toy_graph


@pytest.fixture
def toy_model(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes a toy graph (see `write_toy_graph`) into the test's folder and returns its path."""
    return functools.partial(write_toy_graph, tmp_path / "toy.onnx")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run's folder with a network of random weights that finds four objects in any picture."""
    import keras

    from rsis_tf.models import ModelConfig, build_model

    keras.utils.set_random_seed(3)
    config = ModelConfig(
        encoder="compact",
        hidden_size=32,
        num_classes=4,
        num_steps=4,
        image_size=(48, 64),
        class_names=("background", "leaf", "stone", "stick"),
    )
    model = build_model(config)
    model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
    model.decoder.class_head.kernel.assign(model.decoder.class_head.kernel * 5)
    model.decoder.stop_head.bias.assign([1.0])
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "best.keras")
    return folder


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Three pictures of different sizes and contents."""
    from export.verify import textured_picture

    return [textured_picture(size, seed) for seed, size in enumerate([(48, 64), (37, 91), (150, 120)])]
