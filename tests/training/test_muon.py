"""Muon computes what PyTorch's does, for kernels of convolutions too, and leaves the rest to Adam.

The numbers below are what `python tests/training/test_muon.py` prints where PyTorch is installed (2.13.0, CPU).
"""

import keras
import numpy as np
import pytest

from rsis_tf.training.muon import Muon, matrix_shape, orthogonalized
from rsis_tf.training.update_rules import CoupledAdam

RATES = [0.02, 0.02, 0.004]


def start():
    return np.cos(np.arange(30.0)).reshape(6, 5).astype("float32")


def gradients():
    steps = np.arange(30.0 * len(RATES)).reshape(len(RATES), 6, 5)
    return (np.sin(steps**1.5) * [1.0, 0.1, 0.3, 1e-3, 2.0]).astype("float32")


EXPECTED = {
    0.0: [
        [0.9966229, 0.5347016, -0.4144518, -0.9894677, -0.6570622],
        [0.2899548, 0.9555142, 0.7592133, -0.1464943, -0.9100606],
        [-0.8432727, 0.0148617, 0.8447996, 0.9075158, 0.1283451],
        [-0.7710099, -0.9594245, -0.2857068, 0.659416, 0.9900038],
        [0.3975498, -0.5561534, -0.9963835, -0.5330191, 0.4261333],
        [1.001719, 0.6452059, -0.2996172, -0.9631597, -0.7514966],
    ],
    0.1: [
        [0.9922302, 0.5323336, -0.4126199, -0.985119, -0.6541824],
        [0.2886956, 0.9513063, 0.755895, -0.1458541, -0.906052],
        [-0.8395811, 0.01483251, 0.8410869, 0.9035276, 0.1277526],
        [-0.7676563, -0.9552155, -0.2844854, 0.6565155, 0.9856651],
        [0.3957712, -0.5537329, -0.9919931, -0.530678, 0.4242627],
        [0.9973513, 0.642362, -0.2983213, -0.9589297, -0.7482128],
    ],
}
"""L2 penalty → weights after the last step, (6, 5)."""


def updated(rule, weights, shape):
    variable = keras.Variable(weights.reshape(shape))
    for gradient, rate in zip(gradients(), RATES, strict=True):
        rule.learning_rate = rate
        rule.apply([keras.ops.convert_to_tensor(gradient.reshape(shape))], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("shape", [(6, 5), (1, 2, 3, 5), (3, 2, 1, 5)])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_weights_equal_those_of_pytorch(l2, shape):
    weights = updated(Muon(RATES[0], l2=l2), start(), shape)
    np.testing.assert_allclose(weights.reshape(6, 5), EXPECTED[l2], atol=2e-6)


def test_a_wide_kernel_is_updated_like_its_transpose():
    tall, wide = start(), np.ascontiguousarray(start().T)
    rule = Muon(0.02)
    variable = keras.Variable(wide)
    rule.apply([keras.ops.convert_to_tensor(np.ascontiguousarray(gradients()[0].T))], [variable])
    other = keras.Variable(tall)
    Muon(0.02).apply([keras.ops.convert_to_tensor(gradients()[0])], [other])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable).T, keras.ops.convert_to_numpy(other), atol=1e-6)


@pytest.mark.parametrize("shape", [(30,), (3, 10, 1, 1), (1, 1, 15, 2), (3, 10), (1, 1, 3, 10)])
def test_what_is_no_matrix_of_hidden_features_is_updated_as_adam_does(shape):
    np.testing.assert_array_equal(
        updated(Muon(RATES[0], l2=0.1), start(), shape), updated(CoupledAdam(RATES[0], l2=0.1), start(), shape)
    )


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (576, 64)])
def test_singular_values_become_about_one(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    result = keras.ops.convert_to_numpy(orthogonalized(keras.ops.convert_to_tensor(matrix)))
    assert result.shape == shape
    values = np.linalg.svd(result, compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_gradient_of_zero_changes_nothing():
    variable = keras.Variable(start())
    rule = Muon(0.02)
    rule.apply([keras.ops.zeros((6, 5))], [variable])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), start())


def test_a_disabled_part_does_not_change():
    variable = keras.Variable(start())
    rule = Muon(0.02, l2=0.1)
    rule.build([variable])
    rule.enabled = False
    rule.apply([keras.ops.ones((6, 5))], [variable])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), start())
    assert int(rule.iterations) == 0


def test_the_matrix_of_a_kernel_has_a_column_for_each_output():
    assert matrix_shape((3, 3, 8, 16)) == (72, 16)
    assert matrix_shape((3, 3, 8, 1)) == (72, 1)
    assert matrix_shape((16,)) == (1, 16)
    assert matrix_shape(()) == (1, 1)


def main():
    import torch

    # PyTorch iterates in bfloat16, whose three digits would hide differences.
    torch.Tensor.bfloat16 = lambda tensor: tensor.clone()
    for l2 in (0.0, 0.1):
        weights = torch.nn.Parameter(torch.from_numpy(start()))
        rule = torch.optim.Muon([weights], weight_decay=l2, adjust_lr_fn="match_rms_adamw")
        for gradient, rate in zip(gradients(), RATES, strict=True):
            rule.param_groups[0]["lr"] = rate
            weights.grad = torch.from_numpy(gradient)
            rule.step()
        print(f"    {l2}: [")
        for row in weights.detach().tolist():
            print(f"        {[float(f'{value:.7g}') for value in row]},")
        print("    ],")


if __name__ == "__main__":
    main()
