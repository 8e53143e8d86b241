import dataclasses

import numpy as np
import pytest
from dataset_files import made_sample, photo

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import (
    Augmentation,
    jitter_colour,
    quarter_turn_matrix,
    random_matrix,
    resize_matrix,
    warp_image,
    warp_labels,
)
from rsis_tf.data.pipeline import prepare
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError

STILL = Augmentation(flip=0, rotation=0, translation=0, shear=0, zoom=(1, 1))


def matrix(size=(8, 12), seed=0, **changes) -> np.ndarray:
    return random_matrix(size, dataclasses.replace(STILL, **changes), np.random.default_rng(seed))


def test_without_any_range_nothing_changes():
    image = photo(8, 12)
    np.testing.assert_array_equal(matrix(), np.eye(3))
    np.testing.assert_array_equal(warp_image(image, matrix(), (8, 12)), image)


def test_a_flip_mirrors_picture_and_labels():
    image, labels = photo(8, 12), np.arange(96, dtype=np.int32).reshape(8, 12)
    np.testing.assert_array_equal(warp_image(image, matrix(flip=1), (8, 12)), image[:, ::-1])
    np.testing.assert_array_equal(warp_labels(labels, matrix(flip=1), (8, 12)), labels[:, ::-1])


def test_a_shift_by_whole_pixels_moves_picture_and_labels_and_leaves_black_background():
    image, labels = photo(8, 12) | 1, np.ones((8, 12), np.int32)
    shift = np.eye(3)
    shift[:2, 2] = (3, -2)  # what stood 3 to the right and 2 above
    moved, moved_labels = warp_image(image, shift, (8, 12)), warp_labels(labels, shift, (8, 12))
    np.testing.assert_array_equal(moved[2:, :9], image[:-2, 3:])
    np.testing.assert_array_equal(moved_labels[2:, :9], 1)
    assert not moved[:2].any()
    assert not moved[:, 9:].any()
    assert moved_labels.sum() == 6 * 9


def test_zoom_below_one_enlarges():
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    assert warp_labels(labels, matrix((40, 40), zoom=(0.5, 0.5)), (40, 40)).sum() == 40 * 40


def test_draws_stay_in_their_ranges():
    height, width = 100, 200
    angles, shifts, areas = [], [], []
    for seed in range(300):
        turn = matrix((height, width), seed, rotation=10)
        angles.append(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))
        np.testing.assert_allclose(turn @ [100, 50, 1], [100, 50, 1])  # about the centre
        move = matrix((height, width), seed, translation=0.1)
        shifts.append(move[:2, 2] / (width, height))
        areas.append(np.linalg.det(matrix((height, width), seed, zoom=(0.7, 1.0))))
    assert -10 <= min(angles) < -8
    assert 8 < max(angles) <= 10
    assert np.all(np.abs(shifts) <= 0.1)
    assert np.all(np.abs(shifts).max(0) > 0.08)
    assert 0.49 <= min(areas) < 0.6
    assert 0.9 < max(areas) <= 1


def test_labels_move_with_the_picture():
    # The picture shows its own labels, so after any warp it must still do so away from the edges of the objects.
    labels = np.zeros((96, 128), np.int32)
    labels[20:60, 30:70], labels[50:90, 80:120] = 1, 2
    image = np.repeat((labels * 100).astype(np.uint8)[..., None], 3, -1)
    config = DataConfig(image_size=(64, 64))
    for seed in range(20):
        warped, label_map, classes, valid = prepare(
            made_sample(labels, [1, 2], image), config, np.random.default_rng(seed)
        )
        order = np.array([0, *classes[: valid.sum()]])
        flat = np.ones_like(label_map, bool)
        for axis in (0, 1):
            for step in (-1, 1):
                flat &= np.roll(label_map, step, axis) == label_map
        flat[[0, -1]] = flat[:, [0, -1]] = False
        np.testing.assert_allclose(warped[flat][:, 0], 100 * order[label_map[flat]], atol=30)


def test_labels_are_never_mixed_and_void_is_carried_through():
    labels = np.full((64, 64), VOID, np.int32)
    labels[16:48, 16:48] = 5
    warped = warp_labels(labels, matrix((64, 64), rotation=10, shear=0.1, zoom=(0.7, 1.0)), (48, 48))
    assert set(np.unique(warped)) == {VOID, 5}


def test_shrinking_averages_instead_of_picking_pixels():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(board.astype(np.uint8)[..., None], 3, -1)
    small = warp_image(image, resize_matrix((64, 64), (16, 16)), (16, 16))
    np.testing.assert_allclose(small, 127.5, atol=1)


def test_enlarging_keeps_the_corners_in_place():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 200
    large = warp_image(image, resize_matrix((4, 4), (16, 16)), (16, 16))
    assert large[1, 1].tolist() == [200] * 3
    assert not large[8:, 8:].any()


def test_colour_jitter():
    image = photo(16, 16)
    rng = np.random.default_rng(0)
    assert jitter_colour(image, Augmentation(), rng) is image
    changed = jitter_colour(image, Augmentation(colour=0.3), rng)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)


@pytest.mark.parametrize("bad", [{"zoom": (0, 1)}, {"zoom": (1.0, 0.7)}, {"flip": 2}, {"colour": 1}])
def test_impossible_ranges_are_refused(bad):
    with pytest.raises(InputError, match="Received"):
        Augmentation(**bad)


def test_quarter_turns_are_those_of_the_picture():
    image = photo(8, 8)
    turns = {np.rot90(image, k).tobytes() for k in range(4)}
    drawn = {
        warp_image(image, quarter_turn_matrix((8, 8), np.random.default_rng(seed)), (8, 8)).tobytes()
        for seed in range(30)
    }
    assert drawn == turns


def test_a_picture_that_is_not_square_is_turned_upside_down_at_most():
    image = photo(8, 12)
    turns = {image.tobytes(), np.rot90(image, 2).tobytes()}
    drawn = {
        warp_image(image, quarter_turn_matrix((8, 12), np.random.default_rng(seed)), (8, 12)).tobytes()
        for seed in range(20)
    }
    assert drawn == turns
