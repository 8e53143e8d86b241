"""The comparison after an export: what passes, what fails, and that a failure leaves no file."""

import pathlib
import sys
import types

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from export import onnx as exporter
from export import verify
from export.comparison_images import make_inputs
from export.graph import GraphSpec, infer, resample
from export.instances import check_instances
from export.onnx_graphs.convert import convert
from export.tolerances import Tolerances
from rsis_tf.images import synthetic_image
from rsis_tf.inference import load_model

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import tensor_float

SPEC = GraphSpec(size=(48, 64), batch=None, steps=4)
THRESHOLDS = {"stop_threshold": 0.5, "mask_threshold": 0.5}


@pytest.fixture(scope="module")
def model(run_folder):
    return load_model(run_folder)


def _compare(model, change=lambda outputs: outputs, atol: float = 1e-4, images=None) -> tuple[verify.Case, ...]:
    """Compares the model with itself, after a change of its outputs."""
    inputs = make_inputs(images or [synthetic_image()], SPEC, (48, 64))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: value.numpy() for name, value in infer(model, images, SPEC).items()}
        return change(outputs) or outputs

    # Only single values are compared here; tests/export/test_tensors.py has the means.
    accepted = Tolerances(atol=atol, resolution=1.0)
    return verify.compare(run, model, SPEC, inputs, tolerances=accepted, thresholds=THRESHOLDS).cases


def test_the_same_passes_at_two_sizes_and_batches(model):
    cases = _compare(model)
    assert [case.shape for case in cases] == [(1, 48, 64, 3), (2, 81, 111, 3)]
    assert all(case.differences == {"masks": 0, "classes": 0, "stop": 0} for case in cases)
    assert [case.instances for case in cases] == [4, 8]  # the model finds four objects in every image
    assert [case.agreement for case in cases] == [1, 1]


def _add(name: str, value: float):
    def change(outputs):
        outputs[name] = outputs[name] + value

    return change


def test_differences_under_the_tolerance_pass(model):
    assert _compare(model, _add("masks", 5e-5))[0].differences["masks"] == pytest.approx(5e-5, rel=0.01)
    _compare(model, _add("stop", 0.01), atol=0.02)


@pytest.mark.parametrize("name", ["masks", "classes", "stop"])
@pytest.mark.parametrize("value", [2e-4, -0.1, np.nan])
def test_a_larger_difference_fails(model, name: str, value: float):
    with pytest.raises(verify.VerificationError, match=f"for the input .* expected {name} within 0.0001"):
        _compare(model, _add(name, value))


def test_other_names_and_shapes_fail(model):
    with pytest.raises(
        verify.VerificationError, match=r"expected stop of shape \(1, 4\).*outputs \['classes', 'masks'\]"
    ):
        _compare(model, lambda outputs: {name: outputs[name] for name in ("classes", "masks")})
    with pytest.raises(verify.VerificationError, match=r"Received: \(1, 4, 64, 48\)"):
        _compare(model, lambda outputs: {**outputs, "masks": outputs["masks"].swapaxes(2, 3)})


def test_a_batch_in_another_order_fails(model):
    with pytest.raises(verify.VerificationError, match=r"\(2, 81, 111, 3\)"):
        _compare(model, lambda outputs: {name: value[::-1] for name, value in outputs.items()})


def _outputs() -> dict[str, np.ndarray]:
    """Two clear objects and an end, for a (4, 4) image."""
    masks = np.zeros((3, 4, 4), np.float32)
    masks[0, :2], masks[1, 2:] = 1, 1
    return {
        "masks": masks,
        "classes": np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]], np.float32),
        "stop": np.array([0.9, 0.9, 0.1], np.float32),
    }


def _instances(change, atol: float = 0.05) -> None:
    outputs = _outputs()
    change(outputs)
    check_instances(_outputs(), outputs, size=(4, 4), atol=atol, thresholds=THRESHOLDS)


def test_instances_are_compared_one_by_one():
    _instances(lambda outputs: None)

    def pixel(outputs):
        outputs["masks"][1, 0, 0] = 1

    def hole(outputs):
        outputs["masks"][0, 0, 0] = 0

    def label(outputs):
        outputs["classes"][0] = [0.1, 0.1, 0.8]

    def end(outputs):
        outputs["stop"][1] = 0.1

    for change, message in [
        (pixel, "at step 1. Received: 0 pixels missing, 1 too many"),
        (hole, "at step 0. Received: 1 pixels missing, 0 too many"),
        (label, "expected class 1"),
        (end, "steps \\[0, 1\\]"),
    ]:
        with pytest.raises(verify.VerificationError, match=message):
            _instances(change)


def test_a_pixel_at_the_threshold_may_lie_on_either_side():
    wanted, got = _outputs(), _outputs()
    wanted["masks"][0, 3, 3], got["masks"][0, 3, 3] = 0.5 - 1e-5, 0.5 + 1e-5
    check_instances(wanted, got, size=(4, 4), atol=1e-4, thresholds=THRESHOLDS)
    with pytest.raises(verify.VerificationError):
        check_instances(wanted, got, size=(4, 4), atol=1e-6, thresholds=THRESHOLDS)


def test_synthetic_image_depends_on_the_seed_only():
    np.testing.assert_array_equal(synthetic_image(), synthetic_image())
    assert (synthetic_image(seed=1) != synthetic_image()).any()


def test_failure_exits_1_and_leaves_no_file(run_folder, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--out", str(out), "--atol", "0", "--steps", "1"])
    assert stop.value.code == 1
    assert "expected masks within 0 of the Keras model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    exporter.main([str(run_folder), "--out", str(out), "--atol", "0", "--steps", "1", "--no-verify"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]


def test_failure_keeps_an_earlier_export(run_folder, tmp_path):
    out = tmp_path / "model.onnx"
    exporter.main([str(run_folder), "--out", str(out), "--steps", "1", "--no-verify"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit):
        exporter.main([str(run_folder), "--out", str(out), "--steps", "2", "--atol", "0"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.fixture
def tensor_float_32():
    """TensorFlow's setting: on, as by default; restored after the test."""
    settings = tf.config.experimental
    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(True)
    yield settings
    settings.enable_tensor_float_32_execution(before)


class _Ampere:
    """Computes the model as a GPU does while TensorFlow's setting is on: with rounded kernels."""

    def __init__(self, model):
        self.model, self.infer = model, verify.infer

    def __call__(self, model, images, spec):
        if not tf.config.experimental.tensor_float_32_execution_enabled():
            return self.infer(model, images, spec)
        kept = [variable.numpy() for variable in self.model.variables]
        for variable, value in zip(self.model.variables, kept, strict=True):
            if value.ndim > 1:
                variable.assign(tensor_float.to_tensor_float(value))
        try:
            return self.infer(model, images, spec)
        finally:
            for variable, value in zip(self.model.variables, kept, strict=True):
                variable.assign(value)


def test_the_reference_is_float32_where_gpus_round(model, tensor_float_32, monkeypatch):
    """On Ampere and newer, rounding changes the masks by more than the verification lets pass."""
    inputs = make_inputs([synthetic_image()], SPEC, (48, 64))
    exact = [{name: value.numpy() for name, value in infer(model, images, SPEC).items()} for images in inputs]
    ampere = _Ampere(model)
    rounded = [ampere(model, images, SPEC)["masks"].numpy() for images in inputs]
    assert max(np.abs(ours["masks"] - theirs).max() for ours, theirs in zip(exact, rounded, strict=True)) > 1e-4
    monkeypatch.setattr(verify, "infer", ampere)
    answers = iter(exact)
    accepted = Tolerances(atol=1e-4)
    result = verify.compare(lambda _: next(answers), model, SPEC, inputs, tolerances=accepted, thresholds=THRESHOLDS)
    assert all(case.differences == {"masks": 0, "classes": 0, "stop": 0} for case in result.cases)


@pytest.mark.parametrize("before", [True, False])
def test_tensor_float_32_is_off_during_the_comparison_only(model, tensor_float_32, before):
    tensor_float_32.enable_tensor_float_32_execution(before)
    seen = []

    def record(outputs):
        seen.append(tensor_float_32.tensor_float_32_execution_enabled())
        return _add("masks", 1.0)(outputs) if len(seen) == 2 else outputs

    with pytest.raises(verify.VerificationError):
        _compare(model, record)
    assert seen == [False, False]
    assert tensor_float_32.tensor_float_32_execution_enabled() is before


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_onnx_runtime_computes_in_float32_too(provider, monkeypatch):
    asked = []

    def open_graph(path, *, providers):
        asked.extend(providers)
        return types.SimpleNamespace(
            get_modelmeta=lambda: types.SimpleNamespace(custom_metadata_map={"layout": "unrolled"})
        )

    monkeypatch.setattr(exporter, "open_graph", open_graph)
    exporter.open_run("model.onnx", provider)
    assert asked == [(provider, {"cuda": {"use_tf32": "0"}}.get(provider, {}))]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA build")
def test_a_missing_provider_is_refused_before_the_conversion(run_folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--out", str(tmp_path / "model.onnx"), "--verify-provider", "cuda"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("Received: --verify-provider cuda\n")


@pytest.fixture(scope="module")
def scaling(model) -> onnx.ModelProto:
    """The graph that resizes images to (48, 64), as in an export."""
    return convert(
        model,
        lambda inputs: {"scaled": resample(inputs["image"], (48, 64))},
        inputs={"image": (("batch", "height", "width", 3), "uint8")},
        outputs={"scaled": ("batch", 48, 64, 3)},
    )


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(48, 64), (20, 30), (101, 333), (480, 640), (7, 1500)])
def test_resizing_in_the_graph_is_the_same_to_the_bit_where_gpus_round(scaling, size):
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    exact, rounded = (
        _session(proto).run(None, {"image": image})[0] for proto in (scaling, tensor_float.emulate(scaling))
    )
    np.testing.assert_array_equal(rounded, exact)
    np.testing.assert_array_equal(exact, np.round(exact))


def test_weights_of_the_resizing_have_eleven_digits_or_fewer():
    """Then the result is the same whether a GPU rounds further digits or cuts them off."""
    from export.graph import _triangle_weights

    for n_in in (1, 7, 64, 333, 4000):
        parts = [part.numpy() for part in _triangle_weights(tf.constant(n_in), 64, 64)]
        for part in parts:
            np.testing.assert_array_equal(tensor_float.to_tensor_float(part), part)
            np.testing.assert_array_equal(tensor_float.to_tensor_float(part, cut=True), part)
        np.testing.assert_allclose(sum(part.sum(axis=1, dtype=np.float64) for part in parts), 1, atol=2.0**-16)


def test_emulated_rounding_is_that_of_the_format():
    values = np.array([1, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, 255, 2047, 2049, 2051, -3.0e-5], np.float32)
    wanted = np.array([1, 1 + 2**-10, 1, 1 + 2**-9, 255, 2047, 2048, 2052, np.nan], np.float32)
    got = tensor_float.to_tensor_float(values)
    np.testing.assert_array_equal(got[:-1], wanted[:-1])
    assert abs(got[-1] - values[-1]) <= 2**-12 * abs(values[-1])
    np.testing.assert_array_equal(tensor_float.to_tensor_float(values, cut=True)[5:8], [2047, 2048, 2050])
    large = np.random.default_rng(0).normal(0, 100, 1000).astype(np.float32)
    split = tensor_float.SPLITTER * large
    np.testing.assert_array_equal(split - (split - large), tensor_float.to_tensor_float(large))


def test_rounding_changes_an_export_by_more_than_the_verification_lets_pass(model):
    """Without use_tf32=0, the verification of the same file would fail on a GPU since Ampere."""
    batch = SPEC.named_input_shape[0]
    proto = convert(
        model,
        lambda inputs: infer(model, inputs["image"], SPEC),
        inputs={"image": (SPEC.named_input_shape, SPEC.input_type)},
        outputs={"masks": (batch, 4, 48, 64), "classes": (batch, 4, 4), "stop": (batch, 4)},
    )
    inputs = make_inputs([synthetic_image()], SPEC, (48, 64))
    names = ("masks", "classes", "stop")

    def compare(proto: onnx.ModelProto) -> tuple[verify.Case, ...]:
        session = _session(proto)

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(list(names), {"image": images}), strict=True))

        return verify.compare(run, model, SPEC, inputs, tolerances=Tolerances(atol=1e-4), thresholds=THRESHOLDS).cases

    assert max(case.differences["masks"] for case in compare(proto)) < 1e-5
    with pytest.raises(verify.VerificationError, match=r"expected masks within 0.0001.*a difference of 0.000[2-9]"):
        compare(tensor_float.emulate(proto))
