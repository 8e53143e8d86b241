"""Finds the images that exporters compare on, calibrate with, and measure with."""

import pathlib

from rsis_tf.errors import InputError
from rsis_tf.images import list_images


def find_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image files of a folder and of the folders below it, sorted by path.

    Args:
        folder: to search.

    Raises:
        InputError: for a path that is not a folder, and if there is no image.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of images. Received: {folder}")
    paths = list_images(folder, recursive=True)
    if not paths:
        raise InputError(f"expected a folder of images. Received: {folder}, which contains none")
    return paths
