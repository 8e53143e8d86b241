"""A small export and image files, shared by the tests of all examples."""

import pathlib

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An ONNX file, with its JSON file, of a network with random weights that finds objects in any image."""
    return _export(tmp_path_factory.mktemp("examples"), aspect="stretch")


@pytest.fixture(scope="session")
def keeping_model_file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same for a model that keeps the shape of images."""
    return _export(tmp_path_factory.mktemp("keeping"), aspect="keep")


def _export(folder: pathlib.Path, *, aspect: str) -> pathlib.Path:
    import keras

    from export import onnx as exporter
    from rsis_tf.models import ModelConfig, build_model

    keras.utils.set_random_seed(3)
    config = ModelConfig(
        encoder="compact",
        hidden_size=16,
        num_classes=4,
        num_steps=4,
        image_size=(32, 48),
        aspect=aspect,
        class_names=("background", "leaf", 'st"öne', "stick"),
    )
    model = build_model(config)
    model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
    model.decoder.class_head.kernel.assign(model.decoder.class_head.kernel * 5)
    model.decoder.stop_head.bias.assign([1.0])
    model.save(folder / "best.keras")
    exporter.main([str(folder), "--no-verify"])
    return folder / "model.onnx"


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """PNG files of the network's size, larger, and smaller on one side."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i, (height, width) in enumerate([(32, 48), (70, 100), (20, 90)]):
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (min(height, width) / 3) ** 2
        noise = np.random.default_rng(i).integers(0, 120, (height, width, 3))
        image = np.where(disc[..., None], [200, 150, 90], noise).astype(np.uint8)
        paths.append(folder / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    return paths
