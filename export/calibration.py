"""What quantisers with calibration share: images, from which they take ranges, and what stays in float32."""

import pathlib
import sys

import numpy as np

from export.graph import GraphSpec
from export.images import find_images
from rsis_tf.images import read_image
from rsis_tf.runtime import resize_image

ENOUGH = 300
"""Number of images from which the ranges of activations hardly change any more."""


PREDICTION_CHANNELS = 8
"""Convolutions with fewer output channels stay in float32. They predict logits and coordinates (votes, radii, pointing,
masks), for which 256 values are too few, and cost little."""


def read_inputs(
    folder: pathlib.Path, spec: GraphSpec, image_size: tuple[int, int], *, limit: int = ENOUGH
) -> list[np.ndarray]:
    """Reads images of a folder and of the folders below it, evenly spread over the sorted list.

    Args:
        folder: with images like those to be predicted.
        spec: shape of the graph.
        image_size: (height, width) at which the model was trained.
        limit: number of images to read at most.

    Returns:
        (B, h, w, 3) arrays of the dtype of the graph's input, at the size at which the network runs.

    Raises:
        InputError: for a folder without images, or an image that cannot be read.
    """
    paths = find_images(folder)
    count = min(len(paths), limit)
    if count < ENOUGH:
        print(f"warning: {count} images to calibrate on, {ENOUGH} or more are better", file=sys.stderr)
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    batch = spec.batch or 1
    inputs = []
    for start in range(0, len(chosen), batch):
        group = [chosen[(start + i) % len(chosen)] for i in range(batch)]
        images = [resize_image(read_image(path), spec.size or image_size, spec.aspect) for path in group]
        inputs.append(np.stack(images).astype(spec.input_type))  # (B, h, w, 3)
    return inputs
