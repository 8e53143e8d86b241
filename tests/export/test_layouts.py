"""The layouts that stop early return what the unrolled graph returns, and take no unnecessary step."""

import dataclasses
import pathlib

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from export import onnx as exporter
from export.verify import VerificationError, _compare_outputs, _shorten
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.inference import KerasPredictor
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.runtime import Predictor, RuntimeInputError, resize_image


@pytest.fixture(scope="module")
def exported(run_folder: pathlib.Path, tmp_path_factory) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("layouts")
    paths = {"unrolled": folder / "unrolled.onnx", "loop": folder / "loop.onnx", "stepwise": folder / "stepwise"}
    for layout, path in paths.items():
        exporter.main([str(run_folder), "--layout", layout, "--out", str(path), "--steps", "3"])
    return paths


@pytest.mark.parametrize("layout", ["stepwise", "loop"])
def test_same_instances_as_unrolled(exported, images, layout: str):
    for batch_size in (1, 3):
        ours = Predictor(exported[layout], batch_size=batch_size).batch(images)
        theirs = Predictor(exported["unrolled"], batch_size=batch_size).batch(images)
        assert [len(found) for found in theirs] == [3, 3, 3]
        for found, wanted in zip(ours, theirs, strict=True):
            assert [(i.step, i.class_id) for i in found] == [(i.step, i.class_id) for i in wanted]
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one.mask, other.mask)
                assert one.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize("layout", ["stepwise", "loop"])
def test_takes_more_steps_than_it_was_exported_with(exported, images, run_folder, layout: str):
    options = {"steps": 5, "stop_threshold": 0.0}
    longer, keras = Predictor(exported[layout], **options), KerasPredictor(run_folder, **options)
    for found, wanted in zip(longer.batch(images), keras.batch(images), strict=True):
        assert found.full
        assert [one.step for one in found] == [one.step for one in wanted]
        assert max(one.step for one in found) > 2
        for one, other in zip(found, wanted, strict=True):
            assert np.count_nonzero(one.mask != other.mask) <= 2  # a pixel may lie on the threshold
    assert Predictor(exported[layout], steps=1).run(_at_size(images))[0].shape == (3, 1, 48, 64)
    with pytest.raises(RuntimeInputError, match="only its own number of steps"):
        Predictor(exported["unrolled"], steps=5)


def test_stepwise_ends_with_the_last_image_of_the_batch(exported, images):
    stops = Predictor(exported["unrolled"]).run(_at_size(images))[2]  # (3, 3)
    threshold = float(np.sort(stops[:, 0])[1])  # the first step ends the sequence of one image only
    lengths = [int(np.argmin([*(stop >= threshold), False])) for stop in stops]
    assert min(lengths) == 0
    assert max(lengths) == 3
    found = Predictor(exported["stepwise"], stop_threshold=threshold).batch(images)
    assert [len(instances) for instances in found] == lengths
    none = int(np.argmin(stops[:, 0]))
    alone = Predictor(exported["stepwise"], stop_threshold=threshold)
    assert alone.run(_at_size([images[none]]))[0].shape == (1, 1, 48, 64)
    assert alone.run(_at_size(images))[0].shape == (3, 3, 48, 64)
    each = Predictor(exported["stepwise"], stop_threshold=threshold, stop_mode="each")
    assert each.run(_at_size([images[none]]))[0].shape == (1, 3, 48, 64)


def _at_size(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([resize_image(image, (48, 64)) for image in images])


def test_loop_ends_early_in_the_graph(run_folder, tmp_path, images):
    out = tmp_path / "loop.onnx"
    options = ["--layout", "loop", "--stop-threshold", "0.9", "--opset", "18"]
    exporter.main([str(run_folder), "--out", str(out), *options])
    predictor = Predictor(out)
    assert [output.shape for output in predictor.run(_at_size(images))] == [(3, 1, 48, 64), (3, 1, 4), (3, 1)]
    assert predictor.batch(images) == [[], [], []]
    graph = onnx.load(out).graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    assert graph.output[0].type.tensor_type.shape.dim[1].dim_param == "step"
    for options in ({"stop_threshold": 0.0}, {"stop_mode": "each"}):
        assert Predictor(out, **options).run(_at_size(images))[2].shape == (3, 4)
    assert Predictor(out, steps=5, stop_threshold=0.0).run(_at_size(images))[2].shape == (3, 5)
    single = Predictor(out, steps=1, stop_threshold=0.0)  # the loop is not entered; the batch stays dynamic
    assert [output.shape for output in single.run(_at_size(images))] == [(3, 1, 48, 64), (3, 1, 4), (3, 1)]


def test_other_programs_see_one_input_and_no_warning(run_folder, tmp_path, capfd):
    exporter.main([str(run_folder), "--no-verify", "--out", str(tmp_path / "loop.onnx")])
    capfd.readouterr()
    session = onnxruntime.InferenceSession(tmp_path / "loop.onnx")
    assert [node.name for node in session.get_inputs()] == ["image"]
    assert session.get_overridable_initializers() == []
    assert capfd.readouterr().err == ""


def test_a_loop_without_the_names_of_its_constants_cannot_be_changed(run_folder, tmp_path, images):
    """As in files that earlier versions wrote."""
    exporter.main([str(run_folder), "--no-verify", "--out", str(tmp_path / "loop.onnx")])
    model = onnx.load(tmp_path / "loop.onnx")
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    for graph in (model.graph, loop.attribute[0].g):
        for node in graph.node:
            node.input[:] = ["loop/threshold" if name == "stop_threshold" else name for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = "loop/threshold" if tensor.name == "stop_threshold" else tensor.name
    onnx.save(model, tmp_path / "earlier.onnx")
    assert len(Predictor(tmp_path / "earlier.onnx").batch(images)) == 3
    for options in ({"stop_mode": "each"}, {"steps": 2}, {"stop_threshold": 0.9}):
        with pytest.raises(RuntimeInputError, match=r"need a file of this version.* Received: .*earlier\.onnx"):
            Predictor(tmp_path / "earlier.onnx", **options)


def test_loop_uses_the_stop_threshold_of_the_model(run_folder, tmp_path, images):
    model = keras.models.load_model(run_folder / "best.keras")
    model.config = dataclasses.replace(model.config, stop_threshold=0.9)
    model.save(tmp_path / "best.keras")
    exporter.main([str(tmp_path), "--layout", "loop", "--no-verify", "--out", str(tmp_path / "loop.onnx")])
    predictor = Predictor(tmp_path / "loop.onnx")
    assert predictor.stop_threshold == 0.9
    assert predictor.run(_at_size(images))[2].shape == (3, 1)


def test_nothing_is_copied_at_the_borders_of_the_graphs(exported):
    for name in ("encoder", "step"):
        graph = onnx.load(exported["stepwise"] / f"{name}.onnx").graph
        assert not [node.name for node in graph.node if node.op_type == "Identity"]
    assert not [node.name for node in graph.node if node.op_type == "Transpose"]


def test_an_image_leaves_the_batch_when_its_sequence_ends(exported, images):
    stops = Predictor(exported["unrolled"]).run(_at_size(images))[2]  # (3, 3)
    threshold = float(np.sort(stops[:, 0])[1])
    options = {"stop_threshold": threshold}
    masks, classes, stop = Predictor(exported["stepwise"], **options).run(_at_size(images))
    wanted = Predictor(exported["unrolled"]).run(_at_size(images))
    gone = np.logical_or.accumulate(stops < threshold, axis=1)[:, :-1]  # (3, 2): no later step
    gone = np.pad(gone, ((0, 0), (1, 0)))  # (3, 3)
    assert 0 < gone.sum() < 6
    for got, whole in zip((masks, classes, stop), wanted, strict=True):
        assert np.abs(got[gone]).max() < 1e-6
        np.testing.assert_allclose(got[~gone], whole[~gone], atol=1e-5)


@pytest.fixture(scope="module")
def voting_run(tmp_path_factory) -> pathlib.Path:
    """A run folder of a model with the voting head."""
    keras.utils.set_random_seed(1)
    config = ModelConfig(
        encoder="compact",
        hidden_size=16,
        num_classes=3,
        neck_channels=8,
        mask_head="voting",
        class_features="mask",
        decoder_stages=4,
        num_steps=3,
        image_size=(48, 64),
    )
    model = build_model(config)
    head = model.decoder.voting.dense_head
    head.kernel.assign(head.kernel * 5)
    head.bias.assign([0.5, 0, 0, 0])
    model.decoder.stop_head.bias.assign([3.0])
    folder = tmp_path_factory.mktemp("voting")
    model.save(folder / "best.keras")
    return folder


@pytest.mark.parametrize(
    "options",
    ["", "--layout stepwise", "--layout loop", "--size dynamic", "--size dynamic --layout loop", "--opset 18"],
)
def test_exports_of_a_voting_model_equal_keras(voting_run, options: str, tmp_path, images):
    out = tmp_path / ("stepwise" if "stepwise" in options else "model.onnx")
    exporter.main([str(voting_run), *options.split(), "--out", str(out)])  # the exporter verifies the file
    if "dynamic" in options:
        return
    wanted = KerasPredictor(voting_run).stream(images)
    for ours, theirs in zip(Predictor(out).batch(images), wanted, strict=True):
        assert len(ours) == len(theirs) == 3
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.mask, other.mask)
            np.testing.assert_allclose(one.class_probs, other.class_probs, atol=1e-4)


def test_loop_at_the_size_of_the_image_equals_unrolled(voting_run, tmp_path):
    runs = {}
    for layout in ("unrolled", "loop"):
        out = tmp_path / f"{layout}.onnx"
        exporter.main([str(voting_run), "--layout", layout, "--size", "dynamic", "--no-verify", "--out", str(out)])
        runs[layout] = Predictor(out, stop_threshold=0.0)
    declared = [side.dim_param for side in onnx.load(tmp_path / "loop.onnx").graph.output[0].type.tensor_type.shape.dim]
    assert declared == ["batch", "step", "height", "width"]
    for size in ((48, 64), (33, 70), (96, 41)):
        image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        ours, theirs = runs["loop"].run(image), runs["unrolled"].run(image)
        assert ours[0].shape == (2, 3, *size)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("layout", ["stepwise", "loop"])
def test_masks_stay_small_until_the_last_step(voting_run, layout: str, tmp_path):
    out = tmp_path / ("stepwise" if layout == "stepwise" else "loop.onnx")
    exporter.main([str(voting_run), "--layout", layout, "--no-verify", "--out", str(out)])
    graph = onnx.load(out / "step.onnx" if layout == "stepwise" else out).graph
    if layout == "loop":
        graph = next(node for node in graph.node if node.op_type == "Loop").attribute[0].g
    sizes = {output.name: [side.dim_value for side in output.type.tensor_type.shape.dim] for output in graph.output}
    logits = next(size for name, size in sizes.items() if name.endswith("logits_of_step"))
    assert logits[1:] == [24, 32]
    assert Predictor(out).run(np.zeros((2, 48, 64, 3), np.uint8))[0].shape[2:] == (48, 64)


@pytest.mark.parametrize("size", ["model", "dynamic"])
@pytest.mark.parametrize("layout", ["unrolled", "loop"])
def test_half_precision_of_a_voting_model_finds_the_same_objects(voting_run, layout: str, size: str, tmp_path, images):
    out = tmp_path / "half.onnx"
    exporter.main([str(voting_run), "--precision", "fp16", "--layout", layout, "--size", size, "--out", str(out)])
    for image in images:  # a maximum must equal one of the values it is taken from
        assert np.isfinite(Predictor(out).run(image[None])[0]).all()
    wanted = KerasPredictor(voting_run).stream(images)
    assert np.mean([agreement(*pair) for pair in zip(Predictor(out).batch(images), wanted, strict=True)]) > 0.9


@pytest.mark.parametrize(
    "fields",
    [{"skip_mode": "mul"}, {"skip_mode": "none", "decoder_stages": 2}, {"skip_mode": "sum", "decoder_stages": 1}],
    ids=str,
)
def test_every_skip_mode_can_be_exported_stepwise(fields: dict, tmp_path):
    config = ModelConfig(encoder="compact", hidden_size=16, num_classes=2, num_steps=2, image_size=(33, 50), **fields)
    build_model(config).save(tmp_path / "best.keras")
    for layout in ("stepwise", "loop"):
        exporter.main([str(tmp_path), "--layout", layout, "--no-resize", "--batch", "2", "--stop-threshold", "0.1"])
    assert Predictor(tmp_path / "model_stepwise").run(np.zeros((2, 33, 50, 3), np.uint8))[0].shape == (2, 2, 33, 50)
    options = ["--layout", "loop", "--size", "dynamic", "--stop-threshold", "0.1"]
    exporter.main([str(tmp_path), *options, "--out", str(tmp_path / "dynamic.onnx")])


def test_wrong_calls(run_folder, exported, tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    calls = {
        "--layout stepwise --size dynamic": "Received: --size dynamic",
        "--layout stepwise --precision fp16": "Received: --precision fp16",
        f"--layout stepwise --out {tmp_path / 'letters'}": "letters",
        "--layout spiral": "invalid choice: 'spiral'",
    }
    for call, message in calls.items():
        with pytest.raises(SystemExit) as stop:
            exporter.main([str(run_folder), *call.split()])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(RuntimeInputError, match=r"encoder\.onnx"):
        Predictor(tmp_path / "letters")


def test_a_loop_that_ends_at_the_wrong_step_is_noticed():
    rng = np.random.default_rng(0)
    whole = {"masks": rng.random((2, 3, 4, 4)), "classes": rng.random((2, 3, 2)), "stop": np.zeros((2, 3))}
    whole["stop"][0] = [0.9, 0.2, 0.9]
    whole["stop"][1] = [0.1, 0.4, 0.1]
    right = {name: value[:, :2] for name, value in whole.items()}
    exporter.check_early_end(whole, right, 0.5)
    exporter.check_early_end(whole, whole, 0.3)  # in each step, one of the images has an object
    for steps, threshold in ((1, 0.5), (3, 0.5), (2, 0.3)):
        with pytest.raises(VerificationError, match=r"expected masks of . steps"):
            exporter.check_early_end(whole, {name: value[:, :steps] for name, value in whole.items()}, threshold)
    other = right | {"classes": right["classes"] + 1e-3}
    with pytest.raises(VerificationError, match="the same classes whether the loop ends early"):
        exporter.check_early_end(whole, other, 0.5)


def test_stopping_too_early_is_noticed():
    wanted = {"masks": np.zeros((2, 3, 4, 4)), "classes": np.zeros((2, 3, 2)), "stop": np.array([[1, 0, 1], [1, 1, 0]])}
    early = {name: value[:, :2] for name, value in wanted.items()}
    with pytest.raises(VerificationError, match=r"shape \(2, 3, 4, 4\)"):  # the sequence of the second image goes on
        _compare_outputs(_shorten(wanted, early, 0.5), early, 1e-4)
    wanted["stop"] = np.array([[1, 0, 1], [0, 1, 0]])
    early = {name: value[:, :2] for name, value in wanted.items()}
    assert _compare_outputs(_shorten(wanted, early, 0.5), early, 1e-4) == {"masks": 0, "classes": 0, "stop": 0}
