"""Results: a sequence of instances, its arrays, and the forms that other programs read."""

import collections.abc
import dataclasses
import json
import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from rsis_tf.runtime import (
    PALETTE,
    CroppedMask,
    InputError,
    Instance,
    Instances,
    close_gaps,
    compact,
    to_label_map,
    to_polygons,
    to_rle,
)

NAMES = ("background", "leaf", "flower")


def _instance(mask: np.ndarray, class_id: int = 1, step: int = 0) -> Instance:
    return Instance(
        mask=mask,
        class_id=class_id,
        class_name=NAMES[class_id],
        score=0.8 - 0.1 * step,
        step=step,
        objectness=0.9,
        class_probs=np.eye(3, dtype=np.float32)[class_id],
    )


def _found() -> Instances:
    """Two leaves and a flower in an image of 6x9; the second object covers a part of the first."""
    masks = np.zeros((3, 6, 9), bool)
    masks[0, 1:3, 2:5] = masks[1, 2:5, 4:6] = masks[2, 5, 0] = True
    return Instances([_instance(mask, 1 + (step == 2), step) for step, mask in enumerate(masks)], size=(6, 9))


def test_instances_are_a_sequence():
    found = _found()
    assert isinstance(found, collections.abc.Sequence)
    assert [instance.step for instance in found] == [0, 1, 2]
    assert (len(found), found[-1].class_name, found[0] in found) == (3, "flower", True)
    assert found == list(found)
    assert found == tuple(found)
    assert found != list(found)[::-1]
    assert isinstance(found[1:], Instances)
    assert found[1:] == [found[1], found[2]]
    assert found[:0] == []
    assert not found[:0]
    assert found.filter(lambda one: one.class_name == "leaf") == found[:2]
    with pytest.raises(InputError, match=r"masks of the size \(6, 8\)\. Received: \(6, 9\)"):
        Instances(found, size=(6, 8))


def test_arrays_of_all_objects():
    found = _found()
    assert found.size == (6, 9)
    assert found.boxes.tolist() == [[2, 1, 5, 3], [4, 2, 6, 5], [0, 5, 1, 6]]
    assert found.class_ids.tolist() == [1, 1, 2]
    assert found.class_names == ("leaf", "leaf", "flower")
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.6], rtol=1e-6)
    assert found.masks[0].sum() == found[0].area == 6
    empty = found[:0]
    for instances, n in ((found, 3), (empty, 0)):
        assert (instances.boxes.shape, instances.boxes.dtype) == ((n, 4), np.float32)
        assert (instances.masks.shape, instances.masks.dtype) == ((n, 6, 9), bool)
        assert instances.scores.shape == instances.class_ids.shape == (n,)


def test_reprs_are_short():
    assert repr(_found()) == "Instances(3: 2 leaf, 1 flower; 6x9)"
    assert repr(_found()[:0]) == "Instances(0; 6x9)"
    assert repr(_found()[2]) == "Instance(flower, score 0.60, step 2, 1 pixels)"


def test_coco_annotations_are_read_by_pycocotools():
    found = _found()
    rows = found.to_coco(image_id=7, category_ids=(0, 30, 10))
    assert json.loads(json.dumps(rows)) == rows
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(7, 30), (7, 30), (7, 10)]
    assert [row["bbox"] for row in rows] == [[2, 1, 3, 2], [4, 2, 2, 3], [0, 5, 1, 1]]
    for row, instance in zip(rows, found, strict=True):
        mask = coco_mask.decode(coco_mask.frPyObjects(row["segmentation"], 6, 9))
        np.testing.assert_array_equal(mask.astype(bool), instance.mask)
        assert row["area"] == instance.mask.sum()
    assert [row["category_id"] for row in found.to_coco()] == [1, 1, 2]


def test_geojson_rings_are_closed_and_parts_are_kept():
    two_parts = np.zeros((4, 6), bool)
    two_parts[0, 0] = two_parts[2:, 3:] = True
    nothing = np.zeros((4, 6), bool)
    masks = (two_parts, two_parts & (np.arange(6) > 2), nothing)
    found = Instances(map(_instance, masks), size=(4, 6))
    content = json.loads(json.dumps(found.to_geojson()))
    assert content["type"] == "FeatureCollection"
    several, one, none = [feature["geometry"] for feature in content["features"]]
    square = [[3, 2], [6, 2], [6, 4], [3, 4], [3, 2]]
    assert several == {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]], [square]]}
    assert one == {"type": "Polygon", "coordinates": [square]}
    assert none is None
    assert content["features"][0]["properties"] == {"class_id": 1, "class_name": "leaf", "score": 0.8, "step": 0}


def test_pandas_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"^to_pandas needs pandas: pip install pandas\. Received: ") as caught:
        _found().to_pandas()
    assert "\n" not in str(caught.value)


def test_a_data_frame_has_a_row_for_each_object():
    pytest.importorskip("pandas")
    table = _found().to_pandas()
    assert table["class_name"].tolist() == ["leaf", "leaf", "flower"]
    assert table[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[2, 1, 5, 3], [4, 2, 6, 5], [0, 5, 1, 6]]
    assert table["area"].tolist() == [6, 6, 1]
    assert _found()[:0].to_pandas().shape == (0, 10)


def test_plot_tints_objects_and_keeps_the_rest():
    image = np.full((200, 300, 3), 90, np.uint8)
    masks = np.zeros((2, 200, 300), bool)
    masks[0, 60:160, 40:140] = masks[1, 60:160, 120:260] = True
    found = Instances([_instance(mask, 1, step) for step, mask in enumerate(masks)], size=(200, 300))
    drawn = found.plot(image)
    assert (drawn.shape, drawn.dtype) == ((200, 300, 3), np.uint8)
    for point, step in (((120, 60), 0), ((120, 130), 0), ((120, 200), 1)):  # shared pixels belong to the earlier one
        assert drawn[point] == pytest.approx(np.rint(0.6 * 90 + 0.4 * np.array(PALETTE[step])), abs=1)
    assert tuple(drawn[159, 60]) == PALETTE[0]  # the outline
    assert (drawn[180:] == 90).all()
    assert (image == 90).all()
    assert (found[:0].plot(image) == image).all()
    with pytest.raises(InputError, match=r"the size \(200, 300\)\. Received: \(200, 299\)"):
        found.plot(image[:, 1:])


def test_masks_are_stored_as_crops():
    mask = np.zeros((4000, 5000), bool)
    mask[1000:1003, 4000:4010] = True
    instance = _instance(mask)
    assert instance.cropped.crop.shape == (3, 10)
    assert instance.cropped.crop.base is None  # no view that keeps the large array
    assert len(pickle.dumps(instance)) < 5000
    np.testing.assert_array_equal(instance.mask, mask)
    instance.mask[:] = False  # a new array each time
    assert instance.area == 30
    later = dataclasses.replace(instance, step=3)
    assert (later.step, later.box) == (3, (4000, 1000, 4010, 1003))
    with pytest.raises(dataclasses.FrozenInstanceError):
        instance.mask = mask  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"\(H, W\) bool array\. Received: shape \(3,\)"):
        _instance(np.ones(3, bool))


@pytest.mark.parametrize("corner", [(0, 0), (5, 0), (0, 3), (5, 3)])
def test_a_crop_gives_what_the_full_mask_gives(corner):
    x, y = corner
    crop = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]], bool)
    mask = np.zeros((6, 9), bool)
    mask[y : y + 3, x : x + 4] = crop
    one, other = _instance(CroppedMask(crop=crop, corner=corner, size=(6, 9))), _instance(mask)
    found, wanted = Instances([one], size=(6, 9)), Instances([other], size=(6, 9))
    np.testing.assert_array_equal(one.mask, mask)
    assert (one.box, one.area) == (other.box, other.area)
    assert found.to_coco() == wanted.to_coco()
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    uncompressed = found.to_coco()[0]["segmentation"]
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.frPyObjects(uncompressed, 6, 9)), coco_mask.decode(code))
    assert found.to_geojson() == wanted.to_geojson()
    np.testing.assert_array_equal(found.to_label_map(), mask.astype(np.int32))
    image = np.full((6, 9, 3), 90, np.uint8)
    np.testing.assert_array_equal(found.plot(image), wanted.plot(image))
    np.testing.assert_array_equal(one.cropped.moved(0, 2, (8, 9)).full()[2:], mask)
    assert one.cropped.moved(20, 0, (6, 9)).area == 0


def test_plot_fits_into_a_tiny_image():
    assert _found().plot(np.zeros((6, 9), np.uint8)).shape == (6, 9, 3)


def test_save_chooses_the_format_by_the_suffix(tmp_path):
    found, image = _found(), np.full((6, 9, 3), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.bmp")
    for name, drawn_on in (("labels.png", None), ("overlay.png", image), ("found.geojson", None)):
        found.save(tmp_path / name, drawn_on)
    found.save(str(tmp_path / "coco.json"), tmp_path / "photo.bmp")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels.png")), found.to_label_map())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "overlay.png")), found.plot(image))
    assert json.loads((tmp_path / "found.geojson").read_text(encoding="utf-8")) == found.to_geojson()
    stored = COCO(str(tmp_path / "coco.json"))
    assert stored.imgs[1]["file_name"] == "photo.bmp"
    assert {number: row["name"] for number, row in stored.cats.items()} == {1: "leaf", 2: "flower"}
    np.testing.assert_array_equal(stored.annToMask(stored.anns[2]).astype(bool), found[1].mask)
    assert len(list(tmp_path.iterdir())) == 5


def _geometry(mask: np.ndarray) -> list[list]:
    geometry = Instances([_instance(mask)], size=mask.shape).to_geojson()["features"][0]["geometry"]
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]


def test_geojson_has_no_part_in_a_filled_hole_and_no_ring_that_touches_itself():
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    dot = ring.copy()
    dot[4, 4] = True
    assert _geometry(dot) == _geometry(ring) == [[[[1, 1], [8, 1], [8, 8], [1, 8], [1, 1]]]]
    beside = ring.copy()
    beside[8, 8] = True  # touches at a corner
    assert len(_geometry(beside)) == 2
    pinched = np.ones((3, 3), bool)
    pinched[1, 1] = pinched[0, 0] = False  # the hole reaches the outside at a corner
    ((outer, inner),) = _geometry(pinched)
    assert sorted(map(tuple, inner[1:])) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert outer.count([1, 1]) == 1
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = ndimage.gaussian_filter(rng.normal(size=(24, 24)), 1.2) > 0.05
        area = 0
        for rings in _geometry(mask):
            for *corners, last in rings:
                assert corners[0] == last
                assert len({tuple(corner) for corner in corners}) == len(corners)
                x, y = np.array(corners).T
                area += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2  # inner rings run the other way
        # A hole that reaches the outside at a corner is none.
        assert area == ndimage.binary_fill_holes(mask, structure=np.ones((3, 3))).sum()


def test_label_maps_of_many_objects_have_16_bits(tmp_path):
    numbers = np.arange(300).reshape(15, 20)
    Instances([_instance(numbers == i) for i in range(300)], size=(15, 20)).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels.png")), numbers + 1)


@pytest.mark.parametrize("name", ["labels.jpg", "labels.gif", "labels", "nowhere/labels.png"])
def test_files_that_cannot_be_saved_are_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"Received: .*{name}"):
        _found().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "size"), [("wide.webp", (10, 17_000)), ("wide.jpg", (10, 66_000))])
def test_a_drawing_that_a_format_cannot_hold_is_refused(tmp_path, name, size):
    found = Instances([_instance(np.ones(size, bool))], size=size)
    with pytest.raises(InputError, match=rf"a format that can hold the image\. Received: .*{name} \("):
        found.save(tmp_path / name, np.zeros(size, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_of_a_file_is_saved(tmp_path):
    name = "y" * 251 + ".png"
    _found().save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_label_map_holds_65535_objects():
    labels = np.arange(65_536, dtype=np.int32).reshape(256, 256)
    assert compact(labels).dtype == np.uint16
    with pytest.raises(InputError, match=r"at most 65535 objects .* Received: 65536"):
        compact(labels + 1)


def test_instances_can_be_pickled():
    found = pickle.loads(pickle.dumps(_found()))
    assert repr(found) == repr(_found())
    np.testing.assert_array_equal(found.masks, _found().masks)


def test_gaps_of_a_label_map_are_closed():
    labels, numbers = close_gaps(np.array([[0, 3, 3], [1, 0, 5]], np.int32), 5)
    assert labels.tolist() == [[0, 2, 2], [1, 0, 3]]
    assert numbers == [1, 0, 2, 0, 3]


def test_label_map_gives_shared_pixels_to_the_earliest_or_the_latest():
    first, second = np.zeros((2, 3), bool), np.zeros((2, 3), bool)
    first[0], second[:, 1] = True, True
    labels = to_label_map([_instance(first), _instance(second)], (2, 3))
    assert labels.tolist() == [[1, 1, 1], [0, 2, 0]]
    assert labels.dtype == np.int32
    latest = to_label_map([_instance(first), _instance(second)], (2, 3), overlap="latest")
    assert latest.tolist() == [[1, 2, 1], [0, 2, 0]]
    assert to_label_map([], (1, 2)).tolist() == [[0, 0]]
    with pytest.raises(InputError, match=r"Received: \(2, 3\)"):
        to_label_map([_instance(first)], (3, 2))


def test_rle_counts_down_the_columns():
    mask = np.array([[0, 1, 0], [0, 1, 1]], bool)
    assert to_rle(mask) == {"size": [2, 3], "counts": [2, 2, 1, 1]}
    assert to_rle(~mask) == {"size": [2, 3], "counts": [0, 2, 2, 1, 1]}
    with pytest.raises(InputError, match="uint8"):
        to_rle(mask.astype(np.uint8))


def test_polygon_corners_of_a_rectangle_run_clockwise_from_the_top_left():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (polygon,) = to_polygons(mask)
    assert polygon.tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]


def test_polygons_have_no_holes_and_separate_at_corners():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert [polygon.tolist() for polygon in to_polygons(ring)] == [[[0, 0], [3, 0], [3, 3], [0, 3]]]
    diagonal = np.eye(2, dtype=bool)
    assert [polygon.tolist() for polygon in to_polygons(diagonal)] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]
    assert to_polygons(np.zeros((2, 2), bool)) == []


@pytest.mark.parametrize("seed", range(20))
def test_pycocotools_reads_the_same_mask_from_both_forms(seed: int):
    rng = np.random.default_rng(seed)
    mask = np.zeros((17, 13), bool)
    for _ in range(3):
        top, left = rng.integers(0, 10, 2)
        mask[top : top + rng.integers(1, 7), left : left + rng.integers(1, 5)] = True
    rle = to_rle(mask)
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.frPyObjects(rle, *mask.shape)).astype(bool), mask)
    filled = np.zeros_like(mask)
    for polygon in to_polygons(mask):
        flat = polygon.astype(float).ravel().tolist()
        filled |= coco_mask.decode(coco_mask.frPyObjects([flat], *mask.shape)[0]).astype(bool)
    holes = filled & ~mask
    assert not (mask & ~filled).any()
    assert not _reaches_the_border(~mask, holes)


def _reaches_the_border(background: np.ndarray, start: np.ndarray) -> bool:
    """Tells whether background pixels connect `start` with the edge of the image, by sides and corners."""
    parts, _ = ndimage.label(np.pad(background, 1, constant_values=True), structure=np.ones((3, 3)))
    return bool((parts[1:-1, 1:-1][start] == parts[0, 0]).any())
