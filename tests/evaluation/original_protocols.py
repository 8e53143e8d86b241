"""A second implementation of the original's three evaluations with NumPy, Pillow and loops only.

`eval.py` (Pascal VOC), `eval_cityscapes.py` and `eval_leaves.py` of imatge-upc/rsis, as run by its `scripts/eval_*.sh`.
"""

import numpy as np
from PIL import Image


def voc_masks(masks, classes, stop, size, *, stop_th=0.5, mask_th=0.5):
    """Yields (step, mask (H, W), scores (K,)); steps below the threshold are skipped and do not end the sequence."""
    for step, objectness in enumerate(stop):
        if objectness < stop_th:
            continue
        yield step, corners(masks[step], size) > mask_th, classes[step] * objectness


def cityscapes_files(masks, classes, stop, size, *, mask_th=0.5):
    """Yields (grey image (H, W), class 1 … K−1, score) of every file, for all steps."""
    for step in range(len(stop)):
        small = largest_part(masks[step] > mask_th)
        grey = np.asarray(
            Image.fromarray(small.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
        )  # scipy.misc.imresize leaves bytes as they are
        for class_id in range(1, classes.shape[1]):
            yield grey, class_id, classes[step][class_id] * stop[step]


def leaf_labels(masks, stop, size, *, class_th=0.2, mask_th=0.5):
    """Returns the label map, with step + 1 where the original writes the step, because step 0 would be background."""
    labels = np.zeros(size, int)
    for step, objectness in enumerate(stop):
        if objectness > class_th:
            labels[imresize(masks[step], size) > mask_th * 255] = step + 1
    return labels


def imresize(values, size):
    """`scipy.misc.imresize` of floats: scales their own range to 0 … 255, then resizes with Pillow."""
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low else 255.0
    scaled = (np.asarray(values, np.float64) - low) * scale
    small = Image.fromarray((scaled + 0.5).astype(np.uint8))
    return np.asarray(small.resize(size[::-1], Image.Resampling.BILINEAR))


def corners(values, size):
    """`scipy.ndimage.zoom` of order 1: linear interpolation with the corner pixels in place.

    Rounding can put a position behind the last pixel. It is then outside the array and gets 0, which happens to the
    last row or column at some sizes.
    """
    (rows, outside), (columns, beyond) = (positions(n, m) for n, m in zip(values.shape, size, strict=True))
    wide = np.array([np.interp(columns, np.arange(values.shape[1]), row) for row in values])
    result = np.array([np.interp(rows, np.arange(values.shape[0]), column) for column in wide.T]).T
    result[outside] = 0
    result[:, beyond] = 0
    return result


def positions(length, wanted):
    found = np.arange(wanted) * ((length - 1) / (wanted - 1))
    return found, found > length - 1


def largest_part(mask):
    """Flood fill over the eight neighbours; of parts of equal size, the first from the top, then from the left."""
    best, seen = np.zeros_like(mask), np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        part, todo = np.zeros_like(mask), [start]
        seen[start] = True
        while todo:
            y, x = todo.pop()
            part[y, x] = True
            for i in range(max(0, y - 1), min(mask.shape[0], y + 2)):
                for j in range(max(0, x - 1), min(mask.shape[1], x + 2)):
                    if mask[i, j] and not seen[i, j]:
                        seen[i, j] = True
                        todo.append((i, j))
        if part.sum() > best.sum():
            best = part
    return best
