"""Encoders with kept statistics: one convolution in place of a convolution and its batch normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rsis_tf.config import ModelConfig
from rsis_tf.models import RSIS
from rsis_tf.models.encoders import build_encoder
from rsis_tf.models.folding import FoldedConvolution, folded
from rsis_tf.training.building import build_for_training

WITH_BATCH_NORM = ("compact", "efficientnetv2_b0", "mobilenet_v2", "resnet34")


def shuffled(encoder: keras.Model, seed: int = 0) -> keras.Model:
    """Returns the encoder with statistics, gains and shifts that are not those of a new one."""
    rng = np.random.default_rng(seed)
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.2, size))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, size))
            layer.gamma.assign(rng.uniform(0.5, 1.5, size))
            layer.beta.assign(rng.normal(0, 0.2, size))
    return encoder


def gradients(network: keras.Model, encoder: keras.Model, images: tf.Tensor) -> tuple[list, list]:
    with tf.GradientTape() as tape:
        features = network(images, training=False)
        loss = sum(tf.reduce_mean(feature * (i + 1)) for i, feature in enumerate(features))
    return features, tape.gradient(loss, encoder.trainable_variables)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_folded_encoder_has_the_same_features_and_gradients(name: str) -> None:
    # In float64, because in float32 a rounding error can move a value across the corner of a ReLU.
    encoder = shuffled(build_for_training(ModelConfig(encoder=name), precision="float64").encoder)
    images = tf.constant(np.random.default_rng(1).normal(0, 1, (2, 64, 96, 3)))
    network = folded(encoder)
    norms = [layer for layer in encoder.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert sum(isinstance(layer, FoldedConvolution) for layer in network.layers) == len(norms)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)

    expected, expected_gradients = gradients(encoder, encoder, images)
    received, received_gradients = gradients(network, encoder, images)
    for one, other in zip(expected, received, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-9 * float(tf.reduce_max(tf.abs(one))))
    for variable, one, other in zip(encoder.trainable_variables, expected_gradients, received_gradients, strict=True):
        bound = 1e-9 * float(tf.reduce_max(tf.abs(one))) + 1e-12
        np.testing.assert_allclose(other, one, atol=bound, err_msg=variable.path)


def test_folding_reads_the_weights_of_the_moment() -> None:
    encoder = build_encoder("compact")
    network = folded(encoder)
    images = np.random.default_rng(1).normal(0, 1, (1, 32, 32, 3)).astype(np.float32)
    before = network(images)[0]
    shuffled(encoder)
    after = network(images)[0]
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(after, encoder(images, training=False)[0], atol=1e-5)


@pytest.mark.parametrize("name", ["vgg16", "convnext_tiny"])
def test_encoder_without_batch_norm_is_returned_as_it_is(name: str) -> None:
    encoder = build_encoder(name)
    assert folded(encoder) is encoder


def test_training_with_kept_statistics_folds_and_leaves_no_trace(tmp_path) -> None:
    config = ModelConfig(encoder="compact", hidden_size=16, num_steps=2, image_size=(32, 32))
    model = RSIS(config)
    paths = [variable.path for variable in model.variables]
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    model.encoder_batch_statistics = False
    statistics = [np.array(value) for value in model.encoder.non_trainable_variables]
    features = model.encode(images, training=True)
    for one, other in zip(features, model.encode(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for before, now in zip(statistics, model.encoder.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(now, before)
    assert [variable.path for variable in model.variables] == paths
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_strided_depthwise_convolutions_stay_in_float32() -> None:
    encoder = build_for_training(ModelConfig(encoder="mobilenet_v2"), precision="mixed_bfloat16").encoder
    depthwise = [layer for layer in encoder.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    types = {layer.name: layer.compute_dtype for layer in depthwise}
    assert {types[layer.name] for layer in depthwise if layer.strides == (2, 2)} == {"float32"}
    assert {types[layer.name] for layer in depthwise if layer.strides == (1, 1)} == {"bfloat16"}
    features = folded(encoder)(np.zeros((1, 64, 64, 3), np.float32))
    assert {feature.dtype for feature in features} == {tf.bfloat16}
