"""Label maps: reading ids, numbering the objects, and reducing them with their image."""

from collections.abc import Sequence

import numpy as np

from rsis_tf.data.sample import VOID


def relabel(
    label_map: np.ndarray, classes: np.ndarray, *, by_area: bool = False, keep: int | None = None, rest: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the objects that have pixels 1 … n without gaps.

    Args:
        label_map: (H, W) int32: 0 background, i = the i-th object, `VOID` = ignored.
        classes: (m,) int32, class of object i at i − 1.
        by_area: whether to sort by area, largest first (equal areas stay in the given order).
        keep: the number of objects to keep, the first ones; None for all.
        rest: the label of the pixels of the other objects: 0 (background) or `VOID`.

    Returns:
        (H, W) int32 label map in which `VOID` stays `VOID`, and (n,) int32 classes.
    """
    areas = np.bincount(np.maximum(label_map, 0).ravel(), minlength=len(classes) + 1)[1:]  # (m,)
    order = np.argsort(-areas, kind="stable") if by_area else np.arange(len(areas))
    order = order[areas[order] > 0][:keep]
    # One entry per old value; the VOID (−1) of a label map indexes the last.
    table = np.full(len(classes) + 2, rest, np.int32)
    table[0] = 0
    table[order + 1] = np.arange(1, len(order) + 1)
    table[VOID] = VOID
    return table[label_map], classes[order].astype(np.int32)


def keep_largest(
    label_map: np.ndarray, classes: np.ndarray, *, max_objects: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers the largest N objects by descending area; the pixels of the others become void.

    Args:
        label_map: (H, W) int32: 0 background, i = the i-th object, `VOID` = ignored.
        classes: (m,) int32, class of object i at i − 1.
        max_objects: N.

    Returns:
        (H, W) int32 label map with 1 … n; (N,) int32 classes, 0 beyond n; (N,) uint8, 1 for the n objects.
    """
    label_map, kept = relabel(label_map, classes, by_area=True, keep=max_objects, rest=VOID)
    padded, valid = np.zeros(max_objects, np.int32), np.zeros(max_objects, np.uint8)
    padded[: len(kept)] = kept
    valid[: len(kept)] = 1
    return label_map, padded, valid


def middle_pixels(ids: np.ndarray, factor: int) -> np.ndarray:
    """Reduces (H, W) labels by an integer factor: takes the middle pixel of each block.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉) labels. Where the edge cuts off a block's middle, the last pixel is taken.
    """
    if factor == 1:
        return ids
    rows, columns = (np.minimum(np.arange(0, side, factor) + factor // 2, side - 1) for side in ids.shape)
    return ids[np.ix_(rows, columns)]


def reduced_labels(label_map: np.ndarray, classes: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduces (H, W) labels by an integer factor (`middle_pixels`); objects that lose all their pixels are dropped."""
    return (label_map, classes) if factor == 1 else relabel(middle_pixels(label_map, factor), classes)


def hidden_objects(labels: np.ndarray, areas: Sequence[int], where: Sequence[str]) -> list[str]:
    """Returns a line for each object that others hide completely, for `rsis check`.

    Args:
        labels: in which the i-th object has the value i + 1.
        areas: pixels of each object before others were painted over it; those of 0 have nothing to hide.
        where: the place of each object in the dataset's files.
    """
    seen = set(np.unique(labels).tolist())
    return [
        f"expected a visible object. Received: one that others hide completely, {place}"
        for number, (area, place) in enumerate(zip(areas, where, strict=True), start=1)
        if area and number not in seen
    ]


def ids_in(ids: np.ndarray) -> list[int]:
    """Returns the values that occur in an integer image of ids (0 or more), in ascending order."""
    return np.flatnonzero(np.bincount(ids.ravel())).tolist()


def from_ids(
    ids: np.ndarray, class_of: dict[int, int], void_ids: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Turns an image of ids into a label map, objects in the order of their ids.

    Args:
        ids: (H, W) integer image, values 0 or more.
        class_of: class of each id that is an object and occurs; other ids become background.
        void_ids: ids whose pixels are ignored.

    Returns:
        (H, W) int32 label map and (n,) int32 classes.
    """
    table = np.zeros(max(int(ids.max()), *class_of, *void_ids, 0) + 1, np.int32)
    table[list(void_ids)] = VOID
    table[sorted(class_of)] = np.arange(1, len(class_of) + 1)
    return table[ids], np.array([class_of[value] for value in sorted(class_of)], np.int32)
