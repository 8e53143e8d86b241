"""Run lengths, polygons and result formats of any mask, with pycocotools as the reference."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as rle_tools
from scipy import ndimage
from strategies import check_message, instance, masks, masks_of, predictions, sizes

from rsis_tf.data.readers.coco.segmentation import paint, run_lengths
from rsis_tf.runtime import InputError, Instances, close_gaps, to_label_map, to_polygons, to_rle

_NAMES = {"class_name", "class_id", "score", "step"}


def _painted(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    """The mask that the reader of COCO files paints from run lengths."""
    columns = np.zeros(size[0] * size[1], np.int32)
    paint(columns, runs, 1)
    return columns.reshape(size[::-1]).T.astype(bool)


def _read(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    return _painted(run_lengths(segmentation, size, "an annotation"), size)


def _filled(mask: np.ndarray) -> np.ndarray:
    """Fills the holes of each connected part; parts connect by sides, background also by corners."""
    parts, count = ndimage.label(mask)
    corners = np.ones((3, 3), bool)
    filled = [ndimage.binary_fill_holes(parts == part, structure=corners) for part in range(1, count + 1)]
    return np.any(filled, axis=0) if filled else np.zeros_like(mask)


def _inside(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fills a polygon of whole coordinates: a vertical edge toggles all pixels on its right."""
    inside = np.zeros(size, bool)
    for (x, y), (next_x, next_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if x == next_x:
            inside[min(y, next_y) : max(y, next_y), x:] ^= True
    return inside


@given(masks())
@example(np.zeros((1, 1), bool))
@example(np.ones((1, 9), bool))
@example(np.ones((9, 1), bool))
def test_pycocotools_reads_our_run_lengths(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(to_rle(mask)))
    code = rle_tools.frPyObjects(rle, *mask.shape)
    assert code == rle_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(rle_tools.decode(code).astype(bool), mask)
    np.testing.assert_array_equal(_read(rle, mask.shape), mask)


@given(masks(40))
def test_compressed_run_lengths_of_pycocotools_are_read(mask: np.ndarray) -> None:
    code = rle_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}
    assert run_lengths(segmentation, mask.shape, "an annotation") == to_rle(mask)["counts"]


@given(masks(), st.data())
def test_runs_of_length_zero_do_not_matter(mask: np.ndarray, data: st.DataObject) -> None:
    counts = to_rle(mask)["counts"]
    for position in data.draw(st.lists(st.integers(0, len(counts)), max_size=3)):
        counts[position:position] = [0, 0]
    if len(counts) <= 2 * mask.size + 2:
        segmentation = {"size": list(mask.shape), "counts": counts}
        np.testing.assert_array_equal(_read(segmentation, mask.shape), mask)
        code = rle_tools.frPyObjects(segmentation, *mask.shape)
        text = {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}
        np.testing.assert_array_equal(_read(text, mask.shape), mask)


@given(sizes(6), st.one_of(st.text(max_size=12), st.text(st.characters(min_codepoint=48, max_codepoint=111))))
def test_any_text_as_run_lengths_is_a_mask_or_refused(size: tuple[int, int], text: str) -> None:
    try:
        runs = run_lengths({"size": list(size), "counts": text}, size, "an annotation")
    except InputError as error:
        check_message(error)
        return
    assert sum(runs) == math.prod(size)
    assert min(runs) >= 0


_NUMBERS = st.one_of(
    st.integers(-3, 8),
    st.integers(-40, 40).map(lambda number: number / 4),
    st.floats(-12, 20),
    st.floats(),
    st.integers(-(10**400), 10**400),
)
_NEAR = st.one_of(st.integers(-3, 9), st.integers(-12, 40).map(lambda number: number / 4), st.floats(-6, 12))


def _rings(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    points = st.tuples(numbers, numbers)
    line = st.tuples(points, st.integers(1, 5)).map(lambda drawn: [drawn[0]] * drawn[1])  # one point, repeated
    ring = st.one_of(st.lists(points, max_size=7), line, st.lists(points, min_size=2, max_size=3).map(lambda p: p * 2))
    return st.lists(ring.map(lambda p: list(itertools.chain.from_iterable(p))), max_size=3)


@given(sizes(9), st.one_of(_rings(_NUMBERS), _rings(_NEAR)))
@example((4, 4), [[0.0, 0.0, 1e300, 0.0, 0.0, 1e300]])
@example((4, 4), [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
@example((1, 1), [[0.0, 0.0, math.nan, 1.0, 1.0, 0.0]])
def test_any_polygon_is_a_mask_in_the_image_or_refused(size: tuple[int, int], rings: list[list[float]]) -> None:
    try:
        runs = run_lengths(rings, size, "an annotation")
    except InputError as error:
        check_message(error)
        return
    assert sum(runs) == math.prod(size)
    mask = _painted(runs, size)
    drawn = [ring for ring in rings if len(ring) >= 6]
    expected = np.zeros(size, bool)
    for ring in drawn:  # one by one, so that the union is numpy's
        expected |= rle_tools.decode(rle_tools.frPyObjects([ring], *size)[0]).astype(bool)
    np.testing.assert_array_equal(mask, expected)
    for ring in drawn:
        if mask.any() and len(drawn) == 1:
            rows, columns = np.nonzero(mask)
            assert min(ring[0::2]) - 1 <= columns.min() <= columns.max() <= max(ring[0::2]) + 1
            assert min(ring[1::2]) - 1 <= rows.min() <= rows.max() <= max(ring[1::2]) + 1


@given(masks())
@example(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool))  # the outline touches itself at a corner
def test_polygons_restore_the_mask_with_its_holes_filled(mask: np.ndarray) -> None:
    polygons = to_polygons(mask)
    filled = _filled(mask)
    assert len(polygons) == ndimage.label(mask)[1]
    inside = [_inside(polygon, mask.shape) for polygon in polygons]
    np.testing.assert_array_equal(np.any([np.zeros_like(mask), *inside], axis=0), filled)
    if polygons:
        rings = [polygon.ravel().tolist() for polygon in polygons]
        code = rle_tools.merge(rle_tools.frPyObjects([list(map(float, ring)) for ring in rings], *mask.shape))
        np.testing.assert_array_equal(rle_tools.decode(code).astype(bool), filled)
        np.testing.assert_array_equal(_read(rings, mask.shape), filled)


@given(sizes(10).flatmap(lambda size: st.tuples(st.just(size), predictions(size))))
def test_coco_and_geojson_describe_the_same_objects(drawn: tuple) -> None:
    size, found = drawn
    instances = Instances(found, size=size)
    coco = json.loads(json.dumps(instances.to_coco(7, {1: 10, 2: 5, 3: 2**40})))
    geojson = json.loads(json.dumps(instances.to_geojson()))
    assert len(coco) == len(geojson["features"]) == len(found)
    for one, row, feature in zip(found, coco, geojson["features"], strict=True):
        code = rle_tools.frPyObjects(row["segmentation"], *size)
        assert row["area"] == int(rle_tools.area(code)) == one.area
        assert row["bbox"] == rle_tools.toBbox(code).tolist()
        assert (row["image_id"], row["category_id"]) == (7, {1: 10, 2: 5, 3: 2**40}[one.class_id])
        assert feature["properties"].keys() == _NAMES
        geometry = feature["geometry"]
        parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        area = 0
        for ring in itertools.chain.from_iterable(parts):  # inner rings run the other way
            assert ring[0] == ring[-1]
            assert len({tuple(corner) for corner in ring}) == len(ring) - 1
            assert all(0 <= x <= size[1] and 0 <= y <= size[0] for x, y in ring)
            area += sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) / 2
        assert area == _filled(one.mask).sum()


@given(sizes(8).flatmap(lambda size: st.tuples(st.just(size), st.lists(masks_of(size), max_size=5))))
def test_label_maps_give_a_shared_pixel_to_one_object(drawn: tuple) -> None:
    size, shapes = drawn
    found = [instance(mask, step=step) for step, mask in enumerate(shapes)]
    earliest, latest = (to_label_map(found, size, overlap=overlap) for overlap in ("earliest", "latest"))
    claims = np.array([mask * number for number, mask in enumerate(shapes, start=1)]).reshape(-1, *size)  # (n, H, W)
    lowest = np.where(claims > 0, claims, len(shapes) + 1).min(axis=0, initial=len(shapes) + 1)
    np.testing.assert_array_equal(earliest, np.where(lowest > len(shapes), 0, lowest))
    np.testing.assert_array_equal(latest, claims.max(axis=0, initial=0))
    closed, numbers = close_gaps(earliest, len(found))
    assert sorted(set(np.unique(closed).tolist()) - {0}) == list(range(1, max(numbers, default=0) + 1))
    for old, new in enumerate(numbers, start=1):
        np.testing.assert_array_equal(closed == new if new else np.zeros(size, bool), earliest == old)


@given(masks())
def test_a_mask_of_another_type_is_refused(mask: np.ndarray) -> None:
    for wrong in (mask.astype(np.uint8), mask[None], mask.tolist()):
        with pytest.raises(InputError, match="Received: "):
            to_rle(wrong)
