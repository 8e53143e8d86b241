"""A map of numbers as an image: what a network computes on the way to its masks."""

import numpy as np
from PIL import Image

from rsis_tf.errors import InputError

_SIDE = 216
"""Longer side of the drawing, in pixels, unless the caller names a size: that of a panel of `sequence_strip`."""


def heat_map(
    values: np.ndarray, *, low: float | None = None, high: float | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Draws a map of numbers, dark for low and bright for high values (Matplotlib's "viridis").

    The cells of a map that is smaller than the drawing stay visible as rectangles of one colour.

    Args:
        values: (h, w), any numbers; those below `low` or above `high` have the colour of the limit.
        low, high: values of the darkest and the brightest colour; None for the smallest and the largest of the map.
        size: (height, width) of the drawing; None for a longer side of 216 pixels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: if the map has another number of axes, no cells, or values that are not finite.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise InputError(f"a map must be (h, w) with finite numbers. Received: {values.dtype} of shape {values.shape}")
    import matplotlib

    low, high = float(values.min() if low is None else low), float(values.max() if high is None else high)
    share = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)  # (h, w) in 0..1
    colours = matplotlib.colormaps["viridis"](share, bytes=True)[..., :3]  # (h, w, 3) uint8
    if size is None:
        scale = _SIDE / max(values.shape)
        size = max(1, round(values.shape[0] * scale)), max(1, round(values.shape[1] * scale))
    drawn = Image.fromarray(np.ascontiguousarray(colours)).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(drawn)
