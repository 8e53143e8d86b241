"""Three optimiser steps against numbers of the original PyTorch code."""

import keras
import numpy as np
import pytest
from golden_weights import GOLDEN, checkpoint, picture

from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.pytorch.convert import load_state_dicts, state_dicts
from rsis_tf.models.pytorch.names import decoder_pairs, encoder_pairs
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
    """Rounding alone decides the side of a few ReLUs, and behind one of them the encoder's norms move by up to 0.6 %.

    Everything behind no ReLU is held on its own. The encoder is held to the same bound for the weights as they are or
    for weights that differ from them in the last place: measured with SSE 4.1, AVX and AVX2 kernels, at least 6 of 11
    such sets of weights agree, all of them the same 139 norms to 1.1e-4.
    """
    import tensorflow as tf

    golden, model, images, targets = prepared("full")
    variables = {f"encoder.{pair.name}": pair.variable for pair in encoder_pairs(model)}
    variables |= {f"decoder.{pair.name}": pair.variable for pair in decoder_pairs(model)}
    names = [key.removeprefix("grad_norm/") for key in golden if key.startswith("grad_norm/")]
    expected = np.array([float(golden[f"grad_norm/{name}"]) for name in names])

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(images, targets, model(images, training=True))
        return loss, tape.gradient(loss, [variables[name].value for name in names])

    def norms():
        loss, found = gradients()
        return float(loss), np.array([np.linalg.norm(gradient) for gradient in found])

    # A bias before batch normalisation has a true gradient of zero; what is found is rounding.
    zero = np.array([name.startswith("encoder.sk") and name.endswith("bias") for name in names])
    encoder = np.array([name.startswith("encoder.base.") for name in names])
    assert (zero.sum(), encoder.sum(), (~zero & ~encoder).sum()) == (5, 108, 31)
    loss, found = norms()
    np.testing.assert_allclose(loss, golden["losses"][0][0], rtol=1e-6)
    np.testing.assert_array_less(found[zero], 1e-7)
    np.testing.assert_allclose(found[~zero & ~encoder], expected[~zero & ~encoder], rtol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(expected), rtol=3e-4)
    start = {name: keras.ops.convert_to_numpy(variable).copy() for name, variable in variables.items()}
    largest = []
    for seed in range(16):
        largest.append(np.abs(found / expected - 1)[~zero].max())
        if largest[-1] < 1.5e-4:
            break
        rng = np.random.default_rng(seed)
        for name, variable in variables.items():
            towards = rng.choice(np.array([-np.inf, 0, np.inf], np.float32), start[name].shape)
            variable.assign(np.where(towards == 0, start[name], np.nextafter(start[name], towards)))
        found = norms()[1]
    assert largest[-1] < 1.5e-4, largest
