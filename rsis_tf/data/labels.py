"""Reading, renumbering and ordering label maps: what readers and pipeline share."""

import pathlib

import numpy as np

from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError
from rsis_tf.images import read_label_image


def read_label_image_of(path: pathlib.Path, size: tuple[int, int], reduction: int = 1) -> np.ndarray:
    """Reads the label image that belongs to an image.

    Args:
        path: of the label image.
        size: (H, W) of the image.
        reduction: factor by which the image was reduced in reading, see `rsis_tf.images.read_reduced`.

    Returns:
        (⌈H / reduction⌉, ⌈W / reduction⌉) int32.

    Raises:
        InputError: when the file cannot be read or has another size than the image.
    """
    ids = read_label_image(path)
    if ids.shape != size:
        raise InputError(
            f"expected {size[1]}x{size[0]} pixels as in the picture. Received: {ids.shape[1]}x{ids.shape[0]} in {path}"
        )
    return every(ids, reduction)


def every(ids: np.ndarray, factor: int) -> np.ndarray:
    """Reduces (H, W) labels by a whole factor: of each block the pixel in its middle.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉) labels; blocks cut off by the edge have their middle moved inside.
    """
    if factor == 1:
        return ids
    rows, columns = (np.minimum(np.arange(0, side, factor) + factor // 2, side - 1) for side in ids.shape)
    return ids[np.ix_(rows, columns)]


def relabel(
    label_map: np.ndarray, classes: np.ndarray, *, by_area: bool = False, keep: int | None = None, rest: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the instances that have pixels 1 … n without gaps.

    Args:
        label_map: (H, W) int32: 0 background, i = the i-th instance, `VOID` = ignored.
        classes: (m,) int32, class of instance i at i − 1.
        by_area: largest first (equal areas in the given order) instead of the given order.
        keep: the largest number of instances kept, the first ones.
        rest: what the others become: background, or `VOID`.

    Returns:
        (H, W) int32 label map with `VOID` where it was, and (n,) int32 classes.
    """
    areas = np.bincount(np.maximum(label_map, 0).ravel(), minlength=len(classes) + 1)[1:]  # (m,)
    order = np.argsort(-areas, kind="stable") if by_area else np.arange(len(areas))
    order = order[areas[order] > 0][:keep]
    # One entry per old value; a label map's VOID (−1) indexes the last.
    table = np.full(len(classes) + 2, rest, np.int32)
    table[0] = 0
    table[order + 1] = np.arange(1, len(order) + 1)
    table[VOID] = VOID
    return table[label_map], classes[order].astype(np.int32)


def ids_in(ids: np.ndarray) -> list[int]:
    """The values of an integer image of ids, 0 or more each, in rising order."""
    return np.flatnonzero(np.bincount(ids.ravel())).tolist()


def from_ids(
    ids: np.ndarray, class_of: dict[int, int], void_ids: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Turns an image of ids into a label map, instances in the order of their ids.

    Args:
        ids: (H, W) integer image, values 0 or more.
        class_of: class of each id that is an instance and occurs; other ids become background.
        void_ids: ids whose pixels are ignored.

    Returns:
        (H, W) int32 label map and (n,) int32 classes.
    """
    table = np.zeros(max(int(ids.max()), *class_of, *void_ids, 0) + 1, np.int32)
    table[list(void_ids)] = VOID
    table[sorted(class_of)] = np.arange(1, len(class_of) + 1)
    return table[ids], np.array([class_of[value] for value in sorted(class_of)], np.int32)
