"""fp16 and int8: smaller files, small differences, parts that stay in float32, and refused calls."""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, numpy_helper
from PIL import Image

from export import calibration, tflite
from export import onnx as exporter
from export.graph import GraphSpec
from export.onnx_graphs import quantize
from export.onnx_graphs.half_precision import nodes_before_convolutions
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.images import synthetic_image
from rsis_tf.runtime import Predictor

STEPS = ("--steps", "2")  # further steps repeat the same network


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Six images for calibration, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for i in range(6):
        place = folder / "more" if i == 5 else folder
        Image.fromarray(synthetic_image((48, 64), seed=i)).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def single(run_folder, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("single") / "model.onnx"
    exporter.main([str(run_folder), "--layout", "unrolled", "--out", str(out), *STEPS, "--no-verify"])
    return out


def _types(path: pathlib.Path) -> dict[int, int]:
    """Values stored by element type."""
    stored: dict[int, int] = {}
    for tensor in onnx.load(path).graph.initializer:
        stored[tensor.data_type] = stored.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    return stored


@pytest.mark.parametrize("options", ["--layout unrolled", "", "--size dynamic --opset 18"])
def test_half_precision(run_folder, single, tmp_path, images, options):
    out = tmp_path / "half.onnx"
    exporter.main([str(run_folder), "--out", str(out), "--precision", "fp16", *STEPS, *options.split()])
    assert out.stat().st_size < 0.6 * single.stat().st_size
    stored = _types(out)
    assert stored[TensorProto.FLOAT16] > 100 * stored.get(TensorProto.FLOAT, 0)
    onnx.checker.check_model(str(out), full_check=True)
    half, full = Predictor(out), Predictor(single)
    assert half.metadata["precision"] == "fp16"
    for image in [*images, synthetic_image((500, 3000))]:  # float16 cannot represent all halves up to 3000
        theirs, ours = half(image), full(image)
        assert ours
        assert agreement(theirs, ours) > 0.97


def test_scaling_stays_in_single_precision(run_folder, single, tmp_path):
    """The graph resizes a wide image as the float32 graph does."""
    out = tmp_path / "half.onnx"
    exporter.main([str(run_folder), "--out", str(out), "--precision", "fp16", *STEPS, "--no-verify"])
    wide = synthetic_image((60, 4000))[None]
    (half, *_), (full, *_) = Predictor(out).run(wide), Predictor(single).run(wide)
    assert 0 < np.abs(half - full).max() < 0.02
    assert len(nodes_before_convolutions(onnx.load(single))) > 20


@pytest.mark.parametrize("layout", ["unrolled", "loop"])
@pytest.mark.parametrize("kind", ["static", "weights"])
def test_eight_bits(run_folder, single, folder, tmp_path, images, kind, layout, capsys):
    out = tmp_path / "int8.onnx"
    source = str(folder) if kind == "static" else "none"
    options = ["--precision", "int8", "--calibration", source, "--layout", layout, *STEPS]
    exporter.main([str(run_folder), "--out", str(out), *options])
    assert out.stat().st_size < (0.5 if kind == "static" else 0.35) * single.stat().st_size
    side = json.loads((tmp_path / "int8.onnx.json").read_text())
    assert side["quantization"]["kind"] == kind
    if kind == "static":
        assert side["quantization"]["images"] == 6
        assert side["quantization"]["agreement"] > 0.9
        assert "warning: 6 images to calibrate on, 300 or more are better" in capsys.readouterr().err
        counts = [[node.op_type for node in graph.node].count("QuantizeLinear") for graph in graphs_of(onnx.load(out))]
        assert min(counts) >= 10
        assert sum(counts) > 10
    eight, full = Predictor(out).batch(images), Predictor(single).batch(images)
    assert np.mean([agreement(*pair) for pair in zip(eight, full, strict=True)]) > 0.9


def test_a_loop_of_one_step_with_eight_bits(run_folder, folder, tmp_path):
    """The step after it, which --steps may ask for later, is calibrated too."""
    out = tmp_path / "int8.onnx"
    options = ["--precision", "int8", "--calibration", str(folder), "--steps", "1", "--stop-threshold", "0.01"]
    exporter.main([str(run_folder), "--out", str(out), "--layout", "loop", *options])
    assert [Predictor(out, steps=steps).run(synthetic_image((48, 64))[None])[2].shape for steps in (None, 3)] == [
        (1, 1),
        (1, 3),
    ]


def test_a_loop_with_eight_bits_whose_deepest_map_is_one_pixel(run_folder, folder, tmp_path):
    """The gates of the first stage are reshaped values that the loop reads from the graph around it."""
    out = tmp_path / "int8.onnx"
    options = ["--precision", "int8", "--calibration", str(folder), "--size", "32x32", "--no-verify", *STEPS]
    exporter.main([str(run_folder), "--out", str(out), "--layout", "loop", *options])
    assert Predictor(out).run(synthetic_image((32, 32))[None])[2].shape == (1, 2)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(out).graph.node}


def test_convolutions_whose_values_only_change_place_before_an_output_are_found():
    """A convolution that is an output itself, and one whose values are changed, may be quantised."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Conv", ["image", "kernel"], ["a"], name="moved"),
        make("Conv", ["image", "kernel"], ["direct"], name="direct"),
        make("Conv", ["image", "kernel"], ["b"], name="changed"),
        make("Squeeze", ["a"], ["a/squeezed"]),
        make("Transpose", ["a/squeezed"], ["a/out"]),
        make("Relu", ["b"], ["b/positive"]),
        make("Transpose", ["b/positive"], ["b/out"]),
    ]
    outputs = [value(name, TensorProto.FLOAT, None) for name in ("a/out", "direct", "b/out", "image")]
    inputs = [value(name, TensorProto.FLOAT, None) for name in ("image", "kernel")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", inputs, outputs))
    assert quantize.moved_to_outputs(model) == {"moved"}


def graphs_of(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """Returns the graph, and the body of its loop if it has one."""
    bodies = [node.attribute[0].g for node in model.graph.node if node.op_type == "Loop"]
    return [model.graph, *bodies]


def assert_no_integers_are_left(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Checks that ONNX Runtime restores the kernels of all graphs when it opens the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for graph in graphs_of(onnx.load(folder / "optimised.onnx")):
        assert not [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT8]
        assert not [node.name for node in graph.node if node.op_type == "DequantizeLinear"]


def test_eight_bit_weights_are_restored_once(single, run_folder, tmp_path):
    """ONNX Runtime computes the float32 values when it opens the file, not in every run or step."""
    full = onnx.load(single)
    eight = quantize.quantize_weights(full)
    kernels, stored = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} for model in (full, eight)
    )
    quantized = [name for name in kernels if f"{name}/int8" in stored]
    assert len(quantized) > 10
    for name in quantized:
        step = np.abs(kernels[name]).max(axis=(1, 2, 3), keepdims=True) / 127
        error = np.abs(stored[f"{name}/int8"] * stored[f"{name}/scale"] - kernels[name])
        assert (error <= 0.501 * step).all()
    onnx.save(eight, tmp_path / "int8.onnx")
    assert_no_integers_are_left(tmp_path / "int8.onnx", tmp_path)
    loop = tmp_path / "loop.onnx"
    options = ["--precision", "int8", "--calibration", "none", "--layout", "loop", "--no-verify"]
    exporter.main([str(run_folder), "--out", str(loop), *options])
    assert len(graphs_of(onnx.load(loop))) == 2
    for graph in graphs_of(onnx.load(loop)):
        assert [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT8]
    assert_no_integers_are_left(loop, tmp_path)


def test_sensitive_parts_stay_in_single_precision(single, folder):
    spec = GraphSpec(size=(48, 64), batch=None, steps=2)
    inputs = calibration.read_inputs(folder, spec, (48, 64))
    thresholds = {"stop_threshold": 0.5, "mask_threshold": 0.5}
    model = onnx.load(single)
    parts = set(quantize.parts_of(model).values())
    assert parts >= {"encoder_0", "encoder_4", "skip_0", "skip_3", "stage_0", "stage_4"}
    easy = quantize.quantize([quantize.calibrated(model, inputs)], inputs, thresholds=thresholds, target=0.0)
    assert (easy.excluded, easy.parts) == ((), {})
    strict = quantize.quantize(
        [quantize.calibrated(model, inputs)], inputs, thresholds=thresholds, target=(easy.agreement + 1) / 2
    )
    assert strict.agreement > easy.agreement
    worst = min(strict.parts, key=strict.parts.get)
    assert strict.excluded[0] == worst
    assert strict.parts.keys() == parts
    kept = {name for name, part in quantize.parts_of(model).items() if part in strict.excluded}
    kernels = {node.input[1] for node in strict.model.graph.node if node.op_type == "Conv" and node.name in kept}
    assert not any(name.endswith("_DequantizeLinear_Output") for name in kernels)


def test_predictions_stay_in_single_precision(single, folder):
    """Convolutions of few channels: masks, votes, pointing."""
    inputs = calibration.read_inputs(folder, GraphSpec(size=(48, 64), batch=None, steps=2), (48, 64))
    thresholds = {"stop_threshold": 0.5, "mask_threshold": 0.5}
    model = onnx.load(single)
    quantized = quantize.quantize([quantize.calibrated(model, inputs)], inputs, thresholds=thresholds, target=0.0).model
    channels = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 4}
    wanted = [node.name for node in model.graph.node if node.op_type == "Conv" and channels[node.input[1]] < 8]
    kept = [node.name for node in quantized.graph.node if node.op_type == "Conv" and node.input[1] in channels]
    assert len(wanted) > 2  # the masks of both steps, and a projection of four channels
    assert sorted(kept) == sorted(wanted)


@pytest.mark.parametrize("kind", ["static", "weights"])
def test_eight_bits_on_a_phone(run_folder, folder, tmp_path, kind):
    out = tmp_path / "int8.tflite"
    source = str(folder) if kind == "static" else "none"
    options = ["--precision", "int8", "--calibration", source, *STEPS]
    if kind == "static":
        options.append("--no-verify")  # fails with random weights; test_tensors.py has trained ones
    tflite.main([str(run_folder), "--out", str(out), *options])
    side = json.loads((tmp_path / "int8.tflite.json").read_text())
    assert side["precision"] == "int8"
    tensors = Interpreter(model_path=str(out)).get_tensor_details()
    activations = [tensor for tensor in tensors if len(tensor["shape"]) == 4 and tensor["shape"][0] == 1]
    integers = {int(tensor["shape"][3]) for tensor in activations if tensor["dtype"] == np.int8}
    # The gates of the first stages have 128, 64 and 32 channels; the mask has one.
    assert integers >= {128, 64, 32} if kind == "static" else not integers
    assert 1 in {int(tensor["shape"][3]) for tensor in activations if tensor["dtype"] == np.float32}
    assert len([tensor["name"] for tensor in tensors if tensor["dtype"] == np.int8]) > 10
    # No float32 operator reads a rounded value: what is restored was computed in integers.
    operators = Interpreter(model_path=str(out))._get_ops_details()
    made_by = {int(tensor): each["op_name"] for each in operators for tensor in each["outputs"]}
    restored = {made_by[int(each["inputs"][0])] for each in operators if each["op_name"] == "DEQUANTIZE"}
    assert "QUANTIZE" not in restored
    assert ("CONV_2D" in restored) == (kind == "static")
    assert out.stat().st_size < 0.4 * (run_folder / "best.keras").stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--precision int8", "--calibration not given"),
        ("--calibration DIR", "--precision fp32, --calibration"),
        ("--precision int8 --calibration nowhere", "Received: nowhere"),
        ("--precision bf16", "invalid choice: 'bf16'"),
    ],
)
def test_wrong_calls(run_folder, tmp_path, options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), *options.replace("DIR", str(tmp_path)).split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_calibration_images(tmp_path, folder):
    spec = GraphSpec(size=(32, 40), batch=4, steps=1, input_type="float32")
    inputs = calibration.read_inputs(folder, spec, (48, 64))
    assert [(image.shape, image.dtype) for image in inputs] == [((4, 32, 40, 3), np.float32)] * 2
    first, last = calibration.read_inputs(folder, GraphSpec(size=None, batch=1, steps=1), (48, 64), limit=2)
    for image, seed in ((first, 0), (last, 5)):  # spread over all images, subfolders included
        np.testing.assert_array_equal(image[0], synthetic_image((48, 64), seed=seed))
    keep = GraphSpec(size=(48, 96), batch=1, steps=1, aspect="keep")
    (padded,) = calibration.read_inputs(folder, keep, (48, 64), limit=1)
    assert not padded[0, :, :16].any()
    np.testing.assert_array_equal(padded[0, :, 16:80], first[0])
    with pytest.raises(InputError, match="which contains none"):
        calibration.read_inputs(tmp_path, spec, (48, 64))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.png"):
        calibration.read_inputs(tmp_path, spec, (48, 64))


def test_too_little_agreement_is_stopped(run_folder, folder, tmp_path, capsys):
    out = tmp_path / "int8.onnx"
    options = ["--precision", "int8", "--calibration", str(folder), "--min-agreement", "1", *STEPS]
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--out", str(out), *options])
    assert stop.value.code == 1
    assert "expected instances that agree to 1 on average. Received: 0." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
