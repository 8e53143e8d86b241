"""Fixtures: a graph with the names of an export whose outputs can be worked out by hand, and a small run folder."""

import pathlib
import tarfile

import numpy as np
import pytest


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run folder with a network of random weights that finds four objects in every image."""
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
def images() -> list[np.ndarray]:
    """Three images of different sizes and contents."""
    from rsis_tf.images import synthetic_image

    return [synthetic_image(size, seed) for seed, size in enumerate([(48, 64), (37, 91), (150, 120)])]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two runs on generated scenes, `paper` and `voting` (tests/earlier/NOTES.md)."""
    folder = tmp_path_factory.mktemp("trained")
    with tarfile.open(pathlib.Path(__file__).parents[1] / "earlier" / "files.tar.xz") as archive:
        wanted = [member for member in archive if member.name.endswith("best.keras")]
        archive.extractall(folder, wanted, filter="data")
    return folder
