"""The comparison of whole outputs: it notices damage where a model finds nothing, or where its instances agree."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from export import onnx, tflite, verify
from export.comparison_images import candidates, choose, make_inputs, read_images
from export.graph import infer, make_spec
from export.instances import compare_instances
from export.onnx_graphs import quantize
from export.options import Options
from export.tensors import TensorComparison
from export.tolerances import Tolerances, VerificationError, tolerances
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.errors import InputError
from rsis_tf.inference import load_model

THRESHOLDS = {"stop_threshold": 0.5, "mask_threshold": 0.5}


def _blinded(model):
    """Lowers the objectness of all steps, so that the model finds nothing."""
    model.decoder.stop_head.bias.assign(model.decoder.stop_head.bias - 12)
    return model


@functools.cache
def _prepared(folder, blind):
    """Returns the model, its options for int8, the shape of the graph, and the inputs of the comparison."""
    model = load_model(folder)
    model = _blinded(model) if blind else model
    options = Options(source=folder, out=folder / "x", precision="int8", stop_threshold=model.config.stop_threshold)
    spec = dataclasses.replace(make_spec(model, options), resize=False)
    images = read_images(model, spec, folder=None, run=folder, thresholds=options.thresholds, count=8)
    return model, options, spec, make_inputs(images, spec, model.config.image_size, every=True)


def _compare(folder, run=None, *, blind=False):
    """Compares what a function computes with the model, by the rules for int8; default: with itself."""
    model, options, spec, inputs = _prepared(folder, blind)

    def itself(images):
        return {name: value.numpy() for name, value in infer(model, images, spec).items()}

    accepted = tolerances(options, model.config.mask_head)
    return verify.compare(run or itself, model, spec, inputs, tolerances=accepted, thresholds=options.thresholds)


def _kernels(model, every):
    """Returns every n-th kernel of a convolution that has more than one output channel."""
    kernels = [weights for weights in model.trainable_variables if len(weights.shape) == 4 and weights.shape[-1] > 1]
    return kernels[::every]


def _passed(folder, change, *, blind, every=1):
    """Damages one kernel after the other; returns those with which the comparison passed."""
    model, _, spec, inputs = _prepared(folder, blind)
    passed = []
    for variable in _kernels(model, every):
        kept = variable.numpy()
        variable.assign(change(kept))
        outputs = [{name: value.numpy() for name, value in infer(model, images, spec).items()} for images in inputs]
        variable.assign(kept)
        answers = iter(outputs)
        try:
            _compare(folder, lambda _, answers=answers: next(answers), blind=blind)
            passed.append(variable.path)
        except VerificationError:
            continue
    return passed


def _shuffled(kernel):
    return kernel[..., np.random.default_rng(0).permutation(kernel.shape[-1])]


DAMAGE = {
    "zero": lambda kernel: 0 * kernel,
    "shuffled": _shuffled,
    "half": lambda kernel: kernel / 2,
    "double": lambda kernel: 2 * kernel,
}


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_layer_is_noticed(trained, damage, blind):
    """Also where the model finds nothing, so that the instances of the file's thresholds agree."""
    assert _passed(trained / "paper", DAMAGE[damage], blind=blind, every=5) == []


@pytest.mark.slow
@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_every_layer_is_noticed(trained, damage, blind):
    assert _passed(trained / "paper", DAMAGE[damage], blind=blind) == []


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("run", ["paper", "voting"])
def test_rounded_kernels_pass(trained, run, blind):
    """Kernels of 8 bits, as those of an int8 export."""
    model, _, spec, inputs = _prepared(trained / run, blind)
    kept = [variable.numpy() for variable in model.trainable_variables]
    for variable, values in zip(model.trainable_variables, kept, strict=True):
        if values.ndim == 4:
            step = np.maximum(np.abs(values).max(axis=(0, 1, 2), keepdims=True), 1e-9) / 127
            variable.assign(np.round(values / step) * step)
    outputs = [{name: value.numpy() for name, value in infer(model, images, spec).items()} for images in inputs]
    for variable, values in zip(model.trainable_variables, kept, strict=True):
        variable.assign(values)
    answers = iter(outputs)
    result = _compare(trained / run, lambda _: next(answers), blind=blind)
    assert result.tensors["masks"].share < 0.03  # half of what passes
    assert bool(sum(case.lowered for case in result.cases)) == (blind or run == "paper")
    assert any("finds no object" in remark for remark in result.remarks) == blind


@pytest.mark.parametrize(
    ("run", "exporter", "calibration"),
    [
        ("paper", onnx, "none"),
        ("paper", tflite, "SCENES"),
        ("paper", onnx, "SCENES"),
        ("voting", tflite, "SCENES"),
        ("voting", onnx, "SCENES"),
    ],
)
def test_sound_exports_pass(trained, tmp_path, capsys, run, exporter, calibration):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    dataset = SyntheticDataset(length=12, seed=9)
    for index in range(12):
        Image.fromarray(dataset[index].image).save(scenes / f"{index}.png")
    out = tmp_path / exporter.FORMAT.default_out
    source = str(scenes) if calibration == "SCENES" else calibration
    exporter.main([str(trained / run), "--out", str(out), "--precision", "int8", "--calibration", source])
    assert "verified masks: mean difference" in capsys.readouterr().out
    side = json.loads((tmp_path / f"{out.name}.json").read_text())
    assert all(tensor["correlation"] > 0.995 for tensor in side["verification_of_tensors"].values())
    assert sum(case["instances"] for case in side["verification"]) > 5
    assert sum(case["shape"][0] for case in side["verification"]) >= 8


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("unrolled", "from the Keras model"),
        ("loop", "expected masks that correlate with the Keras model's to 0.95 in these images (--verify-images names"),
    ],
)
def test_a_damaged_export_is_not_kept(trained, tmp_path, monkeypatch, capsys, layout: str, message: str):
    real = quantize.quantize_weights

    def broken(model):
        result = real(model)
        scales = [tensor for tensor in result.graph.initializer if tensor.name.endswith("/scale")]
        tensor = scales[len(scales) // 2]
        tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))
        return result

    monkeypatch.setattr(quantize, "quantize_weights", broken)
    call = ["--out", str(tmp_path / "x.onnx"), "--precision", "int8", "--calibration", "none", "--min-agreement", "0"]
    with pytest.raises(SystemExit) as stop:
        onnx.main([str(trained / "paper"), "--layout", layout, *call])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_is_said_when_nothing_was_compared(trained, tmp_path, capsys):
    """The masks of this model are constant, and it finds nothing."""
    model = _blinded(load_model(trained / "paper"))
    model.decoder.mask_head.kernel.assign(0 * model.decoder.mask_head.kernel)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "best.keras")
    out = tmp_path / "x.onnx"
    call = [str(tmp_path / "run"), "--out", str(out), "--steps", "2"]
    with pytest.raises(SystemExit) as stop:
        onnx.main([*call, "--precision", "int8", "--calibration", "none"])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "an 8-bit file cannot be compared otherwise" in error
    assert "--no-verify" in error
    assert not out.exists()
    onnx.main([*call, "--precision", "int8", "--calibration", "none", "--no-verify"])
    assert out.exists()
    capsys.readouterr()
    onnx.main(call)
    assert "warning: nothing was compared\n" in capsys.readouterr().err


def _batch(seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.random((2, 3, 4), np.float32)
    return {
        "masks": rng.random((2, 3, 8, 8), np.float32),
        "classes": classes / classes.sum(axis=2, keepdims=True),
        "stop": np.array([[0.9, 0.8, 0.1], [0.9, 0.0, 0.6]], np.float32),
    }


def _differences(wanted, got, *, align=False):
    comparison = TensorComparison(align=align)
    comparison.add(wanted, got)
    return comparison.results()


def test_mean_difference_and_correlation():
    wanted = _batch()
    same = _differences(wanted, wanted)
    assert all(result.mean == 0 and result.correlation == pytest.approx(1) for result in same.values())
    shifted = _differences(wanted, wanted | {"stop": wanted["stop"] + np.float32(0.1)})["stop"]
    assert shifted.mean == pytest.approx(0.1)
    assert shifted.spread == pytest.approx(np.abs(wanted["stop"] - wanted["stop"].mean()).mean())
    assert shifted.correlation == pytest.approx(1)
    other = _differences(wanted, wanted | {"masks": _batch(1)["masks"]})["masks"]
    assert abs(other.correlation) < 0.3
    constant = _differences(wanted, wanted | {"masks": 0 * wanted["masks"]})["masks"]
    assert np.isnan(constant.correlation)
    assert constant.share > 1


def test_steps_after_the_end_have_no_weight():
    wanted, got = _batch(), _batch()
    got["masks"][1, 1:] = 0  # the second sequence ends at its second step
    assert _differences(wanted, got)["masks"].mean == 0
    got["masks"][1, 0] = 0
    assert _differences(wanted, got)["masks"].mean > 0.05


def test_objects_may_swap_their_steps_where_single_values_may_differ():
    wanted = _batch()
    swapped = {name: values.copy() for name, values in wanted.items()}
    for values in swapped.values():
        values[0, [0, 1]] = values[0, [1, 0]]
    assert all(result.mean == 0 for result in _differences(wanted, swapped, align=True).values())
    assert _differences(wanted, swapped)["masks"].mean > 0.05


def test_lower_thresholds_only_where_both_find_nothing():
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :2] = 0.3
    wanted = {"masks": masks, "classes": np.full((2, 3), 0.3, np.float32), "stop": np.float32([0.01, 0.001])}
    same = compare_instances(wanted, wanted, (4, 4), THRESHOLDS)
    assert (same.value, same.wanted, same.found, same.lowered) == (1, 0, 0, True)
    moved = wanted | {"masks": masks[:, ::-1]}
    assert compare_instances(wanted, moved, (4, 4), THRESHOLDS).value == 0
    seen = wanted | {"masks": 2 * masks, "stop": np.float32([0.9, 0])}
    assert compare_instances(wanted, seen, (4, 4), THRESHOLDS) == dataclasses.replace(
        same, value=0, found=1, lowered=False
    )


def test_images_with_objects_come_first():
    asked = []

    def find(images):
        asked.append(len(images))
        return [int(image.mean() > 5) for image in images]

    made = [np.full((1, 1, 3), value, np.uint8) for value in (0, 9, 1, 8, 7, 6, 2, 3)]
    assert [image.mean() for image in choose(iter(made), 3, find)] == [9, 8, 7]
    assert asked == [4, 4]
    assert [image.mean() for image in choose(iter(made), 6, find)] == [9, 8, 7, 6, 0, 1]
    assert [image.mean() for image in choose(iter(made[:1]), 4, find)] == [0]


def test_images_come_from_the_folder_else_from_the_samples_and_from_made_ones(tmp_path):
    def values(folder, run):
        return [image[0, 0, 0] for image in candidates(folder, run, (16, 40)) if image.shape == (8, 8, 3)]

    made = [image.shape for image in candidates(None, tmp_path, (16, 40))]
    assert made == [(240, 320, 3), *[(24, 40, 3)] * 6, (240, 320, 3)]
    for folder, value in [("samples", 10), ("mine", 20)]:
        (tmp_path / folder).mkdir()
        for i in range(6):
            Image.new("RGB", (8, 8), (value + i, 0, 0)).save(tmp_path / folder / f"{9 - i}.png")
    assert values(None, tmp_path) == [15, 14, 13, 12, 11, 10]  # sorted by name
    assert len(list(candidates(None, tmp_path, (16, 40)))) == 14
    assert [image[0, 0, 0] for image in candidates(tmp_path / "mine", tmp_path, (16, 40))] == [25, 24, 23, 22, 21, 20]
    (tmp_path / "empty" / "samples").mkdir(parents=True)
    with pytest.raises(InputError, match="empty, which contains none"):
        next(candidates(tmp_path / "empty", tmp_path, (16, 40)))
    assert len(list(candidates(None, tmp_path / "empty", (16, 40)))) == 8


def test_lower_demands_lower_those_on_means_too():
    def accepted(**changes):
        return tolerances(Options(source=None, out=None, **{"precision": "int8"} | changes), "convolution")

    usual, lower = accepted(), accepted(min_agreement=0.3)
    assert usual == Tolerances(atol=1, min_agreement=0.8, resolution=1e-3, must_compare=True)
    assert lower.mean_difference == pytest.approx(3.5 * usual.mean_difference)
    assert 1 - lower.correlation == pytest.approx(3.5 * (1 - usual.correlation))
    assert accepted(precision="fp32", atol=0.01).resolution == 0.01
    assert not accepted(precision="fp32").must_compare
