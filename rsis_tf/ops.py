"""Array operations for the model and the losses, in `keras.ops`, for every Keras backend."""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


def spatial_size(x: Tensor) -> tuple[Any, Any]:
    """Returns (height, width) of a (B, H, W, …) tensor: integers where they are known, otherwise scalar tensors."""
    height, width = ops.shape(x)[1:3]
    return height, width


def resize(x: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Resizes bilinearly with the corners of input and output aligned.

    Output pixel i samples the input at i·(n_in − 1)/(n_out − 1), as `align_corners=True` does in PyTorch.

    Args:
        x: (B, h, w, C), float.
        size: (height, width) of the result, integers or scalar integer tensors.

    Returns:
        (B, height, width, C) of x's dtype.
    """
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    if keras.backend.backend() == "tensorflow":
        # One operation that ONNX, TFLite and XLA support. keras.ops.image.resize cannot align corners.
        import tensorflow as tf

        if None in x.shape[1:3]:
            size = tf.stack(size)
        return tf.cast(tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True), x.dtype)
    rows = ops.cast(_interpolation_matrix(x.shape[1], size[0]), x.dtype)  # (height, h)
    columns = ops.cast(_interpolation_matrix(x.shape[2], size[1]), x.dtype)  # (width, w)
    x = ops.einsum("Hh,bhwc->bHwc", rows, x)
    return ops.einsum("Ww,bHwc->bHWc", columns, x)


def _interpolation_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Returns the (n_out, n_in) float32 weights of aligned linear interpolation."""
    position = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    low = np.minimum(np.floor(position).astype(int), n_in - 1)
    high = np.minimum(low + 1, n_in - 1)
    weight = position - low
    matrix = np.zeros((n_out, n_in))
    np.add.at(matrix, (np.arange(n_out), low), 1 - weight)
    np.add.at(matrix, (np.arange(n_out), high), weight)
    return matrix.astype("float32")


def pairwise_product(masks: Tensor, maps: Tensor) -> Tensor:
    """Returns the sum over pixels of masks·maps for every pair, as one batched matrix product.

    Args:
        masks: (B, N, H, W).
        maps: (B, T, H, W).

    Returns:
        (B, N, T).
    """
    return ops.matmul(flatten_pixels(masks), ops.transpose(flatten_pixels(maps), (0, 2, 1)))


def pairwise_soft_iou(masks: Tensor, mask_probs: Tensor) -> Tensor:
    """Returns the soft intersection over union of every true and every predicted mask (paper, equation 1).

    Args:
        masks: (B, N, H, W) float, 0 or 1.
        mask_probs: (B, T, H, W) float in [0, 1].

    Returns:
        (B, N, T): Σpq / (Σp + Σq − Σpq + 1e-6).
    """
    intersection = pairwise_product(masks, mask_probs)
    area = ops.sum(masks, axis=(2, 3))[:, :, None] + ops.sum(mask_probs, axis=(2, 3))[:, None, :]
    return intersection / (area - intersection + 1e-6)


def flatten_pixels(maps: Tensor) -> Tensor:
    """Returns (B, N, H·W) from (B, N, H, W)."""
    batch, count, height, width = ops.shape(maps)
    return ops.reshape(maps, (batch, count, height * width))  # (B, N, H·W)
