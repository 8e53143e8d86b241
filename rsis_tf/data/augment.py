"""Augmentation of one training picture: a flip and one affine warp drawn at random, and optional colour jitter.

Matrices map pixel coordinates of the *output* to those of the input (pixel centres at +0.5), so that flip, rotation,
translation, shear, zoom and the resize to the batch's size multiply into one and the image is resampled once.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageEnhance

from rsis_tf.config import BORDERS, DataConfig
from rsis_tf.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; the defaults are the figures of the original code.

    Three of its effects are not kept: it turned its shear of 0.1 into radians as if it were degrees, which leaves no
    visible shear; it repeated the outermost pixels where a warp looks outside; and it resampled images by the nearest
    pixel. Presets of the paper have its shear, its border, and its zoom, which differs from dataset to dataset.

    Attributes:
        flip: probability of a left-right flip.
        rotation: largest angle in degrees, either way.
        translation: largest shift as a share of height and width, either way.
        shear: largest shear angle in radians, either way.
        zoom: (smallest, largest) side of the part shown, as a share of the picture's, drawn for width and height apart;
            below 1 enlarges the objects.
        border: what lies outside of the image: "black" pixels labelled background, or "replicate": the nearest pixel
            of the image and its label, as in the original.
        quarter_turns: whether the result is also turned by 0, 90, 180 or 270 degrees (0 or 180 if it is not square).
        colour: largest relative change of brightness, contrast and saturation; 0 for none.
    """

    flip: float = 0.5
    rotation: float = 10.0
    translation: float = 0.1
    shear: float = 0.1
    zoom: tuple[float, float] = (0.7, 1.0)
    border: str = "black"
    quarter_turns: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.zoom[0] <= self.zoom[1]):
            raise InputError(f"zoom must be two positive numbers, the smaller first. Received: zoom={self.zoom}")
        if self.border not in BORDERS:
            raise InputError(f"border must be one of {', '.join(BORDERS)}. Received: border={self.border!r}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip must be a probability in [0, 1]. Received: flip={self.flip}")
        if not 0 <= self.colour < 1:
            raise InputError(f"colour must be in [0, 1). Received: colour={self.colour}")


AUGMENTATIONS = {
    "paper": Augmentation(),
    "strong": Augmentation(rotation=20.0, zoom=(0.6, 1.1), quarter_turns=True, colour=0.25),
}
"""Ranges by the name that `DataConfig.augmentation` has for them. The strong ones suit images without an upside."""

STILL = Augmentation(flip=0.0, rotation=0.0, translation=0.0, shear=0.0, zoom=(1.0, 1.0))
"""Changes nothing."""


def augmentation_of(config: DataConfig) -> Augmentation:
    """Returns the ranges that a configuration names, with its own in the place of single ones."""
    own = {
        "rotation": config.transforms.rotation,
        "translation": config.transforms.translation,
        "shear": None if config.transforms.shear is None else float(np.deg2rad(config.transforms.shear)),
        "zoom": config.transforms.zoom,
        "border": config.transforms.border,
    }
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(AUGMENTATIONS[config.transforms.augmentation], **given)


def resize_matrix(source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """(3, 3) float64 matrix of a plain resize from `source` (H, W) to `target` (H, W)."""
    return np.diag([source[1] / target[1], source[0] / target[0], 1.0])


def random_part(
    source: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """Draws the largest part of an image that has the shape of the batch.

    Args:
        source: (H, W) of the image.
        size: (h, w) of the batch.
        rng: source of the random numbers.

    Returns:
        (3, 3) float64, takes coordinates in the part to those in the image; and (height, width) of the part.
    """
    scale = min(source[0] / size[0], source[1] / size[1])
    height, width = size[0] * scale, size[1] * scale
    top, left = rng.uniform(0, 1, 2) * (source[0] - height, source[1] - width)
    return np.array([[1, 0, left], [0, 1, top], [0, 0, 1]]), (height, width)


def random_matrix(size: tuple[float, float], augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
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


def quarter_turns(frame: tuple[int, int], rng: np.random.Generator) -> int:
    """Draws how many quarter turns bring a frame of (h, w) onto itself: 0 to 3, or 0 or 2 if it is not square."""
    height, width = frame
    return int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))


def quarter_turn_matrix(size: tuple[int, int], turns: int) -> np.ndarray:
    """(3, 3) float64: takes coordinates in a turned image to those in an image of `size` (h, w).

    After an odd number of quarter turns the turned image is (w, h).
    """
    height, width = size
    turned_height, turned_width = (width, height) if turns % 2 else size
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    x, y = turned_width / 2, turned_height / 2
    return np.array(
        [[cos, -sin, width / 2 - cos * x + sin * y], [sin, cos, height / 2 - sin * x - cos * y], [0, 0, 1.0]]
    )


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: str = "black") -> np.ndarray:
    """Resamples an image once, bilinearly.

    Where the warp makes the image more than twice smaller, blocks of pixels are averaged first (no aliasing).

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the result.
        border: see `Augmentation`.

    Returns:
        (h, w, 3) uint8.
    """
    picture = Image.fromarray(image)
    shrink_x, shrink_y = np.maximum(np.hypot(matrix[0, :2], matrix[1, :2]).astype(int), 1)
    if max(shrink_x, shrink_y) > 1:
        picture = picture.reduce((int(shrink_x), int(shrink_y)))
        matrix = np.diag([1 / shrink_x, 1 / shrink_y, 1.0]) @ matrix
    if border == "replicate":
        extended, matrix = _extended(np.asarray(picture), matrix, size)
        picture = Image.fromarray(extended)
    return np.asarray(_transform(picture, matrix, size, Image.Resampling.BILINEAR))


def warp_labels(label_map: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: str = "black") -> np.ndarray:
    """Resamples a label map once, each pixel from its nearest; void stays void.

    Args:
        label_map: (H, W) int32.
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the result.
        border: see `Augmentation`.

    Returns:
        (h, w) int32.
    """
    if border == "replicate":
        label_map, matrix = _extended(label_map, matrix, size)
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


def _extended(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the outermost pixels as far as a warp looks outside.

    Args:
        pixels: (H, W, …).
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the warp's result.

    Returns:
        The extended pixels, and the matrix for them.
    """
    height, width = size
    corners = matrix[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1.0]])  # x and y of four
    # One pixel more, for the bilinear neighbour.
    before = np.maximum(np.ceil(-corners.min(axis=1)) + 1, 0).astype(int)
    after = np.maximum(np.ceil(corners.max(axis=1) - (pixels.shape[1], pixels.shape[0])) + 1, 0).astype(int)
    rest = [(0, 0)] * (pixels.ndim - 2)
    extended = np.pad(pixels, [(before[1], after[1]), (before[0], after[0]), *rest], mode="edge")
    return extended, np.array([[1, 0, before[0]], [0, 1, before[1]], [0, 0, 1]]) @ matrix


def _transform(
    picture: Image.Image, matrix: np.ndarray, size: tuple[int, int], resampling: Image.Resampling
) -> Image.Image:
    data = tuple(float(value) for value in matrix[:2].ravel())
    return picture.transform((size[1], size[0]), Image.Transform.AFFINE, data, resampling, fillcolor=0)
