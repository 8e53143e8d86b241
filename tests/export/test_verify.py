"""The comparison after an export: what it lets pass, what it stops, and that nothing is left behind then."""

import numpy as np
import pytest
from PIL import Image

from export import onnx as exporter
from export import verify
from export.graph import GraphSpec, infer
from rsis_tf.errors import InputError
from rsis_tf.predictor import load_model

SPEC = GraphSpec(size=(48, 64), batch=None, steps=4)
THRESHOLDS = {"stop_threshold": 0.5, "mask_threshold": 0.5}


@pytest.fixture(scope="module")
def model(run_folder):
    return load_model(run_folder)


def _compare(model, change=lambda outputs: outputs, atol: float = 1e-4, pictures=None) -> list[verify.Case]:
    """Compares the model with itself, its outputs changed on the way."""
    inputs = verify.make_inputs(pictures or [verify.textured_picture()], SPEC, (48, 64))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: value.numpy() for name, value in infer(model, images, SPEC).items()}
        return change(outputs) or outputs

    return verify.compare(run, model, SPEC, inputs, atol=atol, thresholds=THRESHOLDS)


def test_the_same_passes_at_two_sizes_and_batches(model):
    cases = _compare(model)
    assert [case.shape for case in cases] == [(1, 48, 64, 3), (2, 81, 111, 3)]
    assert all(case.differences == {"masks": 0, "classes": 0, "stop": 0} for case in cases)
    assert all(case.instances >= len(case.shape) - 3 for case in cases)
    assert sum(case.instances for case in cases) >= 6


def _add(name: str, value: float):
    def change(outputs):
        outputs[name] = outputs[name] + value

    return change


def test_differences_under_the_tolerance_pass(model):
    assert _compare(model, _add("masks", 5e-5))[0].differences["masks"] == pytest.approx(5e-5, rel=0.01)
    _compare(model, _add("stop", 0.01), atol=0.02)


@pytest.mark.parametrize("name", ["masks", "classes", "stop"])
@pytest.mark.parametrize("value", [2e-4, -0.1, np.nan])
def test_a_larger_difference_is_stopped(model, name: str, value: float):
    with pytest.raises(verify.VerificationError, match=f"for the input .* expected {name} within 0.0001"):
        _compare(model, _add(name, value))


def test_other_names_and_shapes_are_stopped(model):
    with pytest.raises(
        verify.VerificationError, match=r"expected stop of shape \(1, 4\).*outputs \['classes', 'masks'\]"
    ):
        _compare(model, lambda outputs: {name: outputs[name] for name in ("classes", "masks")})
    with pytest.raises(verify.VerificationError, match=r"Received: \(1, 4, 64, 48\)"):
        _compare(model, lambda outputs: {**outputs, "masks": outputs["masks"].swapaxes(2, 3)})


def test_mixed_up_pictures_of_a_batch_are_stopped(model):
    with pytest.raises(verify.VerificationError, match=r"\(2, 81, 111, 3\)"):
        _compare(model, lambda outputs: {name: value[::-1] for name, value in outputs.items()})


def _outputs() -> dict[str, np.ndarray]:
    """Two clear objects and an end, for a (4, 4) picture."""
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
    verify._compare_instances(_outputs(), outputs, size=(4, 4), atol=atol, thresholds=THRESHOLDS)


def test_instances_are_compared_one_by_one():
    _instances(lambda outputs: None)

    def pixel(outputs):
        outputs["masks"][1, 0, 0] = 1

    def label(outputs):
        outputs["classes"][0] = [0.1, 0.1, 0.8]

    def end(outputs):
        outputs["stop"][1] = 0.1

    for change, message in [
        (pixel, "0 pixels missing, 1 too many"),
        (label, "expected class 1"),
        (end, "steps \\[0, 1\\]"),
    ]:
        with pytest.raises(verify.VerificationError, match=message):
            _instances(change)


def test_a_pixel_on_the_threshold_may_fall_either_way():
    wanted, got = _outputs(), _outputs()
    wanted["masks"][0, 3, 3], got["masks"][0, 3, 3] = 0.5 - 1e-5, 0.5 + 1e-5
    verify._compare_instances(wanted, got, size=(4, 4), atol=1e-4, thresholds=THRESHOLDS)
    with pytest.raises(verify.VerificationError):
        verify._compare_instances(wanted, got, size=(4, 4), atol=1e-6, thresholds=THRESHOLDS)


def test_pictures_come_from_the_folder_then_the_samples_then_are_made(tmp_path):
    def names(folder, run):
        return [picture[0, 0, 0] for picture in verify.read_pictures(folder, run)]

    made = verify.read_pictures(None, tmp_path)
    assert [picture.shape for picture in made] == [(240, 320, 3)]
    for folder, value in [("samples", 10), ("mine", 20)]:
        (tmp_path / folder).mkdir()
        for i in range(6):
            Image.new("RGB", (8, 8), (value + i, 0, 0)).save(tmp_path / folder / f"{9 - i}.png")
    assert names(None, tmp_path) == [15, 14, 13, 12]  # sorted by name, four at most
    assert names(tmp_path / "mine", tmp_path) == [25, 24, 23, 22]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty without any"):
        verify.read_pictures(tmp_path / "empty", tmp_path)


def test_made_up_picture_is_always_the_same():
    np.testing.assert_array_equal(verify.textured_picture(), verify.textured_picture())
    assert (verify.textured_picture(seed=1) != verify.textured_picture()).any()


def test_failure_exits_1_and_leaves_no_file(run_folder, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--out", str(out), "--atol", "0", "--steps", "1"])
    assert stop.value.code == 1
    assert "expected masks within 0 of the Keras model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    exporter.main([str(run_folder), "--out", str(out), "--atol", "0", "--steps", "1", "--no-verify"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]
