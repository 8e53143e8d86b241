"""Segmentations as run lengths; input that would crash pycocotools is refused first."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from rsis_tf.errors import InputError, brief

_MOST_POINTS = 1_000_000
_MOST_STEPS = 4_000_000
_MOST_POLYGONS = 10_000
"""Of one object; pycocotools joins them one by one, so its time grows with the square of their number."""


def run_lengths(
    segmentation: Any, shape: tuple[int, int], where: str, *, scale: tuple[float, float] = (1.0, 1.0)
) -> list[int]:
    """Returns a mask as lengths of alternating runs of 0 and 1, down the columns.

    Polygons are cut off at the border of the image. They may leave the image by at most its longer side and must not
    have more points or a longer outline than the image has pixels, because pycocotools stores every outline in steps of
    a fifth of a pixel. All checks and the reading of run lengths take time in proportion to the text.

    Args:
        segmentation: list of polygons [x0, y0, x1, y1, …], or {"size": [H, W], "counts": run lengths}; the counts are a
            list of numbers or COCO's compressed text.
        shape: (H, W) of the image.
        where: the annotation, for messages.
        scale: factors of x and y from the polygons to the image.

    Returns:
        Runs that sum to H · W. A polygon with fewer than three points has no pixels.

    Raises:
        InputError: for anything else.
    """
    pixels = shape[0] * shape[1]
    if not segmentation or not isinstance(segmentation, list | dict):
        hint = " (a box is not a mask)" if segmentation == [] else ""
        received = f"segmentation {brief(segmentation)} in {where}"
        raise InputError(f"expected polygons or run lengths{hint}. Received: {received}")
    if isinstance(segmentation, list):
        rings = [ring for ring in polygons(segmentation, shape, where, scale=scale) if len(ring) >= 6]
        # With fewer than three points a ring has no area, and pycocotools would read four numbers as a box.
        if not rings:
            return [pixels]
        return _decompress(rle_tools.merge(rle_tools.frPyObjects(rings, *shape))["counts"], pixels)
    if segmentation.get("size") != list(shape):
        raise InputError(
            f"expected run lengths of size {list(shape)} (height, width). "
            f"Received: {brief(segmentation.get('size'))} in {where}"
        )
    if scale != (1.0, 1.0):
        raise InputError(f"expected polygons, which can be scaled. Received: run lengths in {where}")
    counts = segmentation.get("counts")
    runs: list[int] | None = (
        _decompress(counts.encode("utf-8", "surrogatepass"), pixels) if isinstance(counts, str) else counts
    )
    known = isinstance(runs, list) and 0 < len(runs) <= _most_runs(pixels) and all(map(_is_length, runs))
    if runs is None or not known or sum(runs) != pixels:
        raise InputError(f"expected run lengths that sum to {pixels} pixels. Received: other counts in {where}")
    return [int(run) for run in runs]


def polygons(
    segmentation: list, shape: tuple[int, int], where: str, *, scale: tuple[float, float] = (1.0, 1.0)
) -> list[list[float]]:
    """Returns the polygons of a segmentation, scaled and checked as `run_lengths` says.

    Raises:
        InputError: if they are not polygons, hold numbers that are not finite, or are too large for the image.
    """
    if len(segmentation) > _MOST_POLYGONS:
        raise InputError(
            f"expected at most {_MOST_POLYGONS} polygons of an object. Received: {len(segmentation)} in {where}"
        )
    if not all(isinstance(ring, list) and len(ring) % 2 == 0 for ring in segmentation):
        raise InputError(f"expected polygons as lists of x, y pairs. Received: something else in {where}")
    height, width = shape
    reach = max(shape)
    most_points = min(max(1000, height * width), _MOST_POINTS)
    most_steps = min(height * width, _MOST_STEPS) + 8 * (height + width)
    count = sum(map(len, segmentation)) // 2
    if count > most_points:
        raise InputError(
            f"expected at most {most_points} points of an object in an image of {width}x{height} pixels. "
            f"Received: {count} points in {where}"
        )
    total_steps = 0.0
    checked = []
    for ring in segmentation:
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in ring):
            raise InputError(f"expected polygons as lists of x, y pairs. Received: something else in {where}")
        wrong = next((value for value in ring if not _is_finite(value)), None)
        if wrong is not None:
            raise InputError(f"expected finite coordinates. Received: {brief(wrong)} in a polygon of {where}")
        points = np.array(ring, np.float64).reshape(-1, 2) * scale  # (P, 2) x, y
        outside = (points < -reach) | (points > np.array([width, height]) + reach)
        if outside.any():
            raise InputError(
                f"expected polygons in the image of {width}x{height} pixels, or at most {reach} pixels outside. "
                f"Received: a point at {points[outside][0]:.6g} in {where}"
            )
        steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() if len(points) else 0.0
        total_steps += steps
        if steps > most_steps or total_steps > 4 * most_steps:
            raise InputError(
                f"expected polygons with an outline of at most {most_steps} pixels in an image of {width}x{height}. "
                f"Received: {max(steps, total_steps):.0f} pixels in {where}"
            )
        checked.append(points.ravel().tolist())
    return checked


def paint_objects(columns: np.ndarray, objects: Sequence[list[int]]) -> list[int]:
    """Paints the runs of objects with the values 1 … n, in place, the smaller ones on top; returns their areas."""
    areas = [sum(runs[1::2]) for runs in objects]
    for position in sorted(range(len(objects)), key=lambda position: -areas[position]):
        paint(columns, objects[position], position + 1)
    return areas


def paint(columns: np.ndarray, runs: list[int], value: int) -> None:
    """Sets the pixels of the runs to a value, in place; `columns` is a flat label map that goes down the columns."""
    edges = list(itertools.accumulate(runs))
    for start, end in zip(edges[0::2], edges[1::2], strict=False):
        columns[start:end] = value


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than every float
        return False


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31 and value % 1 == 0


def _most_runs(pixels: int) -> int:
    """The most runs of a mask; some tools write runs of length 0 between others."""
    return 2 * pixels + 2


def _decompress(counts: bytes, pixels: int) -> list[int]:
    """Returns COCO's compressed run lengths as numbers; empty if they are not in that format or exceed the pixels.

    A number is a sequence of characters that hold 5 bits each, lowest first, as an offset from '0'. Bit 32 means that
    more characters follow; bit 16 of the last character is the sign. From the fourth number on, the difference to the
    number two places before is stored.
    """
    runs: list[int] = []
    value = shift = total = 0
    for character in counts:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            total += runs[-1]
            if runs[-1] < 0 or total > pixels or len(runs) > _most_runs(pixels):
                return []
            value = shift = 0
    return [] if shift else runs
