"""Reading trained models, and predicting with what was read."""

import numpy as np
import pytest
from legacy_torch import original_arguments, write_checkpoint

from rsis_tf.errors import InputError
from rsis_tf.models import RSIS, ModelConfig, build_model
from rsis_tf.models.loading import load_model
from rsis_tf.models.pytorch.convert import state_dicts
from rsis_tf.runtime import decode, resize_image

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(encoder="compact", hidden_size=16, num_classes=3, num_steps=3, image_size=(32, 48))
    model = build_model(config)
    model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
    model.decoder.stop_head.bias.assign([3.0])
    return model


@pytest.mark.parametrize("read", [load_model, RSIS.from_pretrained])
def test_files_and_run_folders(model, read, tmp_path):
    model.save(tmp_path / "best.keras")
    for path in (tmp_path / "best.keras", str(tmp_path / "best.keras"), tmp_path, str(tmp_path)):
        again = read(path)
        assert again.config == model.config
        for one, other in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_checkpoint_folder_of_the_original(tmp_path):
    model = build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=3))
    arguments = original_arguments(base_model="resnet34", hidden_size=16, num_classes=3)
    write_checkpoint(tmp_path / "original", state_dicts(model), arguments)
    again = RSIS.from_pretrained(tmp_path / "original")
    np.testing.assert_array_equal(again.decoder.class_head.kernel, model.decoder.class_head.kernel)


def test_a_name_that_no_model_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"expected the name of a model, .* Received: voc-resnet50, which is not ther"):
        RSIS.from_pretrained("voc-resnet50")
    (tmp_path / "voc-resnet50").mkdir()
    with pytest.raises(InputError, match=r"expected a run folder with best\.keras.* Received: voc-resnet50$"):
        RSIS.from_pretrained("voc-resnet50")


def test_other_paths_are_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    (tmp_path / "model.keras").write_bytes(b"keras")
    with pytest.raises(InputError, match=r"expected a \.keras file\. Received: .*model\.onnx$"):
        load_model(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"expected a whole model file of rsis_tf\. Received: .*model\.keras"):
        load_model(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"Received: .*gone\.keras, which is not there$"):
        RSIS.from_pretrained(tmp_path / "gone.keras")


@pytest.mark.parametrize("options", [{}, {"stop_threshold": 0.99}, {"mask_threshold": 0.2, "stop_mode": "each"}])
def test_instances_are_those_decoded_from_the_outputs(model, options):
    outputs = model(resize_image(IMAGE, (32, 48))[None], training=False)
    masks, classes, stop = (
        np.asarray(value[0], np.float64)
        for value in (outputs["mask_logits"], outputs["class_probs"], outputs["stop_logits"])
    )
    expected = decode(
        1 / (1 + np.exp(-masks)), classes, 1 / (1 + np.exp(-stop)), size=(40, 70), class_names=(), **options
    )
    found = model.predict_instances(IMAGE, **options)
    assert [(one.step, one.class_id) for one in found] == [(one.step, one.class_id) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.mask.shape == (40, 70)
        assert (one.mask != other.mask).mean() < 0.001
        assert one.score == pytest.approx(other.score, rel=1e-4)
    if not options:
        assert len(found) == 3
