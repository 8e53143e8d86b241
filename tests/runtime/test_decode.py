"""Decoding: from probabilities to instances, and instances in the forms other programs read."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from rsis_tf.runtime import Instance, RuntimeInputError, decode, resize_image
from rsis_tf.shapes import to_label_map, to_polygons, to_rle

NAMES = ("background", "leaf", "stone")


def _steps(*objectness: float) -> dict:
    """Masks of one pixel each: step t fills pixel t of the first row of a 4x4 mask."""
    masks = np.zeros((len(objectness), 4, 4), np.float32)
    masks[np.arange(len(objectness)), 0, np.arange(len(objectness))] = 1
    classes = np.tile(np.array([0.6, 0.1, 0.3], np.float32), (len(objectness), 1))
    return {"masks": masks, "classes": classes, "stop": np.array(objectness, np.float32)}


def _decode(outputs: dict, **options) -> list[Instance]:
    return decode(**{"size": (4, 4), "class_names": NAMES, **outputs, **options})


def test_sequence_ends_at_the_first_step_below_the_threshold():
    outputs = _steps(0.9, 0.5, 0.49, 0.8)
    assert [instance.step for instance in _decode(outputs)] == [0, 1]
    assert [instance.step for instance in _decode(outputs, stop_mode="each")] == [0, 1, 3]
    assert [instance.step for instance in _decode(outputs, stop_threshold=0.85)] == [0]
    assert [instance.step for instance in _decode(outputs, stop_threshold=0.0)] == [0, 1, 2, 3]


def test_instance_holds_the_best_object_class_and_its_score():
    (instance,) = _decode(_steps(0.8))  # background is likelier, but the step does hold an object
    assert (instance.class_id, instance.class_name) == (2, "stone")
    assert instance.score == pytest.approx(0.3 * 0.8, rel=1e-6)
    assert instance.objectness == pytest.approx(0.8, rel=1e-6)
    assert instance.class_probs.dtype == np.float32
    np.testing.assert_allclose(instance.class_probs, [0.6, 0.1, 0.3], rtol=1e-6)
    assert instance.mask.dtype == bool
    assert np.argwhere(instance.mask).tolist() == [[0, 0]]


def test_class_without_a_name_is_numbered():
    (instance,) = _decode(_steps(0.8), class_names=())
    assert instance.class_name == "class 2"


def test_masks_come_at_the_size_of_the_picture():
    outputs = _steps(0.9)
    outputs["masks"][:] = 0
    outputs["masks"][0, :, :2] = 1  # left half
    (wide,) = _decode(outputs, size=(6, 40))
    assert wide.mask.shape == (6, 40)
    assert wide.mask[:, :20].all()
    assert not wide.mask[:, 20:].any()
    (small,) = _decode(outputs, size=(2, 2))
    assert small.mask.tolist() == [[True, False], [True, False]]
    (dot,) = _decode(outputs, size=(1, 1))  # mean 0.5, and the threshold belongs to the object
    assert dot.mask.tolist() == [[True]]


def test_mask_threshold_belongs_to_the_object():
    outputs = _steps(0.9)
    outputs["masks"][0, 1, 1] = 0.25
    (instance,) = _decode(outputs, mask_threshold=0.25)
    assert instance.mask.sum() == 2


def test_empty_mask_is_dropped_and_the_sequence_goes_on():
    outputs = _steps(0.9, 0.9, 0.9)
    outputs["masks"][1] = 0.4
    assert [instance.step for instance in _decode(outputs)] == [0, 2]


@pytest.mark.parametrize("stop_mode", ["first", "each"])
def test_not_a_number_is_no_object(stop_mode: str):
    assert [instance.step for instance in _decode(_steps(0.9, np.nan), stop_mode=stop_mode)] == [0]


def test_half_precision_decodes_as_float32():
    outputs = {name: value.astype(np.float16) for name, value in _steps(0.9).items()}
    (instance,) = _decode(outputs, size=(9, 9))
    assert instance.class_probs.dtype == np.float32
    assert instance.mask.shape == (9, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop": np.ones(3)}, "(1, 4, 4), (1, 3) and (3,)"),
        ({"masks": np.ones((4, 4))}, "(4, 4), (1, 3) and (1,)"),
        ({"class_names": ("background", "leaf")}, "2 names, 3 classes"),
        ({"stop_mode": "never"}, "Received: 'never'"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict, message: str):
    with pytest.raises(RuntimeInputError) as error:
        _decode({**_steps(0.9), **change})
    assert message in str(error.value)


def test_resizing_is_antialiased_and_keeps_the_same_size_untouched():
    stripes = np.zeros((4, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_allclose(resize_image(stripes, (4, 40)), 100, atol=3)  # sampling alone would give 0 or 200
    assert resize_image(stripes, (4, 400)) is stripes
    assert resize_image(np.full((1, 1, 3), 7, np.uint8), (3, 5)).tolist() == np.full((3, 5, 3), 7).tolist()


def _instance(mask: np.ndarray) -> Instance:
    return Instance(
        mask=mask,
        class_id=1,
        class_name="leaf",
        score=1.0,
        step=0,
        objectness=1.0,
        class_probs=np.array([0, 1], np.float32),
    )


def test_label_map_gives_shared_pixels_to_the_first():
    first, second = np.zeros((2, 3), bool), np.zeros((2, 3), bool)
    first[0], second[:, 1] = True, True
    labels = to_label_map([_instance(first), _instance(second)], (2, 3))
    assert labels.tolist() == [[1, 1, 1], [0, 2, 0]]
    assert labels.dtype == np.int32
    assert to_label_map([], (1, 2)).tolist() == [[0, 0]]
    with pytest.raises(RuntimeInputError, match=r"Received: \(2, 3\)"):
        to_label_map([_instance(first)], (3, 2))


def test_rle_counts_down_the_columns():
    mask = np.array([[0, 1, 0], [0, 1, 1]], bool)
    assert to_rle(mask) == {"size": [2, 3], "counts": [2, 2, 1, 1]}
    assert to_rle(~mask) == {"size": [2, 3], "counts": [0, 2, 2, 1, 1]}
    with pytest.raises(RuntimeInputError, match="uint8"):
        to_rle(mask.astype(np.uint8))


def test_polygon_corners_of_a_rectangle_run_clockwise_from_the_top_left():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (polygon,) = to_polygons(mask)
    assert polygon.tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]


def test_polygons_leave_holes_out_and_part_at_corners():
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
def test_pycocotools_reads_both_forms_back_as_the_same_mask(seed: int):
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
    """Whether background pixels lead from `start` to the edge of the picture, by sides and corners."""
    parts, _ = ndimage.label(np.pad(background, 1, constant_values=True), structure=np.ones((3, 3)))
    return bool((parts[1:-1, 1:-1][start] == parts[0, 0]).any())
