"""Pictures that show a quantiser which values occur."""

import pathlib
import sys

import numpy as np

from export.graph import GraphSpec
from export.verify import PICTURE_SUFFIXES
from rsis_tf.errors import InputError
from rsis_tf.images import read_image
from rsis_tf.runtime import resize_image

ENOUGH = 300
"""Pictures from which the range of activations is usually settled; more are not read."""


def read_inputs(folder: pathlib.Path, spec: GraphSpec, image_size: tuple[int, int]) -> list[np.ndarray]:
    """Reads pictures of a folder and those below it, spread evenly over the sorted list.

    Args:
        folder: with pictures like those the model will see.
        spec: shape of the graph.
        image_size: (height, width) the model was trained at.

    Returns:
        (B, h, w, 3) arrays of the graph's input dtype, at the size the network runs at.

    Raises:
        InputError: for a folder without a picture, or a broken one.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise InputError(f"expected pictures ({', '.join(PICTURE_SUFFIXES)}). Received: {folder} without any")
    if len(paths) < ENOUGH:
        print(f"warning: {len(paths)} pictures to calibrate on, {ENOUGH} or more are better", file=sys.stderr)
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), ENOUGH)).round().astype(int)]
    batch = spec.batch or 1
    inputs = []
    for start in range(0, len(chosen), batch):
        group = [chosen[(start + i) % len(chosen)] for i in range(batch)]
        pictures = [resize_image(read_image(path), spec.size or image_size, spec.aspect) for path in group]
        inputs.append(np.stack(pictures).astype(spec.input_type))  # (B, h, w, 3)
    return inputs
