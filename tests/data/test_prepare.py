"""One sample at the size of the batches."""

import dataclasses

import numpy as np
import pytest
from dataset_files import noise, sample_of

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import STILL
from rsis_tf.data.prepare import prepare
from rsis_tf.data.sample import VOID
from rsis_tf.data.warp import resize_matrix, warp_image

TINY = DataConfig(image_size=(8, 8), max_objects=3)


def test_objects_are_sorted_by_area_and_the_largest_kept():
    label_map = np.zeros((8, 8), np.int32)
    label_map[0, :2], label_map[1:3], label_map[3, :5], label_map[4, :3] = 1, 2, 3, 4  # 2, 16, 5 and 3 pixels
    label_map[7] = VOID
    image, prepared, classes, valid = prepare(sample_of(label_map, [11, 12, 13, 14]), TINY, None)
    assert image.shape == (8, 8, 3)
    assert classes.tolist() == [12, 13, 14]
    assert valid.tolist() == [1, 1, 1]
    assert [(prepared == number).sum() for number in (VOID, 0, 1, 2, 3)] == [8 + 2, 64 - 8 - 26, 16, 5, 3]
    assert prepared[1, 0] == 1
    assert prepared[0, 0] == VOID  # the smallest of four becomes void


def test_equal_areas_keep_the_order_of_the_dataset():
    label_map = np.zeros((8, 8), np.int32)
    label_map[0, 0], label_map[1, 0], label_map[2, 0] = 3, 1, 2
    _, prepared, classes, _ = prepare(sample_of(label_map, [7, 8, 9]), TINY, None)
    assert classes.tolist() == [7, 8, 9]
    assert prepared[:3, 0].tolist() == [3, 1, 2]


def test_objects_that_lose_all_pixels_in_resizing_are_dropped():
    label_map = np.zeros((32, 32), np.int32)
    label_map[0, 0], label_map[8:24, 8:24] = 1, 2  # resizing takes pixels 2, 6, 10 … of each axis
    _, prepared, classes, valid = prepare(sample_of(label_map, [5, 6]), TINY, None)
    assert classes.tolist() == [6, 0, 0]
    assert valid.tolist() == [1, 0, 0]
    assert (prepared == 1).sum() == 16


def test_an_image_without_objects():
    _, prepared, classes, valid = prepare(sample_of(np.zeros((8, 8)), []), TINY, None)
    assert not prepared.any()
    assert not classes.any()
    assert not valid.any()


def test_labels_move_with_the_image():
    # The image shows its own labels, so it must still show them after any warp, except near the edges of the objects.
    labels = np.zeros((96, 128), np.int32)
    labels[20:60, 30:70], labels[50:90, 80:120] = 1, 2
    image = np.repeat((labels * 100).astype(np.uint8)[..., None], 3, -1)
    config = DataConfig(image_size=(64, 64))
    for seed in range(20):
        warped, label_map, classes, valid = prepare(
            sample_of(labels, [1, 2], image), config, np.random.default_rng(seed)
        )
        order = np.array([0, *classes[: valid.sum()]])
        flat = np.ones_like(label_map, bool)
        for axis in (0, 1):
            for step in (-1, 1):
                flat &= np.roll(label_map, step, axis) == label_map
        flat[[0, -1]] = flat[:, [0, -1]] = False
        np.testing.assert_allclose(warped[flat][:, 0], 100 * order[label_map[flat]], atol=30)


def test_the_border_of_a_configuration_applies_to_image_and_labels():
    everywhere = np.ones((32, 32), np.int32)
    sample = sample_of(everywhere, [1], np.full((32, 32, 3), 200, np.uint8))
    config = DataConfig(image_size=(32, 32), zoom=(1.5, 1.5))
    image, label_map, _, _ = prepare(sample, config, np.random.default_rng(0))
    assert (label_map == 0).sum() > 200
    assert (image == 0).all(-1).sum() > 200
    replicated = dataclasses.replace(config, border="replicate")
    image, label_map, _, _ = prepare(sample, replicated, np.random.default_rng(0))
    assert (label_map == 1).all()
    assert (image == 200).all()


@pytest.mark.parametrize("source", [(40, 90), (90, 40), (50, 50), (17, 23)])
def test_a_crop_is_the_largest_undistorted_part_at_a_random_position(source):
    rows, columns = np.indices(source)
    image = np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)
    config = DataConfig(image_size=(16, 32), crop=True, augment=False)
    corners = []
    for seed in range(60):
        cropped, label_map, _, _ = prepare(
            sample_of(np.ones(source), [1], image), config, np.random.default_rng(seed), STILL
        )
        assert (label_map == 1).all()
        down = (cropped[-2, 5, 0].astype(float) - cropped[1, 5, 0]) / 13
        right = (cropped[5, -2, 1].astype(float) - cropped[5, 1, 1]) / 29
        scale = min(source[0] / 16, source[1] / 32)
        np.testing.assert_allclose([down, right], scale, atol=0.12)
        corners.append(cropped[0, 0, :2])
    spread = np.ptp(np.array(corners).astype(int), axis=0)
    free = np.array(source) - np.array([16, 32]) * min(source[0] / 16, source[1] / 32)
    np.testing.assert_allclose(spread, free, atol=0.12 * max(source) + 1)


def test_a_crop_of_the_whole_shape_is_the_whole_image():
    # Cityscapes at half its size: the original code without --resize and --crop.
    image = noise(64, 128)
    cropped = prepare(
        sample_of(np.ones((64, 128)), [1], image), DataConfig(image_size=(32, 64), crop=True),
        np.random.default_rng(0), STILL,
    )[0]  # fmt: skip
    np.testing.assert_array_equal(cropped, warp_image(image, resize_matrix((64, 128), (32, 64)), (32, 64)))
