"""A frame of a video with its objects, whose colours and numbers stay the same from frame to frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.visualization import drawing, fonts
from rsis_tf.visualization.overlay import overlay

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


def tracked_frame(image: np.ndarray, instances: "Sequence[Instance]", caption: str) -> np.ndarray:
    """Draws the objects over a frame, and a line of text below it.

    Args:
        image: (H, W, 3) uint8.
        instances: objects whose step is their identity minus 1; masks (H, W) bool.
        caption: the text.

    Returns:
        (H', W', 3) uint8; frames of one size give images of one size.

    Raises:
        InputError: if the image is not (H, W, 3) uint8.
    """
    frame = overlay(image, instances, legend=False)
    height, width = frame.shape[:2]
    letters = max(12, min(28, width // 32))
    canvas = Image.new("RGB", (width, height + 2 * letters), drawing.PAPER)
    canvas.paste(Image.fromarray(frame), (0, 0))
    at = letters / 2, height + letters
    fonts.write(ImageDraw.Draw(canvas), at, caption, letters, fill=drawing.INK, anchor="lm")
    return np.asarray(canvas)
