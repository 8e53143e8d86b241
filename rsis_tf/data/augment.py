"""Augmentation of one training image: random warps that multiply into one matrix, and random changes of colour.

Each augmentation is one function. To add one, write the function, add it to `WARPS` or `COLOUR_CHANGES`, and add its
range to `Augmentation`. `rsis_tf.data.warp` applies the matrix.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from rsis_tf.config import BORDERS, DataConfig
from rsis_tf.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; the defaults are the values of the original code.

    The defaults differ from the original's behaviour in three places. The original treated its shear of 0.1 as degrees,
    which leaves no visible shear; it repeated the outermost pixels where a warp reaches outside of the image; and it
    resampled images by the nearest pixel. The presets of the paper use the original's shear, border and zoom; its zoom
    differs between datasets.

    Attributes:
        flip: probability of a left-right flip.
        rotation: largest angle in degrees, in either direction.
        translation: largest shift as a share of height and width, in either direction.
        shear: largest shear angle in radians, in either direction.
        zoom: (smallest, largest) side of the visible part, as a share of the image's side, drawn separately for width
            and height; below 1 enlarges the objects.
        border: what fills the area outside of the image: "black" pixels labelled background, or "replicate", the
            nearest pixel of the image and its label, as in the original.
        quarter_turns: whether the result is also turned by 0, 90, 180 or 270 degrees (0 or 180 if it is not square).
        colour: largest relative change of brightness, contrast and saturation; 0 for none.
        channels: largest relative change of each channel by itself; 0 for none.
        gamma: largest change of the logarithm of the gamma; 0 for none.
        blur: largest standard deviation of a Gaussian blur in pixels; half of the images stay sharp. 0 for none.
        invert: probability that dark and bright are exchanged.
    """

    flip: float = 0.5
    rotation: float = 10.0
    translation: float = 0.1
    shear: float = 0.1
    zoom: tuple[float, float] = (0.7, 1.0)
    border: str = "black"
    quarter_turns: bool = False
    colour: float = 0.0
    channels: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    invert: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.zoom[0] <= self.zoom[1]):
            raise InputError(f"zoom must be two positive numbers, the smaller first. Received: zoom={self.zoom}")
        if self.border not in BORDERS:
            raise InputError(f"border must be one of {', '.join(BORDERS)}. Received: border={self.border!r}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip must be a probability in [0, 1]. Received: flip={self.flip}")
        for name in ("colour", "channels"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [0, 1). Received: {name}={getattr(self, name)}")
        for name in ("gamma", "blur"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0. Received: {name}={getattr(self, name)}")
        if not 0 <= self.invert <= 1:
            raise InputError(f"invert must be a probability in [0, 1]. Received: invert={self.invert}")


AUGMENTATIONS = {
    "paper": Augmentation(),
    "strong": Augmentation(rotation=20.0, zoom=(0.6, 1.1), quarter_turns=True, colour=0.25),
    "microscopy": Augmentation(
        rotation=20.0,
        zoom=(0.6, 1.2),
        quarter_turns=True,
        colour=0.3,
        channels=0.25,
        gamma=0.4,
        blur=1.2,
        invert=0.1,
    ),
}
"""Ranges by the name that `DataConfig.augmentation` uses. "strong" and "microscopy" suit images without a natural
upright direction; "microscopy" also those whose stain, exposure and focus vary."""

STILL = Augmentation(flip=0.0, rotation=0.0, translation=0.0, shear=0.0, zoom=(1.0, 1.0))
"""Changes nothing."""


def augmentation_of(config: DataConfig) -> Augmentation:
    """Returns the ranges that a configuration names, replaced where the configuration sets a range itself."""
    own: dict[str, Any] = {
        "rotation": config.transforms.rotation,
        "translation": config.transforms.translation,
        "shear": None if config.transforms.shear is None else float(np.deg2rad(config.transforms.shear)),
        "zoom": config.transforms.zoom,
        "border": config.transforms.border,
    }
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(AUGMENTATIONS[config.transforms.augmentation], **given)


# ---- Warps: each draws a (3, 3) float64 matrix, about the origin ----

Warp = Callable[[tuple[float, float], Augmentation, np.random.Generator], np.ndarray]
"""(height, width) of the image, ranges, source of the random numbers → (3, 3) float64, output to input coordinates."""


def flip(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a left-right flip, or none."""
    return np.diag([-1.0 if rng.uniform() < augmentation.flip else 1.0, 1.0, 1.0])


def rotate(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a rotation."""
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def shear(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a shear along the rows."""
    angle = rng.uniform(-1, 1) * augmentation.shear
    return np.array([[1, -np.sin(angle), 0], [0, np.cos(angle), 0], [0, 0, 1]])


def zoom(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a scale for width and one for height."""
    zoom_x, zoom_y = rng.uniform(*augmentation.zoom, 2)
    return np.diag([zoom_x, zoom_y, 1.0])


def translate(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws a shift, and moves the origin to the centre of the image, about which the other warps are."""
    height, width = size
    shift_x, shift_y = rng.uniform(-1, 1, 2) * augmentation.translation
    return np.array([[1, 0, (0.5 + shift_x) * width], [0, 1, (0.5 + shift_y) * height], [0, 0, 1]])


WARPS: tuple[Warp, ...] = (translate, rotate, shear, zoom, flip)
"""The factors of the matrix, from left to right."""

_DRAWN_FIRST: tuple[Warp, ...] = (flip, rotate, shear, zoom, translate)
"""The order in which random numbers are drawn: a seed must give the same images as in earlier versions. Warps that are
not listed here draw theirs afterwards."""


def random_matrix(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws one warp of an image about its centre, the product of `WARPS`.

    Args:
        size: (H, W) of the image in pixels.
        augmentation: the ranges to draw from.
        rng: source of the random numbers; the number of draws does not depend on the ranges.

    Returns:
        (3, 3) float64: maps (x, y, 1) in the warped image to (x, y, 1) in the given image.
    """
    height, width = size
    order = (*_DRAWN_FIRST, *(warp for warp in WARPS if warp not in _DRAWN_FIRST))
    drawn = {warp: warp(size, augmentation, rng) for warp in order}
    centre_to_origin = np.array([[1, 0, -0.5 * width], [0, 1, -0.5 * height], [0, 0, 1]])
    return functools.reduce(np.matmul, [*(drawn[warp] for warp in WARPS), centre_to_origin])


def random_part(
    source: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """Draws the position of the largest part of an image that has the shape of the batch.

    Args:
        source: (H, W) of the image.
        size: (h, w) of the batch.
        rng: source of the random numbers.

    Returns:
        (3, 3) float64 that maps coordinates in the part to those in the image; and (height, width) of the part.
    """
    scale = min(source[0] / size[0], source[1] / size[1])
    height, width = size[0] * scale, size[1] * scale
    top, left = rng.uniform(0, 1, 2) * (source[0] - height, source[1] - width)
    return np.array([[1, 0, left], [0, 1, top], [0, 0, 1]]), (height, width)


def quarter_turns(frame: tuple[int, int], rng: np.random.Generator) -> int:
    """Draws a number of quarter turns that keep the shape of a frame (h, w): 0 to 3, or 0 or 2 if it is not square."""
    height, width = frame
    return int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))


# ---- Changes of colour: each maps an image to one of the same size ----

ColourChange = Callable[[Image.Image, Augmentation, np.random.Generator], Image.Image]


def brightness(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Multiplies the image's values by a random factor."""
    return ImageEnhance.Brightness(image).enhance(_factor(augmentation, rng))


def contrast(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Multiplies the differences from the image's mean by a random factor."""
    return ImageEnhance.Contrast(image).enhance(_factor(augmentation, rng))


def saturation(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Multiplies the differences from each pixel's grey by a random factor."""
    return ImageEnhance.Color(image).enhance(_factor(augmentation, rng))


def channel_gains(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Multiplies each channel by a random factor of its own, as another stain or lamp does."""
    factors = 1 + rng.uniform(-1, 1, 3) * augmentation.channels
    return image.point([min(round(value * factor), 255) for factor in factors for value in range(256)])


def gamma(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Raises the image's values in 0..1 to a random power."""
    power = np.exp(rng.uniform(-1, 1) * augmentation.gamma)
    return image.point([round(255 * (value / 255) ** power) for value in range(256)] * 3)


def blur(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Blurs half of the images, as an image out of focus."""
    sigma = max(rng.uniform(-1, 1), 0) * augmentation.blur
    return image.filter(ImageFilter.GaussianBlur(sigma)) if sigma else image


def invert(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Exchanges dark and bright, or does nothing."""
    return ImageOps.invert(image) if rng.uniform() < augmentation.invert else image


COLOUR_CHANGES: dict[str, tuple[ColourChange, ...]] = {
    "colour": (brightness, contrast, saturation),
    "channels": (channel_gains,),
    "gamma": (gamma,),
    "blur": (blur,),
    "invert": (invert,),
}
"""Range of `Augmentation` → the changes that it is for. Those whose range is not 0 are applied in this order."""


def _factor(augmentation: Augmentation, rng: np.random.Generator) -> float:
    return 1 + rng.uniform(-1, 1) * augmentation.colour


def jitter_colour(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Applies `COLOUR_CHANGES`.

    Args:
        image: (H, W, 3) uint8.
        augmentation: the ranges to draw from; without any the image is returned unchanged.
        rng: source of the random numbers.

    Returns:
        (H, W, 3) uint8.
    """
    changes = [change for name, group in COLOUR_CHANGES.items() if getattr(augmentation, name) for change in group]
    if not changes:
        return image
    changed = Image.fromarray(image)
    for change in changes:
        changed = change(changed, augmentation, rng)
    return np.asarray(changed)
