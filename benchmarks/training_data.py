"""Images and objects for measuring a training step: blocks of random labels, made from a seed alone."""

import numpy as np


def training_batch(*, batch: int, objects: int, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns images (B, H, W, 3) uint8 and targets: `masks` (B, N, H, W), `classes` and `valid` (B, N)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    label_maps = np.kron(rng.integers(0, objects + 1, (batch, 16, 16)), np.ones([size // 16] * 2, np.int64))
    masks = label_maps[:, None] == np.arange(1, objects + 1)[None, :, None, None]  # (B, N, H, W)
    return images, {
        "masks": masks.astype(np.uint8),
        "classes": np.ones((batch, objects), np.int32),
        "valid": np.ones((batch, objects), np.uint8),
    }
