"""Fixtures: a graph with the names of an export whose outputs can be worked out by hand, and a small run folder."""

import functools
import json
import pathlib
import tarfile
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CLASS_NAMES = ("background", "leaf", "stone")
CLASS_PROBS = np.array([[0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.8, 0.15, 0.05]], np.float32)  # (T, K)


def _write(
    path: pathlib.Path,
    *,
    size: tuple[int | str, int | str] = (8, 8),
    batch: int | str = "batch",
    dtype: int = TensorProto.UINT8,
    metadata: dict[str, str] | None = None,
) -> pathlib.Path:
    """Writes a graph of three steps. The mask of step t is colour channel t / 255; its stop output is the maximum."""
    constants = {
        "scale": np.array(255, np.float32),
        "probs": CLASS_PROBS[None],  # (1, T, K)
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["channels", "scale"], ["masks"]),
        helper.make_node("ReduceMax", ["masks"], ["stop"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["stop", "last"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "probs"], ["classes"]),
    ]
    constants["last"] = np.array([2], np.int64)
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", dtype, [batch, *size, 3])],
        [
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, [batch, 3, *size]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, 3, 3]),
            helper.make_tensor_value_info("stop", TensorProto.FLOAT, [batch, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    properties = {
        "class_names": json.dumps(CLASS_NAMES),
        "image_size": "[8, 8]",
        "dynamic_size": "false" if isinstance(size[0], int) else "true",
        "num_steps": "3",
        "stop_threshold": "0.5",
        "mask_threshold": "0.5",
    }
    helper.set_model_props(model, properties if metadata is None else metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def toy_model(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Returns a function that writes a toy graph (see `_write`) into the folder of the test and returns its path."""
    return functools.partial(_write, tmp_path / "toy.onnx")


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
