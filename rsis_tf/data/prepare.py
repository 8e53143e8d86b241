"""One sample at the size of the batches: warped or resized, its objects sorted by area."""

import numpy as np
from PIL import Image

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import (
    Augmentation,
    augmentation_of,
    jitter_colour,
    quarter_turns,
    random_matrix,
    random_part,
)
from rsis_tf.data.labels import keep_largest
from rsis_tf.data.sample import PADDING, Sample
from rsis_tf.data.warp import quarter_turn_matrix, resize_matrix, warp_image, warp_labels
from rsis_tf.runtime import letterbox


def prepare(
    sample: Sample,
    config: DataConfig,
    rng: np.random.Generator | None,
    augmentation: Augmentation | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Resizes a sample to the size of the batches, augmented or not.

    Objects that lose all their pixels are dropped. Of the others, the largest N are kept and the rest become void.

    Args:
        sample: the image at its own size.
        config: `image_size` (h, w), `aspect`, `crop` and `max_objects` N are used.
        rng: source of the random numbers for augmentation and cropping; None for a plain resize of the whole image.
        augmentation: ranges of the random changes; None for those that the configuration names.

    Returns:
        image (h, w, 3) uint8; label map (h, w) int32 with 1 … n by descending area, `VOID` kept, and `PADDING` beside
        an image that keeps its shape; classes (N,) int32 with 0 beyond n; valid (N,) uint8.
    """
    frame = config.image_size
    height, width = sample.label_map.shape
    source = height, width
    cropping = config.transforms.crop and rng is not None
    # The size of the image inside the frame; the rest is padded at the end.
    size = letterbox(source, frame)[2:] if config.aspect == "keep" and not cropping else frame
    if rng is not None:
        augmentation = augmentation or augmentation_of(config)
        part, part_size = random_part(source, frame, rng) if cropping else (np.eye(3), source)
        matrix = part @ random_matrix(part_size, augmentation, rng) @ resize_matrix(part_size, size)
        if augmentation.quarter_turns:
            turns = quarter_turns(frame, rng)
            matrix = matrix @ quarter_turn_matrix(size, turns)
            size = size[::-1] if turns % 2 else size
        image = jitter_colour(warp_image(sample.image, matrix, size, augmentation.border), augmentation, rng)
        label_map = warp_labels(sample.label_map, matrix, size, augmentation.border)
    elif source == size:
        image, label_map = sample.image, sample.label_map
    else:
        image = np.asarray(Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.BILINEAR))
        label_map = np.array(Image.fromarray(sample.label_map).resize(size[::-1], Image.Resampling.NEAREST))
    label_map, classes, valid = keep_largest(label_map, sample.classes, max_objects=config.max_objects)
    return _padded(image, frame, 0), _padded(label_map, frame, PADDING), classes, valid


def _padded(pixels: np.ndarray, frame: tuple[int, int], value: int) -> np.ndarray:
    """Pads (h, w, …) pixels to the size of a frame, with the pixels in the middle, where `letterbox` puts them."""
    if pixels.shape[:2] == frame:
        return pixels
    top, left = ((whole - part) // 2 for whole, part in zip(frame, pixels.shape, strict=False))
    padded = np.full((*frame, *pixels.shape[2:]), value, pixels.dtype)
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return padded
