"""What the backends of this package add to `rsis_tf.runtime.BasePredictor`."""

import os

import numpy as np

from rsis_tf.images import read_image
from rsis_tf.runtime import BasePredictor, ImageLike


class FilePredictor(BasePredictor):
    """A predictor that reads image files with `rsis_tf.images`, which refuses what 8-bit RGB cannot show."""

    def read(self, image: ImageLike) -> np.ndarray:
        """Returns an image as (H, W, 3) uint8; a path is read by `rsis_tf.images.read_image`."""
        return read_image(os.fspath(image)) if isinstance(image, str | os.PathLike) else super().read(image)
