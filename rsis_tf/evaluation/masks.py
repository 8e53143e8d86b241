"""From a network's mask to a mask of the image, in the ways of the original's three evaluations, and what is kept.

The original brings masks to the size of the image in three ways, none of which is the project's own. They differ by a
pixel or two along each outline, which small objects and high IoU thresholds feel.
"""

import copy
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.protocols import Protocol

if TYPE_CHECKING:
    from rsis_tf.evaluation.runner import Predictor
    from rsis_tf.runtime import Instance


def follow(predictor: "Predictor", protocol: Protocol) -> "Predictor":
    """Returns a predictor whose masks are drawn and chosen as a protocol says.

    Args:
        predictor: opened with the protocol's `stop_mode` and `stop_threshold`; it is not changed.
        protocol: only its settings of masks and objects matter here.
    """
    if protocol.mask_resize != "probabilities" or protocol.mask_threshold is not None:
        predictor = copy.copy(predictor)
        predictor.draw = functools.partial(draw, protocol=protocol)
    if protocol.largest_component or protocol.min_size or protocol.class_threshold:
        return _Choosing(predictor, protocol)
    return predictor


def draw(probabilities: np.ndarray, size: tuple[int, int], threshold: float, *, protocol: Protocol) -> np.ndarray:
    """Draws one mask of the network at the size of the image.

    By `protocol.mask_resize`:

    - "probabilities": bilinear with antialiasing, then the threshold; what every predictor does.
    - "corners": bilinear between pixel centres with the corner pixels kept in place and no antialiasing
      (`scipy.ndimage.zoom`, order 1, which at some sizes leaves the last row or column empty), then the threshold. The
      original's `eval.py`, Pascal VOC.
    - "stretched": the mask's own least and greatest value become 0 and 255, whole numbers; bilinear; then the
      threshold times 255. The original's `eval_leaves.py`, by `scipy.misc.imresize`.
    - "binary": the threshold at the network's size, the largest connected part there if the protocol wants it,
      bilinear in whole numbers 0 … 255, and every pixel above 0. The original's `eval_cityscapes.py` writes such grey
      files, and the official evaluation takes each pixel that is not black.

    Args:
        probabilities: (h, w) float.
        size: (H, W) of the image.
        threshold: probability from which a pixel belongs to the object, unless the protocol has its own.

    Returns:
        (H, W) bool.
    """
    threshold = threshold if protocol.mask_threshold is None else protocol.mask_threshold
    probabilities = np.asarray(probabilities, np.float32)
    if protocol.mask_resize == "corners":
        return _zoom(probabilities, size) > threshold
    if protocol.mask_resize == "stretched":
        return _bilinear(stretched(probabilities), size) > threshold * 255
    if protocol.mask_resize == "binary":
        mask = probabilities > threshold
        mask = largest_component(mask) if protocol.largest_component else mask
        return _bilinear(mask.astype(np.uint8) * 255, size) > 0
    return _bilinear(probabilities, size) >= threshold


def stretched(values: np.ndarray) -> np.ndarray:
    """Returns (h, w) uint8: the least value as 0, the greatest as 255; equal values as 0 (`scipy.misc.bytescale`)."""
    low = values.min()
    span = values.max() - low
    scale = 255.0 / (span if span else 1)
    return (((values - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest connected part of a mask; pixels that share a corner are connected.

    Of parts of one size, the first from the top, then from the left, is kept.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    labels, count = _ndimage().label(mask, structure=np.ones((3, 3), int))
    if count < 2:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


class _Choosing:
    """A predictor that leaves out what a protocol does not want; all else is the predictor's own."""

    def __init__(self, predictor: "Predictor", protocol: Protocol) -> None:
        self._predictor, self._protocol = predictor, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def __call__(self, image: np.ndarray) -> "list[Instance]":
        return self._chosen(self._predictor(image))

    def batch(self, images: Iterable[np.ndarray]) -> "list[list[Instance]]":
        return list(self.stream(images))

    def stream(self, images: Iterable[np.ndarray]) -> "Iterator[list[Instance]]":
        stream = getattr(self._predictor, "stream", None)  # which a predictor need not have
        return map(self._chosen, stream(images) if stream else map(self._predictor, images))

    def _chosen(self, instances: "list[Instance]") -> "list[Instance]":
        protocol = self._protocol
        if protocol.largest_component and protocol.mask_resize != "binary":  # which has done so already
            instances = [dataclasses.replace(found, mask=largest_component(found.mask)) for found in instances]
        return [
            found
            for found in instances
            if found.score >= protocol.class_threshold and found.mask.sum() >= protocol.min_size * found.mask.size
        ]


def _bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) → (H, W) of the same type, pixel areas kept in place, antialiased where it shrinks."""
    height, width = size
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def _zoom(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return _ndimage().zoom(values, [wide / narrow for wide, narrow in zip(size, values.shape, strict=True)], order=1)


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise InputError(f'this protocol needs SciPy: pip install "rsis_tf[train]". Received: {error}') from None
    return ndimage
