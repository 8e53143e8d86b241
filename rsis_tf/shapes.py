"""Instances in the forms other programs read: label map, COCO run lengths, polygons. Needs numpy alone."""

from collections.abc import Sequence

import numpy as np

from rsis_tf.runtime import Instance, RuntimeInputError

Array = np.ndarray


def to_label_map(instances: Sequence[Instance], size: tuple[int, int]) -> Array:
    """Paints the instances into one picture.

    Args:
        instances: predicted objects, masks of the same size.
        size: (H, W) of those masks; needed for a picture without objects.

    Returns:
        (H, W) int32: 0 background, i = the i-th instance of the list (1 … n). A pixel that several instances claim
        goes to the first of them.

    Raises:
        RuntimeInputError: for a mask of another size.
    """
    labels = np.zeros(size, np.int32)
    for label, instance in reversed(list(enumerate(instances, start=1))):
        if instance.mask.shape != tuple(size):
            raise RuntimeInputError(f"expected masks of the size {tuple(size)}. Received: {instance.mask.shape}")
        labels[instance.mask] = label
    return labels


def to_rle(mask: Array) -> dict[str, list[int]]:
    """Run lengths as COCO's uncompressed RLE has them: down the columns, the first run is background.

    Args:
        mask: (H, W) bool.

    Returns:
        {"size": [H, W], "counts": [...]}; plain integers, ready for JSON. `pycocotools.mask.frPyObjects` reads it.
    """
    pixels = _check_mask(mask).flatten(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    if pixels.size and pixels[0]:
        counts = np.concatenate([[0], counts])
    return {"size": list(mask.shape), "counts": counts.tolist()}


def to_polygons(mask: Array) -> list[Array]:
    """Outlines of the connected parts of a mask, along the edges of its pixels. Holes are left out.

    Pixels that touch at a corner alone are different parts. Filling the polygons gives back the mask with its holes
    filled; the area of a polygon is a number of pixels.

    Args:
        mask: (H, W) bool.

    Returns:
        One (P, 2) int64 array for each part, corners as (x, y) from 0 to (W, H), clockwise on the screen (y down),
        ordered by the part's top left pixel; without corners on straight lines, first corner not repeated.
    """
    padded = np.pad(_check_mask(mask), 1)
    width = padded.shape[1]  # also of the grid of corners: corner (x, y) has the number y * width + x
    above_left, above_right, below_left, below_right = (
        padded[:-1, :-1],
        padded[:-1, 1:],
        padded[1:, :-1],
        padded[1:, 1:],
    )
    # Borders are walked with the object on the right-hand side; a piece of one starts at these corners.
    starts_east, starts_south = below_right & ~above_right, below_left & ~below_right
    starts_west, starts_north = above_left & ~below_left, above_right & ~above_left
    pieces = {
        name: np.pad(corners, ((0, 1), (0, 1))).ravel()
        for name, corners in zip(
            ("east", "south", "west", "north"), (starts_east, starts_south, starts_west, starts_north), strict=True
        )
    }
    steps = {"east": 1, "south": width, "west": -1, "north": -width}
    # Where two parts touch at a corner the border turns right, so it stays with the part it follows.
    turns = {
        "east": ("south", "east", "north"),
        "south": ("west", "south", "east"),
        "west": ("north", "west", "south"),
        "north": ("east", "north", "west"),
    }
    left = {name: set(np.flatnonzero(corners).tolist()) for name, corners in pieces.items()}
    polygons = []
    for start in sorted(left["east"]):
        if start not in left["east"]:
            continue
        corners, corner, direction = [], start, "east"
        while corner in left[direction]:
            left[direction].remove(corner)
            corner += steps[direction]
            following = next((turn for turn in turns[direction] if pieces[turn][corner]), direction)
            if following != direction:
                corners.append(corner)
            direction = following
        y, x = np.divmod(np.array(corners), width)
        polygon = np.stack([x, y], axis=1)  # (P, 2)
        if _signed_area(polygon) > 0:  # holes run the other way
            polygons.append(np.roll(polygon, 1, axis=0))
    return polygons


def _signed_area(polygon: Array) -> float:
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def _check_mask(mask: Array) -> Array:
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != bool:
        received = f"shape {mask.shape}, dtype {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise RuntimeInputError(f"a mask must be an (H, W) bool array. Received: {received}")
    return mask
