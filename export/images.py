"""The images that exporters use: to compare a file on, to calibrate a quantiser, and to measure with."""

import pathlib

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import resize_image

Array = np.ndarray
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_images(folder: pathlib.Path, *, recursive: bool = False) -> list[pathlib.Path]:
    """Returns the image files of a folder, sorted by path.

    Args:
        folder: where they lie.
        recursive: whether to include the folders below it.

    Raises:
        InputError: for a path that is not a folder, and for a folder without an image.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of images. Received: {folder}")
    found = folder.rglob("*") if recursive else folder.iterdir()
    paths = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"expected images ({', '.join(IMAGE_SUFFIXES)}). Received: {folder}, which contains none")
    return paths


def synthetic_image(size: tuple[int, int] = (240, 320), seed: int = 0) -> Array:
    """Returns coarse and fine noise with five bright discs: an (H, W, 3) uint8 array that depends on the seed alone."""
    rng = np.random.default_rng(seed)
    coarse = resize_image(rng.integers(40, 160, (6, 8, 3), np.uint8), size).astype(np.float32)
    image = coarse + rng.normal(0, 8, (*size, 1))
    y, x = np.mgrid[: size[0], : size[1]]
    for _ in range(5):
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.15) * min(size)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[disc] = 0.3 * image[disc] + rng.uniform(100, 180, 3)
    return image.clip(0, 255).astype(np.uint8)
