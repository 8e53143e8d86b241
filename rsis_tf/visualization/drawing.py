"""What all pictures share: colours, outlines, number tags, scaling and safe writing."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.errors import InputError
from rsis_tf.visualization.fonts import font

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (0x00, 0x77, 0xAA),
    (0xEE, 0x99, 0x00),
    (0x55, 0xBB, 0xEE),
    (0xDD, 0x66, 0x00),
    (0x00, 0x99, 0x77),
    (0xEE, 0xDD, 0x44),
    (0xCC, 0x77, 0xAA),
    (0x99, 0x00, 0xFF),
    (0xBB, 0x44, 0x22),
    (0x77, 0xDD, 0xFF),
    (0x66, 0x11, 0xAA),
    (0x99, 0xCC, 0x88),
    (0xDD, 0x00, 0xBB),
    (0x99, 0x00, 0x00),
    (0xBB, 0xEE, 0x99),
    (0x77, 0x33, 0x66),
    (0x77, 0xAA, 0x66),
    (0x99, 0xFF, 0xDD),
    (0x99, 0x44, 0x55),
    (0x99, 0x77, 0xEE),
)
"""Twenty colours: the seven of Okabe and Ito, then the others, chosen to be far from all of them.

No two that follow each other are close. Distance was taken in OKLab as the smallest over normal sight, protanopia,
deuteranopia and tritanopia (simulated after Machado, Oliveira and Fernandes, 2009). Numbers stand beside colours in
every picture, so none is told by colour alone.
"""

INK, PAPER, HALO = (25, 28, 33), (255, 255, 255), (12, 12, 14)


def colour(step: int) -> Colour:
    """Returns the colour of the object found at a step, from 0; they repeat after twenty."""
    return PALETTE[step % len(PALETTE)]


def text_colour(background: Colour) -> Colour:
    """Returns black or white, whichever stands out more from a background."""
    red, green, blue = background
    return HALO if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def checked(image: np.ndarray) -> np.ndarray:
    """Returns an (H, W, 3) uint8 picture as it is, and refuses anything else with an `InputError`."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        received = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"expected an (H, W, 3) uint8 picture. Received: {received}")
    if image.size == 0:
        raise InputError(f"expected a picture with at least one pixel. Received: {image.shape}")
    return image


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales (H, W, 3) uint8 to (height, width)."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales (H, W) bool to (height, width) with smooth outlines; the smallest object keeps a trace."""
    if mask.shape == tuple(size):
        return mask
    smaller = size[0] < mask.shape[0]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], method))
    return cover >= min(128, max(1, int(cover.max())))


def paint(picture: np.ndarray, mask: np.ndarray, tint: Colour, strength: float) -> None:
    """Mixes a colour into the pixels of a mask, in place; picture (H, W, 3) uint8, mask (H, W) bool."""
    mixed = picture[mask] * np.float32(1 - strength) + np.float32(tint) * np.float32(strength)
    picture[mask] = np.rint(mixed).astype(np.uint8)


def outline(picture: np.ndarray, mask: np.ndarray, tint: Colour, width: int) -> None:
    """Draws the border of a mask inside it, and a dark line outside that keeps it visible on any ground; in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return
    halo = max(1, width // 2)
    margin = halo + 1
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    window = slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)
    part = mask[window]
    paint(picture[window], _grown(part, halo) & ~part, HALO, 0.55)
    paint(picture[window], part & _grown(~part, width, outside=True), tint, 1.0)


def centre(mask: np.ndarray) -> tuple[float, float] | None:
    """Returns (x, y) of the mask's pixel nearest to its centre of mass, None if it is empty."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return None
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]), float(rows[nearest])


def tag(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, tint: Colour, size: float) -> None:
    """Writes a short text in a rounded box of a colour, around a point but within the picture."""
    face = font(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=face, anchor="mm")
    pad = max(2.0, size * 0.22)
    half_width, half_height = max(right - left, bottom - top) / 2 + pad, (bottom - top) / 2 + pad
    x = _between(at[0], half_width, draw.im.size[0] - half_width)
    y = _between(at[1], half_height, draw.im.size[1] - half_height)
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    draw.rounded_rectangle(box, radius=half_height * 0.5, fill=tint, outline=HALO, width=max(1, round(size / 14)))
    draw.text((x - (left + right) / 2, y - (top + bottom) / 2), text, fill=text_colour(tint), font=face, anchor="mm")


def write_image(path: str | pathlib.Path, picture: np.ndarray) -> None:
    """Writes a picture in the format the name asks for, beside the file first.

    Args:
        path: ends in .png, .jpg or .webp; label maps in .png.
        picture: (H, W, 3) uint8, or a label map (H, W), uint8 or uint16.

    Raises:
        InputError: for another name or array.
    """
    path = pathlib.Path(path)
    is_map = isinstance(picture, np.ndarray) and picture.ndim == 2 and picture.dtype in (np.uint8, np.uint16)
    names = (".png",) if is_map else (".png", ".jpg", ".jpeg", ".webp")
    if path.suffix.lower() not in names:
        raise InputError(f"expected a name that ends in {', '.join(names)}. Received: {path}")
    with replacing(path) as beside:
        Image.fromarray(picture if is_map else checked(picture)).save(beside)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a place beside a file to write to; the file takes it over when all went well, otherwise it goes."""
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _grown(mask: np.ndarray, radius: int, *, outside: bool = False) -> np.ndarray:
    """Widens a mask by a square of a radius; `outside` says what lies beyond the edges."""
    grown = np.pad(mask, radius, constant_values=outside)
    for axis in (0, 1):
        wide = grown.copy()
        for shift in range(1, radius + 1):
            wide |= _shifted(grown, shift, axis, outside) | _shifted(grown, -shift, axis, outside)
        grown = wide
    return grown[radius:-radius, radius:-radius]


def _shifted(mask: np.ndarray, shift: int, axis: int, fill: bool) -> np.ndarray:
    moved = np.roll(mask, shift, axis)
    edge = [slice(None), slice(None)]
    edge[axis] = slice(None, shift) if shift > 0 else slice(shift, None)
    moved[tuple(edge)] = fill
    return moved


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(value, high)) if low <= high else (low + high) / 2
