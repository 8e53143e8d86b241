"""Three optimiser steps against numbers of the original PyTorch code."""

import keras
import numpy as np
import pytest
from golden_weights import GOLDEN, checkpoint, picture

from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.convert_pytorch import load_state_dicts, state_dicts
from rsis_tf.models.torch_names import decoder_pairs, encoder_pairs
from rsis_tf.training import TrainConfig, compile_model

TERMS = ("loss", "mask_loss", "stop_loss", "class_loss")


def prepared(name):
    golden = np.load(GOLDEN / f"train_{name}.npz")
    model = build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=21))
    load_state_dicts(model, *checkpoint("resnet34_hidden16"))
    full = name == "full"
    config = TrainConfig(num_steps=5, use_class_loss=full, use_stop_loss=full, update_encoder=full)
    compile_model(model, config)
    targets = {
        "masks": np.unpackbits(golden["masks"], axis=-1).reshape(-1, 8, 64, 64),
        "classes": golden["classes"],
        "valid": golden["mask_weight"],
    }
    return golden, model, picture(golden["image"]), targets


@pytest.mark.parametrize("name", ["full", "masks_only"])
def test_three_steps_equal_the_original(name):
    golden, model, images, targets = prepared(name)
    for step in range(3):
        losses = model.train_on_batch(images, targets, return_dict=True)
        np.testing.assert_allclose([losses[term] for term in TERMS], golden["losses"][step], rtol=2e-4)
    losses = model.test_on_batch(images, targets, return_dict=True)
    np.testing.assert_allclose([losses[term] for term in TERMS], golden["val_losses"], rtol=2e-4)
    for part, state in zip(("encoder", "decoder"), state_dicts(model), strict=True):
        for key, array in state.items():
            # A bias before batch normalisation has a gradient of rounding noise, which Adam scales up to full steps.
            noise = 3e-3 * (3 if key.startswith("sk") and key.endswith("bias") else 0)
            expected = golden[f"after/{part}.{key}"]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(array.ravel()[:16], expected, atol=1e-3 * scale + noise, err_msg=key)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by TensorFlow's tape")
def test_gradient_norms_equal_the_original():
    import tensorflow as tf

    golden, model, images, targets = prepared("full")
    with tf.GradientTape() as tape:
        loss = model.compute_loss(images, targets, model(images, training=True))
    pairs = {f"encoder.{pair.name}": pair.variable for pair in encoder_pairs(model)}
    pairs |= {f"decoder.{pair.name}": pair.variable for pair in decoder_pairs(model)}
    names = [key.removeprefix("grad_norm/") for key in golden if key.startswith("grad_norm/")]
    assert len(names) > 100
    gradients = tape.gradient(loss, [pairs[name].value for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        # 1e-7 forgives biases before batch normalisation, whose true gradient is zero.
        np.testing.assert_allclose(np.linalg.norm(gradient), golden[f"grad_norm/{name}"], rtol=1e-3, atol=1e-7)
