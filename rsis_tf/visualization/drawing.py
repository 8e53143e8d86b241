"""What all drawings share: colours, outlines, tags, resizing and writing of image files."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.errors import InputError
from rsis_tf.files import replacing
from rsis_tf.runtime import PALETTE, CroppedMask, check_image, paint, text_colour
from rsis_tf.visualization.fonts import font

Colour = tuple[int, int, int]

INK, PAPER, HALO = (25, 28, 33), (255, 255, 255), (12, 12, 14)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def colour(step: int) -> Colour:
    """Returns the colour of the object found at a step, from 0; the colours repeat after twenty."""
    return PALETTE[step % len(PALETTE)]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an (H, W, 3) uint8 image to (height, width)."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def resize_mask(mask: np.ndarray | CroppedMask, size: tuple[int, int]) -> CroppedMask:
    """Resizes an (H, W) bool mask to (height, width) with smooth outlines; no object vanishes.

    Only the crop and its surroundings are computed: a slide has thousands of objects.
    """
    if not isinstance(mask, CroppedMask):
        mask = CroppedMask.of(mask)
    if mask.size == tuple(size) or mask.area == 0:
        return CroppedMask(crop=mask.crop, corner=mask.corner, size=size)
    factor = size[0] // mask.size[0]
    if (factor * mask.size[0], factor * mask.size[1]) != tuple(size):
        return _resized_part(mask, size)
    wide = mask.widened(3)  # more than the filter reaches
    height, width = wide.crop.shape
    corner = factor * wide.corner[0], factor * wide.corner[1]
    return CroppedMask(crop=_resized(wide.crop, (factor * height, factor * width)), corner=corner, size=size).trimmed()


def _resized_part(mask: CroppedMask, size: tuple[int, int]) -> CroppedMask:
    """Resizes a mask by factors that are not whole, and only the pixels that the crop reaches."""
    down, across = mask.size[0] / size[0], mask.size[1] / size[1]
    wide = mask.widened(7 * math.ceil(max(down, across, 1)))  # twice what the filter reaches, and some pixels
    x0, y0, x1, y1 = wide.box
    left, right = _whole_pixels(x0, x1, mask.size[1], size[1])
    top, bottom = _whole_pixels(y0, y1, mask.size[0], size[0])
    box = left * across - x0, top * down - y0, min(right * across, x1) - x0, min(bottom * down, y1) - y0
    smaller = size[0] < mask.size[0]
    crop = _resized(wide.crop, (bottom - top, right - left), smaller=smaller, box=box)
    return CroppedMask(crop=crop, corner=(left, top), size=size).trimmed()


def _whole_pixels(low: int, high: int, before: int, after: int) -> tuple[int, int]:
    """Returns first and end of the pixels of a resized axis that the filter computes from low … high − 1 alone.

    Args:
        low: first of the pixels that are known.
        high: end of these pixels.
        before: pixels of the axis.
        after: pixels of the axis after resizing.
    """
    scale = before / after
    reach = 2 * max(scale, 1.0)  # of the bicubic filter; the others reach less far
    return (
        0 if low == 0 else math.ceil((low + reach) / scale),
        after if high == before else math.floor((high - reach) / scale),
    )


def _resized(
    mask: np.ndarray,
    size: tuple[int, int],
    *,
    smaller: bool = False,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Resizes a mask, or the part of it in a box (x0, y0, x1, y1)."""
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], method, box))
    return cover >= min(128, max(1, int(cover.max())))


def outline(image: np.ndarray, mask: CroppedMask, tint: Colour, width: int) -> None:
    """Draws the border of a mask inside it, in place, and a dark line around it that stands out on any background."""
    if mask.area == 0:
        return
    halo = max(1, width // 2)
    wide = mask.widened(halo + 1)
    part, window = wide.crop, image[wide.window]
    paint(window, _dilated(part, halo) & ~part, HALO, 0.55)
    paint(window, part & _dilated(~part, width, outside=True), tint, 1.0)


def centre(mask: CroppedMask) -> tuple[float, float] | None:
    """Returns (x, y) of the mask's pixel nearest to its centre of mass, None if it is empty."""
    rows, columns = np.nonzero(mask.crop)
    if len(rows) == 0:
        return None
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(mask.corner[0] + columns[nearest]), float(mask.corner[1] + rows[nearest])


def tag(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, tint: Colour, size: float) -> None:
    """Writes a short text in a rounded, coloured box around a point, moved so that it lies inside the image."""
    face = font(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=face, anchor="mm")
    pad = max(2.0, size * 0.22)
    half_width, half_height = max(right - left, bottom - top) / 2 + pad, (bottom - top) / 2 + pad
    x = _between(at[0], half_width, draw.im.size[0] - half_width)
    y = _between(at[1], half_height, draw.im.size[1] - half_height)
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    draw.rounded_rectangle(box, radius=half_height * 0.5, fill=tint, outline=HALO, width=max(1, round(size / 14)))
    draw.text((x - (left + right) / 2, y - (top + bottom) / 2), text, fill=text_colour(tint), font=face, anchor="mm")


def check_image_name(path: str | pathlib.Path, suffixes: Sequence[str] = _SUFFIXES) -> None:
    """Checks that the suffix of a path is one of those of the formats that an image can be written in.

    Raises:
        InputError: if it is not.
    """
    if pathlib.Path(path).suffix.lower() not in suffixes:
        raise InputError(f"expected a name that ends in {', '.join(suffixes)}. Received: {path}")


def write_image(path: str | pathlib.Path, image: np.ndarray) -> None:
    """Writes an image in the format that the suffix names; the file gets its name when it is complete.

    Args:
        path: ends in .png, .jpg or .webp; for label maps in .png.
        image: (H, W, 3) uint8, or a label map (H, W), uint8 or uint16.

    Raises:
        InputError: for another suffix or array.
    """
    path = pathlib.Path(path)
    is_map = isinstance(image, np.ndarray) and image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
    check_image_name(path, (".png",) if is_map else _SUFFIXES)
    with replacing(path) as partial:
        # Level 3 takes a third of the time of Pillow's default for a file that is an eighth larger (an overlay).
        options: dict[str, Any] = {"compress_level": 3} if path.suffix.lower() == ".png" and not is_map else {}
        Image.fromarray(image if is_map else check_image(image)).save(partial, **options)


def _dilated(mask: np.ndarray, radius: int, *, outside: bool = False) -> np.ndarray:
    """Dilates a mask by a square of a radius; `outside` is the value beyond the edges."""
    dilated = np.pad(mask, radius, constant_values=outside)
    for axis in (0, 1):
        wide = dilated.copy()
        for shift in range(1, radius + 1):
            wide |= _shifted(dilated, shift, axis, outside) | _shifted(dilated, -shift, axis, outside)
        dilated = wide
    return dilated[radius:-radius, radius:-radius]


def _shifted(mask: np.ndarray, shift: int, axis: int, fill: bool) -> np.ndarray:
    moved = np.roll(mask, shift, axis)
    edge = [slice(None), slice(None)]
    edge[axis] = slice(None, shift) if shift > 0 else slice(shift, None)
    moved[tuple(edge)] = fill
    return moved


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(value, high)) if low <= high else (low + high) / 2
