"""An image with all objects drawn over it, numbered in the order in which the model found them."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.runtime import MOST_NUMBERED, CroppedMask, check_image, paint
from rsis_tf.visualization import drawing, fonts

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

Point = tuple[float, float]
_SMALLEST = 512
"""Images with a longer side below this are enlarged by a whole factor, so that the numbers are legible."""


def overlay(
    image: np.ndarray,
    instances: "Sequence[Instance]",
    *,
    legend: bool = True,
    route: bool = False,
    numbers: bool = True,
) -> np.ndarray:
    """Draws the objects over the image; more than 60 of them without numbers and legend, which would hide them.

    Colours and numbers show the order. Where masks overlap, the pixel has the tint of the earliest object; every
    outline is drawn completely.

    Args:
        image: (H, W, 3) uint8.
        instances: in predicted order, masks (H, W) bool.
        legend: add a column with number, class and score of each object.
        route: draw a line through the centres of the objects in predicted order (paper, figures 5 and 6).
        numbers: write the number of its step, from 1, at the centre of each object.

    Returns:
        (H', W', 3) uint8; small images are enlarged, large ones keep their size.

    Raises:
        InputError: if the image is not (H, W, 3) uint8.
    """
    height, width = check_image(image).shape[:2]
    scale = math.ceil(_SMALLEST / max(height, width))
    size = height * scale, width * scale
    many = len(instances) > MOST_NUMBERED
    line = 2 if many else max(2, round(max(size) / 350))
    letters = max(13, round(math.sqrt(size[0] * size[1]) / 40))
    masks = [drawing.resize_mask(instance.cropped, size) for instance in instances]
    tinted = drawing.resize(image, size).copy()
    draw_masks(tinted, masks, [drawing.colour(i.step) for i in instances], line)

    canvas = Image.fromarray(tinted)
    points = [drawing.centre(mask) for mask in masks]
    if route:
        _draw_route(canvas, [point for point in points if point], line)
    if numbers and not many:
        draw = ImageDraw.Draw(canvas)
        for instance, mask, point in zip(instances, masks, points, strict=True):
            if point:
                fitting = min(letters, max(0.85 * letters, 0.4 * math.sqrt(mask.area)))
                at = _beside(mask, point, fitting)
                drawing.tag(draw, at, str(instance.step + 1), drawing.colour(instance.step), fitting)
    if legend and not many:
        canvas = _with_legend(canvas, instances, letters)
    return np.asarray(canvas)


def _beside(mask: CroppedMask, point: tuple[float, float], letters: float) -> tuple[float, float]:
    """Moves the number of a small object above it, or below it at the upper edge, so that the object stays visible."""
    if mask.area > (2.2 * letters) ** 2:
        return point
    _, top, _, bottom = mask.box
    above = top - letters
    return point[0], float(above if above > letters else bottom - 1 + letters)


def shown_name(instance: "Instance") -> str:
    """Returns the name of the class, or its number if no installed font has the characters of the name."""
    return fonts.drawable(instance.class_name, f"class {instance.class_id}")


def draw_masks(image: np.ndarray, masks: Sequence[CroppedMask], colours: Sequence[drawing.Colour], line: int) -> None:
    """Tints and outlines masks of the image's size, in place; shared pixels have the tint of the earlier mask."""
    taken = np.zeros(image.shape[:2], bool)
    for mask, tint in zip(masks, colours, strict=True):
        claimed = taken[mask.window]
        paint(image[mask.window], mask.crop & ~claimed, tint, 0.4)
        claimed |= mask.crop
    for mask, tint in reversed(list(zip(masks, colours, strict=True))):
        drawing.outline(image, mask, tint, line)


def _draw_route(canvas: Image.Image, points: Sequence[tuple[float, float]], line: int) -> None:
    """Draws a line with an arrowhead on each segment and a ring at its start; drawn at twice the size to smooth it."""
    if not points:
        return
    twice = 2
    layer = Image.new("L", (canvas.width * twice, canvas.height * twice))
    dark = layer.copy()
    for target, width in ((dark, (line + 3) * twice), (layer, max(2, line) * twice)):
        draw = ImageDraw.Draw(target)
        path = [((x + 0.5) * twice, (y + 0.5) * twice) for x, y in points]
        if len(path) > 1:
            draw.line(path, fill=255, width=width, joint="curve")
        extra = (width - max(2, line) * twice) / 2
        for start, end in itertools.pairwise(path):
            _arrowhead(draw, start, end, line * 3.2 * twice, extra)
        x, y = path[0]
        radius = 6 * line * twice
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=width)
    for target, shade in ((dark, drawing.HALO), (layer, drawing.PAPER)):
        canvas.paste(shade, (0, 0), target.resize(canvas.size, Image.Resampling.BOX))


def _arrowhead(draw: ImageDraw.ImageDraw, start: Point, end: Point, size: float, extra: float) -> None:
    along = np.array(end) - np.array(start)
    length = math.hypot(*along)
    if length < 4 * size:
        return
    along = along / length
    across = np.array([-along[1], along[0]])
    tip = np.array(start) + along * (length / 2 + size / 2 + extra * 1.5)
    back = np.array(start) + along * (length / 2 - size / 2 - extra)
    wing = across * (size / 2 + extra * 1.5)
    draw.polygon([tuple(tip), tuple(back + wing), tuple(back - wing)], fill=255)


def _with_legend(canvas: Image.Image, instances: "Sequence[Instance]", letters: int) -> Image.Image:
    """Adds as many columns on the right as the height requires."""
    gap = round(letters * 0.8)
    # Rows are set closer together rather than moved to another column.
    shared = (canvas.height - 2 * gap) / max(1, len(instances))
    row = round(min(1.75 * letters, shared)) if shared >= 1.4 * letters else round(1.75 * letters)
    if not instances:
        names, scores = ["no object found"], [""]
    else:
        names = [shown_name(instance) for instance in instances]
        scores = [f"{instance.score:.2f}" for instance in instances]
    rows = max(1, (canvas.height - 2 * gap) // row)
    name_width = max(fonts.length(name, letters) for name in names)
    digits = drawing.font(letters)
    swatch = round(letters * 2)
    column = round(swatch + gap + name_width + gap + digits.getlength("0.00") + 2 * gap)
    columns = math.ceil(len(names) / rows)
    result = Image.new("RGB", (canvas.width + column * columns, canvas.height), drawing.PAPER)
    result.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(result)
    for i, (name, score) in enumerate(zip(names, scores, strict=True)):
        left = canvas.width + gap + column * (i // rows)
        middle = gap + row * (i % rows) + row / 2
        if instances:
            step = instances[i].step
            drawing.tag(draw, (left + swatch / 2, middle), str(step + 1), drawing.colour(step), letters * 0.95)
        fonts.write(draw, (left + swatch + gap * 0.7, middle), name, letters, fill=drawing.INK, anchor="lm")
        right = left + column - 2 * gap
        draw.text((right, middle), score, fill=drawing.INK, font=digits, anchor="rm")
    return result
