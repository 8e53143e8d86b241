"""Activations of an encoder's blocks, and their mean over an object (paper, section 4.7)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rsis_tf.runtime import letterbox, resize_image

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

Activations = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Maps an (H, W, 3) uint8 image to the (h, w, C) activations of each encoder block by name."""


def encoder_activations(model: "RSIS") -> Activations:
    """Returns a function for the activations of a model's encoder, "block 1" (finest) … "block 5"."""
    size, aspect = model.config.image_size, model.config.aspect

    def activations(image: np.ndarray) -> dict[str, np.ndarray]:
        levels = model.encode(resize_image(image, size, aspect)[None], training=False)  # deepest first
        maps = [np.asarray(level, np.float32)[0] for level in levels[::-1]]
        if aspect == "keep":
            maps = [without_padding(values, letterbox(image.shape[:2], size), size) for values in maps]
        return {f"block {number}": values for number, values in enumerate(maps, start=1)}

    return activations


def mean_activation(maps: np.ndarray, mask: np.ndarray) -> float:
    """Returns the mean over channels and over an object; each cell is weighted by the share that the object covers.

    Args:
        maps: (h, w, C) activations.
        mask: (H, W) bool, with at least one pixel.
    """
    height, width = maps.shape[:2]
    cover = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    weights = np.asarray(cover, np.float64)  # (h, w)
    # Shares first, so that objects in one cell have exactly the same activation.
    return float((maps.mean(axis=2) * (weights / weights.sum())).sum())


def without_padding(maps: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Cuts the part that covers the image out of activations of a padded frame.

    Args:
        maps: (h, w, C) activations of the frame.
        box: (top, left, height, width) of the image in the frame, in pixels.
        size: (H, W) of the frame.

    Returns:
        The cells that the image covers, entirely or in part.
    """
    slices = []
    for start, length, whole, cells in zip(box[:2], box[2:], size, maps.shape[:2], strict=True):
        slices.append(slice(start * cells // whole, -(-(start + length) * cells // whole)))
    return maps[tuple(slices)]
