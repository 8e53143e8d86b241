"""Augmentation of one training picture: a flip and one affine warp drawn at random, and optional colour jitter.

Matrices map pixel coordinates of the *output* to those of the input (pixel centres at +0.5), so that flip, rotation,
translation, shear, zoom and the resize to the batch's size multiply into one and the picture is resampled once.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageEnhance

from rsis_tf.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; the defaults are the figures of the original code.

    Two of its effects are not kept: it turned its shear of 0.1 into radians as if it were degrees, which leaves no
    visible shear, and it resampled pictures by the nearest pixel.

    Attributes:
        flip: probability of a left-right flip.
        rotation: largest angle in degrees, either way.
        translation: largest shift as a share of height and width, either way.
        shear: largest shear angle in radians, either way.
        zoom: (smallest, largest) side of the part shown, as a share of the picture's, drawn for width and height apart;
            below 1 enlarges the objects.
        quarter_turns: whether the result is also turned by 0, 90, 180 or 270 degrees (0 or 180 if it is not square).
        colour: largest relative change of brightness, contrast and saturation; 0 for none.
    """

    flip: float = 0.5
    rotation: float = 10.0
    translation: float = 0.1
    shear: float = 0.1
    zoom: tuple[float, float] = (0.7, 1.0)
    quarter_turns: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.zoom[0] <= self.zoom[1]):
            raise InputError(f"zoom must be two positive numbers, the smaller first. Received: zoom={self.zoom}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip must be a probability in [0, 1]. Received: flip={self.flip}")
        if not 0 <= self.colour < 1:
            raise InputError(f"colour must be in [0, 1). Received: colour={self.colour}")


AUGMENTATIONS = {
    "paper": Augmentation(),
    "strong": Augmentation(rotation=20.0, zoom=(0.6, 1.1), quarter_turns=True, colour=0.25),
}
"""Ranges by the name that `DataConfig.augmentation` has for them. The strong ones suit pictures without an upside."""


def resize_matrix(source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """(3, 3) float64 matrix of a plain resize from `source` (H, W) to `target` (H, W)."""
    return np.diag([source[1] / target[1], source[0] / target[0], 1.0])


def random_matrix(size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws one warp of a picture about its centre.

    Args:
        size: (H, W) of the picture in pixels.
        augmentation: the ranges to draw from.
        rng: source of the random numbers; the same count is drawn whatever the ranges are.

    Returns:
        (3, 3) float64: takes (x, y, 1) in the warped picture to (x, y, 1) in the given one.
    """
    height, width = size
    flip = -1.0 if rng.uniform() < augmentation.flip else 1.0
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation)
    shear = rng.uniform(-1, 1) * augmentation.shear
    zoom_x, zoom_y = rng.uniform(*augmentation.zoom, 2)
    shift_x, shift_y = rng.uniform(-1, 1, 2) * augmentation.translation
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shearing = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    scaling = np.diag([flip * zoom_x, zoom_y, 1.0])
    from_centre = np.array([[1, 0, (0.5 + shift_x) * width], [0, 1, (0.5 + shift_y) * height], [0, 0, 1]])
    to_centre = np.array([[1, 0, -0.5 * width], [0, 1, -0.5 * height], [0, 0, 1]])
    return from_centre @ rotation @ shearing @ scaling @ to_centre


def quarter_turn_matrix(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(3, 3) float64 matrix of a turn of a picture of `size` (h, w) onto itself, by a random multiple of 90 degrees."""
    height, width = size
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    x, y = width / 2, height / 2
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1.0]])


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resamples a picture once, bilinearly; what lies outside of it is black.

    Where the warp makes the picture more than twice smaller, blocks of pixels are averaged first (no aliasing).

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the result.

    Returns:
        (h, w, 3) uint8.
    """
    picture = Image.fromarray(image)
    shrink_x, shrink_y = np.maximum(np.hypot(matrix[0, :2], matrix[1, :2]).astype(int), 1)
    if max(shrink_x, shrink_y) > 1:
        picture = picture.reduce((int(shrink_x), int(shrink_y)))
        matrix = np.diag([1 / shrink_x, 1 / shrink_y, 1.0]) @ matrix
    return np.asarray(_transform(picture, matrix, size, Image.Resampling.BILINEAR))


def warp_labels(label_map: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resamples a label map once, each pixel from its nearest; what lies outside is background, void stays void.

    Args:
        label_map: (H, W) int32.
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the result.

    Returns:
        (h, w) int32.
    """
    return np.array(_transform(Image.fromarray(label_map), matrix, size, Image.Resampling.NEAREST))


def jitter_colour(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation by random factors in [1 − colour, 1 + colour].

    Args:
        image: (H, W, 3) uint8.
        augmentation: its `colour` is the range; 0 gives the picture back unchanged.
        rng: source of the random numbers.

    Returns:
        (H, W, 3) uint8.
    """
    if augmentation.colour == 0:
        return image
    picture = Image.fromarray(image)
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhancer(picture).enhance(1 + rng.uniform(-1, 1) * augmentation.colour)
    return np.asarray(picture)


def _transform(
    picture: Image.Image, matrix: np.ndarray, size: tuple[int, int], resampling: Image.Resampling
) -> Image.Image:
    data = tuple(float(value) for value in matrix[:2].ravel())
    return picture.transform((size[1], size[0]), Image.Transform.AFFINE, data, resampling, fillcolor=0)
