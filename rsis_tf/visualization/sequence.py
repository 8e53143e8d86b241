"""The sequence step by step: a strip of panels, a sheet of several strips, an animation."""

import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.errors import InputError
from rsis_tf.files import replacing
from rsis_tf.runtime import CroppedMask, check_image, paint
from rsis_tf.visualization import drawing, fonts
from rsis_tf.visualization.overlay import draw_masks, shown_name

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

_PANEL = 216
"""A panel has the area of a square with this side."""
_LETTERS = 14
_CAPTION = 22
_GAP = 8
_MOST_STEPS = 100
"""Panels of a strip and frames of an animation that show single steps; a slide has thousands of objects."""
_FRAME = 640
"""Largest longer side of an animation; the smallest is half of it."""


def sequence_strip(
    image: np.ndarray, instances: "Sequence[Instance]", truth: np.ndarray | None = None, *, columns: int = 8
) -> np.ndarray:
    """Draws a row of panels: the image, the mask of each step, all masks together, and the ground truth.

    Of more than a hundred steps, the first hundred have a panel.

    An object of the ground truth has the colour of the step that found it (IoU of at least one half), or is white.

    Args:
        image: (H, W, 3) uint8, of any size; all panels have the same area.
        instances: in predicted order, masks (H, W) bool.
        truth: (H, W) label map, 0 or less = no object; None to leave out this panel.
        columns: panels in a row; the others follow below.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: if the image is not (H, W, 3) uint8.
    """
    height, width = check_image(image).shape[:2]
    scale = _PANEL / math.sqrt(height * width)
    size = max(24, round(height * scale)), max(24, round(width * scale))
    small = drawing.resize(image, size)
    masks = [drawing.resize_mask(instance.cropped, size) for instance in instances]
    panels = [(small, "image")]
    for instance, mask in itertools.islice(zip(instances, masks, strict=True), _MOST_STEPS):
        caption = f"{instance.step + 1}  {shown_name(instance)}  {instance.score:.2f}"
        panels.append((_pointed_out(_highlighted(small, mask, drawing.colour(instance.step)), mask), caption))
    together = small.copy()
    draw_masks(together, masks, [drawing.colour(instance.step) for instance in instances], 2)
    shown = f", {_MOST_STEPS} shown" if len(instances) > _MOST_STEPS else ""
    panels.append((together, f"found: {len(instances)}{shown}"))
    if truth is not None:
        objects = [truth == label for label in np.unique(truth) if label > 0]
        tints = [_finder(mask, instances) for mask in objects]
        true = small.copy()
        draw_masks(true, [drawing.resize_mask(mask, size) for mask in objects], [t or drawing.PAPER for t in tints], 2)
        missed = tints.count(None)
        panels.append((true, f"truth: {len(objects)}" + (f", {missed} missed" if missed else "")))
    return panel_grid(panels, columns=columns)


def sequences_sheet(rows: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Stacks strips into one image, each under its label.

    Args:
        rows: (label, (H, W, 3) uint8) pairs.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: if there are no rows.
    """
    if not rows:
        raise InputError("expected at least one strip. Received: none")
    rows = [(fonts.drawable(label, label.encode("ascii", "replace").decode()), strip) for label, strip in rows]
    letters = _LETTERS + 3
    head = _LETTERS + 22
    widths = [math.ceil(fonts.length(label, letters)) + 4 * _GAP for label, _ in rows]
    width = max(*widths, *(strip.shape[1] for _, strip in rows))
    sheet = Image.new("RGB", (width, sum(strip.shape[0] + head for _, strip in rows) + _GAP), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for label, strip in rows:
        fonts.write(draw, (_GAP, top + head - 4), label, letters, fill=drawing.INK, anchor="ls")
        sheet.paste(Image.fromarray(check_image(strip)), (0, top + head))
        top += head + strip.shape[0]
    return np.asarray(sheet)


def animation(
    path: str | pathlib.Path,
    image: np.ndarray,
    instances: "Sequence[Instance]",
    *,
    seconds_per_step: float = 0.7,
) -> None:
    """Writes the sequence as a repeating GIF or WebP: each frame adds an object, the last frame stays longer.

    With more than a hundred objects, each frame adds several, so that there are a hundred frames at most.

    Args:
        path: ends in .gif or .webp.
        image: (H, W, 3) uint8.
        instances: in predicted order, masks (H, W) bool.
        seconds_per_step: duration of a frame.

    Raises:
        InputError: for another suffix, or an image that is not (H, W, 3) uint8.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".gif", ".webp"):
        raise InputError(f"expected a name that ends in .gif or .webp. Received: {path}")
    height, width = check_image(image).shape[:2]
    longer = max(height, width)
    scale = min(_FRAME / longer, 1.0) if longer >= _FRAME / 2 else math.ceil(_FRAME / 2 / longer)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = drawing.resize(image, size)
    masks = [drawing.resize_mask(instance.cropped, size) for instance in instances]
    colours = [drawing.colour(instance.step) for instance in instances]
    frames = [_captioned(small, "image")]
    found = np.zeros(size, bool)
    at_once = max(1, math.ceil(len(instances) / _MOST_STEPS))
    for first in range(0, len(instances), at_once):
        newest = instances[first : first + at_once]
        count = first + len(newest)
        for mask in masks[first:count]:
            found[mask.window] |= mask.crop
        frame = _highlighted(small, CroppedMask.of(found), None)
        draw_masks(frame, masks[:count], colours[:count], 2)
        last = newest[-1]
        if len(newest) == 1:
            frames.append(_captioned(frame, f"{last.step + 1}  {shown_name(last)}  {last.score:.2f}", last.step))
        else:
            frames.append(_captioned(frame, f"{newest[0].step + 1} to {last.step + 1}", last.step))
    final = small.copy()
    draw_masks(final, masks, colours, 2)
    frames.append(_captioned(final, f"found: {len(instances)}"))
    pace = max(20, round(1000 * seconds_per_step))
    with replacing(path) as partial:
        frames[0].save(
            partial,
            save_all=True,
            append_images=frames[1:],
            duration=[pace] * (len(frames) - 1) + [3 * pace],
            loop=0,
        )


def _highlighted(image: np.ndarray, mask: CroppedMask, tint: drawing.Colour | None) -> np.ndarray:
    """Returns the image in dark grey, except for the mask, which keeps its colours and gets a tinted outline."""
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)  # (H, W)
    result = np.repeat((grey * 0.45 + 18)[..., None], 3, axis=2).astype(np.uint8)
    result[mask.window][mask.crop] = image[mask.window][mask.crop]
    if tint is not None:
        paint(result[mask.window], mask.crop, tint, 0.3)
        drawing.outline(result, mask, tint, 2)
    return result


def _pointed_out(panel: np.ndarray, mask: CroppedMask) -> np.ndarray:
    """Draws a ring around an object that is easily overlooked."""
    point = drawing.centre(mask)
    radius = _PANEL * 0.07
    if point is None or mask.area > radius**2:
        return panel
    canvas = Image.fromarray(panel)
    x, y = point
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), outline=drawing.PAPER, width=1)
    return np.asarray(canvas)


def _finder(mask: np.ndarray, instances: "Sequence[Instance]") -> drawing.Colour | None:
    """Returns the colour of the first prediction that matches an object, None if no prediction does."""
    area = np.count_nonzero(mask)
    for instance in instances:
        found = instance.cropped
        shared = np.count_nonzero(mask[found.window] & found.crop)
        if 2 * shared >= area + found.area - shared:
            return drawing.colour(instance.step)
    return None


def panel_grid(panels: Sequence[tuple[np.ndarray, str]], *, columns: int = 8) -> np.ndarray:
    """Arranges images in rows, each above its caption.

    Args:
        panels: ((H, W, 3) uint8, caption) pairs, all images of the size of the first.
        columns: panels in a row; the others follow below.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: if there are no panels, or they differ in size.
    """
    if len(sizes := {check_image(panel).shape for panel, _ in panels}) != 1:
        raise InputError(f"expected panels of one size. Received: {sorted(sizes)}")
    columns = max(1, min(columns, len(panels)))
    height, width = panels[0][0].shape[:2]
    rows = math.ceil(len(panels) / columns)
    canvas = Image.new(
        "RGB", (_GAP + columns * (width + _GAP), _GAP + rows * (height + _CAPTION + _GAP)), drawing.PAPER
    )
    draw = ImageDraw.Draw(canvas)
    for i, (panel, caption) in enumerate(panels):
        left = _GAP + (i % columns) * (width + _GAP)
        top = _GAP + (i // columns) * (height + _CAPTION + _GAP)
        canvas.paste(Image.fromarray(panel), (left, top))
        _fitted(draw, (left, top + height + _CAPTION / 2), caption, width)
    return np.asarray(canvas)


def _fitted(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, width: float) -> None:
    """Writes a line of text: in smaller letters if it is too wide, shortened if that is not enough."""
    size = _LETTERS
    while size > 10 and fonts.length(text, size) > width:
        size -= 1
    whole = text
    while text and fonts.length(text, size) > width:
        text = f"{whole[: len(text) - 2]}…"
    fonts.write(draw, at, text, size, fill=drawing.INK, anchor="lm")


def _captioned(frame: np.ndarray, caption: str, step: int | None = None) -> Image.Image:
    height, width = frame.shape[:2]
    letters = max(13, min(22, width // 18))
    canvas = Image.new("RGB", (width, height + 2 * letters), drawing.PAPER)
    canvas.paste(Image.fromarray(frame), (0, 0))
    draw = ImageDraw.Draw(canvas)
    left = letters / 2
    if step is not None:
        draw.rectangle((left, height + letters / 2, left + letters, height + letters * 1.5), fill=drawing.colour(step))
        left += 1.5 * letters
    fonts.write(draw, (left, height + letters), caption, letters, fill=drawing.INK, anchor="lm")
    return canvas
