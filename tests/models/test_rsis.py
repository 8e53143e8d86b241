"""The model as a user calls it."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from rsis_tf.config import ENCODER_NAMES
from rsis_tf.models import RSIS, ModelConfig, build_model


def images(batch=2, height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, num_steps=4))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 65), (47, 61), (1, 1), (7, 90)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size_and_batch(model, height, width, batch):
    outputs = model(images(batch, height, width), num_steps=2, training=False)
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "mask_logits": (batch, 2, height, width),
        "class_probs": (batch, 2, 3),
        "stop_logits": (batch, 2),
    }
    assert all(np.isfinite(value).all() for value in outputs.values())
    np.testing.assert_allclose(np.sum(outputs["class_probs"], axis=-1), 1, atol=1e-5)


def test_uint8_and_float_are_the_same(model):
    whole, real = (model(images().astype(kind), num_steps=2, training=False) for kind in ("uint8", "float32"))
    for key in whole:
        np.testing.assert_array_equal(whole[key], real[key])


def test_a_model_built_in_half_precision_is_read_in_float32(tmp_path):
    """As Keras describes it: a global policy, `fit`, `save`, and another program that reads the file."""
    config = ModelConfig(encoder="compact", hidden_size=16, num_classes=3, num_steps=2, decoder_stages=2)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = build_model(config)
        assert "bfloat16" in str(half.encode(images())[0].dtype)
        half.save(tmp_path / "half.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    whole = RSIS(config)
    whole.set_weights(half.get_weights())
    earlier = RSIS.from_config({**half.get_config(), "dtype": "mixed_bfloat16"})  # a file of an earlier version
    earlier.set_weights(half.get_weights())
    expected = whole(images(), training=False)
    for model in (keras.models.load_model(tmp_path / "half.keras"), earlier):
        for key, value in model(images(), training=False).items():
            np.testing.assert_array_equal(value, expected[key])


def test_steps_default_to_the_configuration_and_are_a_prefix(model):
    four = model(images(), training=False)
    assert four["stop_logits"].shape == (2, 4)
    two = model(images(), num_steps=2, training=False)
    np.testing.assert_allclose(four["mask_logits"][:, :2], two["mask_logits"], atol=1e-6, equal_nan=False)


def test_images_of_a_batch_do_not_meet(model):
    together = model(images(3), num_steps=2, training=False)
    alone = model(images(3)[1:2], num_steps=2, training=False)
    np.testing.assert_allclose(together["mask_logits"][1:2], alone["mask_logits"], atol=1e-5, equal_nan=False)


@pytest.mark.parametrize("encoder", sorted(set(ENCODER_NAMES) - {"resnet101"}))
def test_every_encoder_has_five_levels(encoder):
    model = build_model(ModelConfig(encoder=encoder, hidden_size=16, num_classes=2))
    features = model.encode(images(1, 64, 96), training=False)
    strides = [64 / feature.shape[1] for feature in features]
    assert strides == [32, 16, 8, 4, 4 if encoder == "convnext_tiny" else 2]
    assert model(images(1, 45, 70), num_steps=1, training=False)["mask_logits"].shape == (1, 1, 45, 70)


@pytest.mark.parametrize(
    ("shape", "encoder"), [((2, 40, 40, 1), "compact"), ((40, 40, 3), "compact"), ((1, 20, 64, 3), "vgg16")]
)
def test_images_that_do_not_fit_are_refused(shape, encoder):
    model = build_model(ModelConfig(encoder=encoder, hidden_size=16, num_classes=2))
    with pytest.raises(ValueError, match=r"images must have the shape .* Received: images.shape="):
        model(np.zeros(shape, np.uint8), training=False)


def test_saved_model_gives_the_same_in_a_fresh_process(model, tmp_path):
    for variable in model.non_trainable_variables:  # statistics that differ from their start
        if variable.dtype == "float32":
            variable.assign(ops.convert_to_numpy(variable) + 0.1)
    model.save(tmp_path / "x.keras")
    np.save(tmp_path / "images.npy", images())
    program = (
        "import keras, numpy, sys, rsis_tf.models\n"
        "model = keras.models.load_model(sys.argv[1] + '/x.keras')\n"
        "out = model(numpy.load(sys.argv[1] + '/images.npy'), num_steps=3, training=False)\n"
        "numpy.savez(sys.argv[1] + '/out.npz', **{key: numpy.asarray(value) for key, value in out.items()})\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    again = np.load(tmp_path / "out.npz")
    for key, value in model(images(), num_steps=3, training=False).items():
        np.testing.assert_allclose(again[key], value, atol=1e-6, equal_nan=False)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet34", "vgg16"])
def test_saving_keeps_config_and_weights(encoder, tmp_path):
    config = ModelConfig(
        encoder=encoder, hidden_size=16, num_classes=3, class_names=("background", "a", "b"), image_size=(64, 48)
    )
    model = build_model(config)
    model.save(tmp_path / "x.keras")
    again = keras.models.load_model(tmp_path / "x.keras")
    assert again.config == config
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


class Counted(RSIS):
    """A model with a class of its own."""


def test_a_subclass_is_kept():
    model = Counted.from_pretrained("shapes")
    assert type(model) is Counted
    assert type(model.with_steps(2)) is Counted
    assert model.with_steps(2).config.num_steps == 2
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = RSIS.from_pretrained("shapes").predict_on_batch(image)
    np.testing.assert_array_equal(model.predict_on_batch(image)["stop_logits"], expected["stop_logits"])


def test_keras_exports_the_bare_network(tmp_path):
    model = build_model(ModelConfig(encoder="compact", image_size=(32, 48), num_steps=2, hidden_size=16))
    model.export(tmp_path / "saved", verbose=False)
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for name, expected in model.predict_on_batch(image).items():
        np.testing.assert_allclose(loaded.serve(image)[name].numpy(), expected, atol=1e-4)
