"""Resizes and selects masks as a protocol says.

Each of the original's three evaluations resizes masks in its own way, and the project in a fourth. The results differ
by one or two pixels along each outline, which changes the scores of small objects and at high IoU thresholds.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rsis_tf.evaluation.protocols import Protocol

if TYPE_CHECKING:
    from rsis_tf.evaluation.predictions import Predictor
    from rsis_tf.runtime import Instance


def follow(predictor: "Predictor", protocol: Protocol) -> "Predictor":
    """Returns a predictor whose masks are resized and selected as a protocol says.

    Args:
        predictor: opened with the protocol's `stop_mode` and `stop_threshold`; it is not changed.
        protocol: its settings of masks and objects are used.
    """
    if protocol.mask_resize != "probabilities" or protocol.mask_threshold is not None:
        drawing: Any = copy.copy(predictor)
        drawing.draw = functools.partial(draw, protocol=protocol)
        predictor = drawing
    if protocol.largest_component or protocol.min_size or protocol.class_threshold:
        return _Selecting(predictor, protocol)
    return predictor


def draw(probabilities: np.ndarray, size: tuple[int, int], threshold: float, *, protocol: Protocol) -> np.ndarray:
    """Turns one probability mask of the network into a mask of the image.

    `protocol.mask_resize` is one of:

    - "probabilities": bilinear with antialiasing, then the threshold. All predictors do this by default.
    - "corners": bilinear without antialiasing, the centres of the corner pixels stay in place
      (`scipy.ndimage.zoom`, order 1, which leaves the last row or column empty at some sizes), then the threshold. As
      in the original's `eval.py` for Pascal VOC.
    - "stretched": scale the mask's own range to the integers 0 … 255; bilinear; then 255 times the threshold. As in the
      original's `eval_leaves.py`, which calls `scipy.misc.imresize`.
    - "binary": the threshold at the network's size, there the largest connected part if the protocol says so, bilinear
      in integers 0 … 255, then every pixel above 0. The original's `eval_cityscapes.py` writes such grey files, and the
      official evaluation takes each pixel that is not black.

    Args:
        probabilities: (h, w) float.
        size: (H, W) of the image.
        threshold: lowest probability of a pixel of the object, unless the protocol has its own.

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
    """Scales values to (h, w) uint8: minimum 0, maximum 255; all 0 if they are equal (`scipy.misc.bytescale`)."""
    low = values.min()
    span = values.max() - low
    scale = 255.0 / (span if span else 1)
    return (((values - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest connected part of a mask; pixels that share a corner are connected.

    Of parts of equal size, the topmost is kept, then the leftmost.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    from scipy import ndimage  # an extra that a base install does not have

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), int))
    if count < 2:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


class _Selecting:
    """A predictor that drops the parts and objects that a protocol excludes; all attributes are the predictor's."""

    def __init__(self, predictor: "Predictor", protocol: Protocol) -> None:
        self._predictor, self._protocol = predictor, protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def __call__(self, image: np.ndarray) -> "Sequence[Instance]":
        return self._selected(self._predictor(image))

    def batch(self, images: Iterable[np.ndarray]) -> "list[Sequence[Instance]]":
        return list(self.stream(images))

    def stream(self, images: Iterable[np.ndarray]) -> "Iterator[Sequence[Instance]]":
        stream = getattr(self._predictor, "stream", None)  # optional, see `Predictor`
        return map(self._selected, stream(images) if stream else map(self._predictor, images))

    def _selected(self, instances: "Sequence[Instance]") -> "Sequence[Instance]":
        protocol = self._protocol
        if protocol.largest_component and protocol.mask_resize != "binary":  # `draw` does it for "binary"
            instances = [dataclasses.replace(found, mask=largest_component(found.mask)) for found in instances]
        return [
            found
            for found in instances
            if found.score >= protocol.class_threshold
            and found.area >= protocol.min_size * math.prod(found.cropped.size)
        ]


def _bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (h, w) to (H, W) with the same dtype, antialiased where it shrinks; the image's edges stay in place."""
    height, width = size
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def _zoom(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from scipy import ndimage  # an extra that a base install does not have

    return ndimage.zoom(values, [wide / narrow for wide, narrow in zip(size, values.shape, strict=True)], order=1)
