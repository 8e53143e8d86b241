"""`python -m export.onnx`: outputs of the Keras model, names and metadata of the file, and refused calls."""

import json
import pathlib
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from export import onnx as exporter
from export.graph import GraphSpec, infer
from export.onnx_graphs.convert import convert
from rsis_tf.images import synthetic_image
from rsis_tf.inference import KerasPredictor
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.runtime import Predictor, open_session, resize_image

PROJECT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unrolled(run_folder: pathlib.Path, tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("unrolled") / "model.onnx"
    exporter.main([str(run_folder), "--layout", "unrolled", "--out", str(path)])
    return path


@pytest.fixture(scope="module")
def exported(run_folder: pathlib.Path) -> pathlib.Path:
    exporter.main([str(run_folder)])
    return run_folder / "model.onnx"


def test_same_instances_as_the_keras_model(exported: pathlib.Path, images: list[np.ndarray]):
    ours_all = Predictor(exported).batch(images)
    theirs_all = list(KerasPredictor(exported.with_name("best.keras")).stream(images))
    assert sum(map(len, theirs_all)) >= 6  # the comparison has something to compare
    for ours, theirs in zip(ours_all, theirs_all, strict=True):
        assert [(i.step, i.class_name) for i in ours] == [(i.step, i.class_name) for i in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.mask, other.mask)
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_graph_resizes_images(exported: pathlib.Path, images: list[np.ndarray]):
    """A program without Pillow passes the image as it is."""
    predictor, session = Predictor(exported), open_session(exported)
    for image in images:
        (masks,) = session.run(["masks"], {"image": image[None]})
        scaled, _, _ = predictor.run(resize_image(image, (48, 64))[None])
        assert masks.shape == (1, 4, 48, 64)
        assert (np.abs(masks - scaled) > 0.1).mean() < 0.01


def _shapes(path: pathlib.Path) -> dict[str, list]:
    graph = onnx.load(path).graph
    return {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def test_names_axes_and_metadata(exported: pathlib.Path, unrolled: pathlib.Path):
    for path, steps in ((exported, "step"), (unrolled, 4)):
        assert _shapes(path) == {
            "image": ["batch", "height", "width", 3],
            "masks": ["batch", steps, 48, 64],
            "classes": ["batch", steps, 4],
            "stop": ["batch", steps],
        }
    model = onnx.load(exported)
    text = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(text["class_names"]) == ["background", "leaf", "stone", "stick"]
    assert (text["num_steps"], text["stop_threshold"], text["image_size"]) == ("4", "0.5", "[48, 64]")
    assert (text["encoder"], text["precision"], text["layout"], text["license"]) == (
        "compact",
        "fp32",
        "loop",
        "MIT",
    )
    assert json.loads(text["normalization"])["mean"] == [0.485, 0.456, 0.406]
    assert text["date"].startswith("20")
    side = json.loads((exported.parent / "model.onnx.json").read_text())
    assert {key: side[key] for key in ("class_names", "num_steps", "version")} == {
        "class_names": ["background", "leaf", "stone", "stick"],
        "num_steps": 4,
        "version": text["version"],
    }
    assert side["bytes"] == exported.stat().st_size
    assert [case["shape"] for case in side["verification"]] == [[1, 48, 64, 3], [2, 81, 111, 3]]


def test_graph_is_lean(unrolled: pathlib.Path, run_folder: pathlib.Path):
    graph = onnx.load(unrolled).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Transpose"] <= 3  # image in, masks out: none between the cells
    values = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    variables = KerasPredictor(run_folder).model.count_params()
    assert values < 1.05 * variables  # no kernel is stored once per step
    assert unrolled.stat().st_size < 4.4 * variables


def _config(**fields) -> ModelConfig:
    return ModelConfig(**{"encoder": "compact", "hidden_size": 16, "num_classes": 4, "num_steps": 2, **fields})


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"skip_mode": "sum"}, (33, 47)),
        ({"skip_mode": "mul", "decoder_stages": 3, "kernel_size": 1}, (40, 40)),
        ({"skip_mode": "none", "decoder_stages": 1}, (32, 64)),
        ({"encoder": "mobilenet_v2"}, (32, 48)),
        ({"encoder": "vgg16"}, (107, 32)),  # levels of 53, 26, 13 rows: float32 scales lead to another size
    ],
    ids=str,
)
def test_every_kind_of_network_converts(fields: dict, size: tuple[int, int]):
    model = build_model(_config(**fields))
    spec = GraphSpec(size=size, batch=None, steps=2, resize=False)
    proto = convert(
        model,
        lambda inputs: infer(model, inputs["image"], spec),
        inputs={"image": (("batch", *size, 3), "uint8")},
        outputs={"masks": ("batch", 2, *size), "classes": ("batch", 2, 4), "stop": ("batch", 2)},
        opset=18,
    )
    images = np.stack([synthetic_image(size, seed) for seed in range(2)])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(["masks", "classes", "stop"], {"image": images})
    for ours, wanted in zip(got, infer(model, images, spec).values(), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_size_batch_steps_type_and_thresholds_of_the_options(run_folder: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "small.onnx"
    options = "--size 40x32 --no-resize --batch-size 2 --steps 3 --input-type float32 --opset 18 --stop-threshold 0.25"
    options = ["--layout", "unrolled", *options.split(), "--license", "CC0-1.0"]
    exporter.main([str(run_folder / "best.keras"), "--out", str(out), *options])
    session = open_session(out)
    assert (session.get_inputs()[0].shape, session.get_inputs()[0].type) == ([2, 40, 32, 3], "tensor(float)")
    assert [output.shape for output in session.get_outputs()] == [[2, 3, 40, 32], [2, 3, 4], [2, 3]]
    predictor = Predictor(out)
    assert (predictor.image_size, predictor.batch_size) == ((40, 32), 2)
    assert (predictor.metadata["stop_threshold"], predictor.metadata["license"]) == ("0.25", "CC0-1.0")
    assert onnx.load(out).opset_import[0].version == 18
    assert len(predictor.batch([np.zeros((9, 9, 3), np.uint8)] * 3)) == 3


def test_dynamic_size_runs_at_every_size(run_folder: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "open.onnx"
    exporter.main([str(run_folder), "--out", str(out), "--size", "dynamic", "--steps", "2"])
    model = KerasPredictor(run_folder).model
    for size in [(48, 64), (33, 35), (1, 1)]:
        images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        masks, classes, stop = Predictor(out, image_size=size).run(images)
        wanted = model(images, num_steps=2, training=False)
        np.testing.assert_allclose(classes, wanted["class_probs"], atol=1e-4)
        np.testing.assert_allclose(masks, 1 / (1 + np.exp(-wanted["mask_logits"])), atol=1e-4)
        np.testing.assert_allclose(stop, 1 / (1 + np.exp(-wanted["stop_logits"])), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "Received: nowhere"),
        (["RUN", "--bogus"], "unrecognized arguments: --bogus"),
        (["RUN", "--size", "64"], "Received: '64'"),
        (["RUN", "--size", "0x64"], "Received: '0x64'"),
        (["RUN", "--batch-size", "many"], "Received: 'many'"),
        (["RUN", "--steps", "0"], "Received: '0'"),
        (["RUN", "--atol", "-1"], "Received: '-1'"),
        (["RUN", "--stop-threshold", "2"], "Received: '2'"),
        (["RUN", "--opset", "20"], "invalid choice: 20"),
        (["RUN", "--out", "no/such/folder/model.onnx"], "Received: no/such/folder/model.onnx"),
        (["RUN", "--out", "RUN"], "which is a folder"),
        (["RUN", "--out", "model.txt"], "Received: model.txt"),
        (["RUN", "--verify-images", "nowhere"], "Received: nowhere"),
        (["WRONG"], "wrong.keras"),
        (["TEXT"], "text.txt"),
    ],
    ids=str,
)
def test_wrong_calls_get_one_line(arguments, message, run_folder, tmp_path, capsys):
    places = {"RUN": run_folder, "WRONG": tmp_path / "wrong.keras", "TEXT": tmp_path / "text.txt"}
    places["WRONG"].write_bytes(b"not a zip archive")
    places["TEXT"].write_text("no model")
    before = sorted(run_folder.iterdir())
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(places.get(argument, argument)) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(run_folder.iterdir()) == before


def test_command_as_a_user_calls_it(run_folder: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "model.onnx"
    command = [sys.executable, "-m", "export.onnx", str(run_folder), "--out", str(out), "--steps", "1"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert f"wrote {out}, " in done.stdout
    assert done.stdout.count("verified") == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]


def test_file_run_as_a_script_names_the_command():
    done = subprocess.run([sys.executable, "export/onnx.py"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: expected the command `python -m export.onnx`. Received: the path of its file"
    ]
