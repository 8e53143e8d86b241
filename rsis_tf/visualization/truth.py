"""A contact sheet of a dataset: images with the objects of their annotations."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.errors import InputError
from rsis_tf.runtime import check_image, paint
from rsis_tf.visualization import drawing
from rsis_tf.visualization.overlay import draw_masks

_PANEL = 288
"""Width and height of the space for an image, in pixels."""
_LETTERS = 13
_CAPTION = 22
_GAP = 8
_MOST_TAGS = 12
"""Images with more objects than this get no class names, which would cover the objects."""

Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""label, image (H, W, 3) uint8, label map (H, W) int32 with i = the i-th object and less than 0 = ignored, and
classes (n,) of the objects."""


def truth_sheet(rows: Sequence[Row], class_names: Sequence[str], *, columns: int = 4) -> np.ndarray:
    """Draws every image with its objects in colour, each with the name of its class; ignored regions are hatched.

    Args:
        rows: images with their truth.
        class_names: K names, the first of them "background".
        columns: images side by side.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: if there are no rows, or an image is not (H, W, 3) uint8.
    """
    if not rows:
        raise InputError("expected at least one image. Received: none")
    columns = min(columns, len(rows))
    lines = math.ceil(len(rows) / columns)
    cell = _PANEL + _GAP
    sheet = Image.new("RGB", (columns * cell + _GAP, lines * (cell + _CAPTION) + _GAP), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, row in enumerate(rows):
        left = _GAP + position % columns * cell
        top = _GAP + position // columns * (cell + _CAPTION)
        sheet.paste(_panel(row, class_names), (left, top))
        caption = _fitting(draw, f"{row[0]}: {len(row[3])} objects")
        draw.text(
            (left, top + _PANEL + _CAPTION / 2), caption, fill=drawing.INK, font=drawing.font(_LETTERS), anchor="lm"
        )
    return np.asarray(sheet)


def _panel(row: Row, class_names: Sequence[str]) -> Image.Image:
    """Returns one image, resized without distortion to fit into a panel."""
    _, image, label_map, classes = row
    height, width = check_image(image).shape[:2]
    scale = min(_PANEL / height, _PANEL / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = drawing.resize(image, size).copy()
    masks = [drawing.resize_mask(label_map == number, size) for number in range(1, len(classes) + 1)]
    ignored = drawing.resize_mask(label_map < 0, size).full()
    stripes = (np.add.outer(np.arange(size[0]), np.arange(size[1])) // 4) % 2 == 0  # (h, w)
    paint(small, ignored & stripes, drawing.HALO, 0.6)
    draw_masks(small, masks, [drawing.colour(number) for number in range(len(masks))], 2)
    canvas = Image.fromarray(small)
    if len(class_names) > 2 and len(masks) <= _MOST_TAGS:
        draw = ImageDraw.Draw(canvas)
        for number, (mask, class_id) in enumerate(zip(masks, classes.tolist(), strict=True)):
            point = drawing.centre(mask)
            if point:
                drawing.tag(draw, point, class_names[class_id], drawing.colour(number), _LETTERS)
    return canvas


def _fitting(draw: ImageDraw.ImageDraw, text: str) -> str:
    """Returns the text, or its end if it is too long for a panel."""
    face = drawing.font(_LETTERS)
    if draw.textlength(text, font=face) <= _PANEL:
        return text
    while text and draw.textlength("…" + text, font=face) > _PANEL:
        text = text[1:]
    return "…" + text
