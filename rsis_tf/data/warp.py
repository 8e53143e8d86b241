"""Resampling an image and its label map by one affine matrix.

Matrices map pixel coordinates of the *output* to coordinates of the input (pixel centres are at +0.5), so flip,
rotation, translation, shear, zoom and the resize to the batch's size multiply into one matrix, and the image is
resampled only once.
"""

import numpy as np
from PIL import Image


def resize_matrix(source: tuple[float, float], target: tuple[int, int]) -> np.ndarray:
    """Returns the (3, 3) float64 matrix of a plain resize from `source` (H, W) to `target` (H, W)."""
    return np.diag([source[1] / target[1], source[0] / target[0], 1.0])


def quarter_turn_matrix(size: tuple[int, int], turns: int) -> np.ndarray:
    """Returns the (3, 3) float64 matrix of `turns` quarter turns of an image of `size` (h, w).

    After an odd number of quarter turns the image is (w, h).
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

    Where the warp reduces the image by more than two, blocks of pixels are averaged first to avoid aliasing.

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the result.
        border: see `Augmentation`.

    Returns:
        (h, w, 3) uint8.
    """
    source = Image.fromarray(image)
    # Rows of the matrix: how far neighbouring pixels of the result are apart along each axis of the image. The addition
    # keeps a turned matrix, whose norms are a hair below whole numbers, equal to the others.
    shrink_x, shrink_y = np.maximum((np.hypot(matrix[:2, 0], matrix[:2, 1]) + 1e-6).astype(int), 1)
    shrink = int(shrink_x), int(shrink_y)
    if max(shrink) > 1:
        source = source.reduce(shrink)
        matrix = np.diag([1 / shrink_x, 1 / shrink_y, 1.0]) @ matrix
    if border == "replicate":
        pixels = np.asarray(source)
        if max(shrink) > 1:
            pixels = _framed(pixels, image, shrink)
            matrix = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1.0]]) @ matrix
        extended, matrix = _extended(pixels, matrix, size)
        source = Image.fromarray(extended)
    return np.asarray(_transform(source, matrix, size, Image.Resampling.BILINEAR))


def warp_labels(label_map: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: str = "black") -> np.ndarray:
    """Resamples a label map once; each pixel takes the label of the nearest one, and void stays void.

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


def _framed(reduced: np.ndarray, image: np.ndarray, shrink: tuple[int, int]) -> np.ndarray:
    """Surrounds a reduced image by one row and column of the whole image's outermost pixels.

    Labels repeat their own outermost pixels; an average over whole blocks would show what is farther inside.

    Args:
        reduced: (h, w, 3) uint8.
        image: (H, W, 3) uint8, which was reduced.
        shrink: factors of x and y; the outermost pixels are averaged along the border only.

    Returns:
        (h + 2, w + 2, 3) uint8.
    """
    framed = np.pad(reduced, [(1, 1), (1, 1), (0, 0)])
    for end in (0, -1):
        row, column = Image.fromarray(image[[end]]), Image.fromarray(image[:, [end]])
        framed[end, 1:-1] = np.asarray(row.reduce((shrink[0], 1)))[0]
        framed[1:-1, end] = np.asarray(column.reduce((1, shrink[1])))[:, 0]
        framed[end, [0, -1]] = image[end, [0, -1]]
    return framed


def _extended(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the outermost pixels as far as a warp reaches outside.

    Args:
        pixels: (H, W, …).
        matrix: (3, 3), output to input coordinates.
        size: (h, w) of the warp's result.

    Returns:
        The extended pixels, and the matrix for them.
    """
    height, width = size
    corners = matrix[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1.0]])  # (2, 4) x, y
    # One pixel more, for the bilinear neighbour.
    before = np.maximum(np.ceil(-corners.min(axis=1)) + 1, 0).astype(int)
    after = np.maximum(np.ceil(corners.max(axis=1) - (pixels.shape[1], pixels.shape[0])) + 1, 0).astype(int)
    rest = [(0, 0)] * (pixels.ndim - 2)
    extended = np.pad(pixels, [(before[1], after[1]), (before[0], after[0]), *rest], mode="edge")
    return extended, np.array([[1, 0, before[0]], [0, 1, before[1]], [0, 0, 1]]) @ matrix


def _transform(
    source: Image.Image, matrix: np.ndarray, size: tuple[int, int], resampling: Image.Resampling
) -> Image.Image:
    data = tuple(float(value) for value in matrix[:2].ravel())
    return source.transform((size[1], size[0]), Image.Transform.AFFINE, data, resampling, fillcolor=0)
