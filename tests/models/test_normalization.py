"""Batch normalisation follows PyTorch's rule: biased variance in the output, unbiased variance in the statistics."""

import numpy as np
import pytest
from keras import ops

from rsis_tf.models.normalization import BatchNorm


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 2, 5), (1, 1, 1, 5)])
def test_outputs_and_statistics(shape):
    x = np.random.default_rng(0).normal(3.0, 2.0, shape).astype(np.float32)
    layer = BatchNorm()
    layer.build((None, None, None, 5))
    layer.gamma.assign(np.full(5, 2.0))
    layer.beta.assign(np.full(5, 0.5))
    found = ops.convert_to_numpy(layer(x, training=True))
    flat = x.reshape(-1, 5).astype(np.float64)  # (B·h·w, C)
    mean, variance, count = flat.mean(axis=0), flat.var(axis=0), len(flat)
    expected = 2 * (x - mean) / np.sqrt(variance + 1e-5) + 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5 if count > 1 else 2e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), 0.1 * mean, rtol=1e-5)
    unbiased = variance * count / max(count - 1, 1)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_variance), 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_statistics_are_float32_in_every_precision():
    x = np.random.default_rng(0).normal(3.0, 1.0, (2, 8, 8, 3)).astype(np.float32)
    layer = BatchNorm(dtype="mixed_bfloat16")
    layer.build((None, None, None, 3))
    layer(ops.cast(x, "bfloat16"), training=True)
    expected = 0.1 * x.mean(axis=(0, 1, 2))
    # Rounding the input to 16 bits changes the mean of 128 values by 3e-5, rounding the mean itself by up to 6e-4.
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), expected, atol=2e-4)
