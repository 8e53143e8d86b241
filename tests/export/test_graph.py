"""The function that every format exports: resizing in the graph, shapes, probabilities."""

import numpy as np
import pytest
import tensorflow as tf

from export.graph import GraphSpec, infer, make_spec, resample
from export.options import Options
from rsis_tf.errors import InputError
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.runtime import resize_image


@pytest.mark.parametrize("size", [(20, 30), (48, 64), (7, 200), (300, 5), (1, 1), (481, 333)])
def test_resizing_in_the_graph_is_that_of_the_runtime(size: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    scaled = resample(tf.constant(image[None]), (48, 64)).numpy()[0]
    wanted = resize_image(image, (48, 64))
    assert np.abs(scaled - wanted).max() <= 1  # Pillow has fixed-point weights, and may scale the columns first
    assert (scaled != wanted).mean() < 0.25
    if size == (48, 64):
        np.testing.assert_array_equal(scaled, image)


@pytest.mark.parametrize("size", [(48, 48), (32, 48), (192, 192), (416, 416), (480, 640)])
def test_resizing_is_the_same_when_tensorflow_optimises_the_graph(size):
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 81, 95, 3), np.uint8))
    signature = tf.TensorSpec((None, None, None, 3), tf.uint8)
    optimised = tf.function(lambda image: resample(image, size), input_signature=[signature])
    np.testing.assert_array_equal(optimised(images), resample(images, size))


def test_float_images_keep_their_fractions():
    image = np.array([[[0.0], [1.0]]], np.float32).repeat(3, axis=-1)[None]  # (1, 1, 2, 3)
    scaled = resample(tf.constant(image), (1, 4)).numpy()
    np.testing.assert_allclose(scaled[0, 0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


@pytest.fixture(scope="module")
def model():
    return build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, num_steps=5, image_size=(32, 48)))


def test_outputs_are_probabilities_at_the_size_of_the_network(model):
    spec = GraphSpec(size=(32, 48), batch=None, steps=2)
    image = np.random.default_rng(0).integers(0, 256, (2, 50, 20, 3), np.uint8)
    outputs = {name: value.numpy() for name, value in infer(model, image, spec).items()}
    assert {name: value.shape for name, value in outputs.items()} == {
        "masks": (2, 2, 32, 48),
        "classes": (2, 2, 3),
        "stop": (2, 2),
    }
    direct = model(resample(tf.constant(image), (32, 48)), num_steps=2, training=False)
    np.testing.assert_allclose(outputs["masks"], tf.sigmoid(direct["mask_logits"]), atol=1e-6)
    np.testing.assert_allclose(outputs["classes"].sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(outputs["stop"], tf.sigmoid(direct["stop_logits"]), atol=1e-6)


def test_uint8_and_float_give_the_same_outputs(model):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    spec = GraphSpec(size=(32, 48), batch=1, steps=2)
    whole, real = infer(model, image, spec), infer(model, image.astype(np.float32), spec)
    np.testing.assert_allclose(whole["masks"], real["masks"], atol=1e-6)


def _spec(model, **fields) -> GraphSpec:
    return make_spec(model, Options(source="model.keras", out="model.onnx", **fields))


def test_spec_takes_missing_options_from_the_model(model):
    assert _spec(model) == GraphSpec(size=(32, 48), batch=None, steps=5)
    assert _spec(model).named_input_shape == ("batch", "height", "width", 3)
    assert _spec(model, resize=False).input_shape == (None, 32, 48, 3)
    assert _spec(model, size=None, steps=2, batch=4) == GraphSpec(size=None, batch=4, steps=2, resize=False)


def test_a_size_too_small_for_the_encoder_is_refused():
    model = build_model(ModelConfig(encoder="vgg16", hidden_size=16, num_classes=2))
    with pytest.raises(InputError, match="Received: --size 16x40"):
        _spec(model, size=(16, 40))


@pytest.mark.parametrize(("size", "received"), [((40_000, 32), "40000"), ((32_768, 32_768), "32768x32768")])
def test_a_size_that_the_runtime_does_not_take_is_refused(model, size, received):
    with pytest.raises(InputError, match=received):
        _spec(model, size=size)
