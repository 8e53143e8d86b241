"""Multiply-adds by part: the graph of a small network, whose counts follow from its widths."""

import pathlib
import sys

import onnx
import pytest
from onnx import TensorProto, helper

keras = pytest.importorskip("keras")
pytest.importorskip("tf2onnx")

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from multiply_adds import parts, table  # noqa: E402
from work import multiply_adds  # noqa: E402

from export.onnx import main as export  # noqa: E402
from rsis_tf.config import ModelConfig  # noqa: E402
from rsis_tf.models import build_model  # noqa: E402


@pytest.mark.slow
def test_the_parts_of_a_network(tmp_path, capsys):
    config = ModelConfig(
        encoder="compact", hidden_size=16, decoder_stages=2, num_classes=3, num_steps=3, image_size=(64, 64)
    )
    model = build_model(config)
    widths = [output.shape[-1] for output in model.encoder.outputs[:2]]
    model.save(tmp_path / "model.keras")
    for layout, out in (("unrolled", "model.onnx"), ("loop", "loop.onnx")):
        options = ["--layout", layout, "--no-resize", "--no-verify", "--out", str(tmp_path / out)]
        export([str(tmp_path / "model.keras"), *options])
    with pytest.raises(ValueError, match=r"--layout unrolled\)\. Received: .*loop\.onnx"):
        parts(tmp_path / "loop.onnx")
    found = parts(tmp_path / "model.onnx")
    # Maps of 2×2 and 4×4 pixels, hidden states of 16 and 8 channels, kernels of 3×3.
    assert found["neck or skip projections"] == 9 * (4 * widths[0] * 16 + 16 * widths[1] * 16)
    assert found["context, once per image"] == 9 * (4 * 16 * 4 * 16 + 16 * 16 * 4 * 8)
    assert found["gates of stage 0"] == 2 * 4 * 9 * 16 * 4 * 16  # the first step has no hidden state
    assert found["gates of stage 1"] == 16 * 9 * (3 * 16 + 2 * 8) * 4 * 8
    assert found["class head and stop head"] == 3 * (16 + 8) * (3 + 1)
    assert found["resizes in the steps"] > 0
    named = {name: count for name, count in found.items() if not name.startswith("resizes")}
    assert sum(named.values()) == multiply_adds(tmp_path / "model.onnx", batch=1)
    assert set(named) == {
        "encoder",
        "neck or skip projections",
        "context, once per image",
        "gates of stage 0",
        "gates of stage 1",
        "mask head",
        "class head and stop head",
    }


def test_a_graph_without_fixed_shapes_is_refused(tmp_path):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [4, 3, 3, 3], [0.0] * 108)
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["image", "kernel"], ["maps"])
    path = tmp_path / "dynamic.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "graph", [image], [maps], [kernel])), path)
    with pytest.raises(ValueError, match=r"expected a graph of fixed shapes\. Received: .*dynamic\.onnx"):
        parts(path)


def test_resizes_stand_below_the_sum():
    columns = {"a": {"resizes in the steps": 1_000_000, "encoder": 3_000_000}, "b": {"mask head": 500_000}}
    lines = table(columns).splitlines()
    assert lines[2:] == [
        "| encoder | 3.00 (100.0%) | – |",
        "| mask head | – | 0.50 (100.0%) |",
        "| sum | 3.00 (100.0%) | 0.50 (100.0%) |",
        "| resizes in the steps | 1.00 (33.3%) | – |",
    ]
