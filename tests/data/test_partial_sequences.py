"""Training sequences in which some objects count as found."""

import numpy as np

from rsis_tf.config import DataConfig
from rsis_tf.data.partial_sequences import draw_partial_sequence, middle_points
from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.sample import VOID

SCENES = SyntheticDataset(size=(32, 32), length=6, seed=1, max_objects=4)


def test_objects_keep_their_pixels_and_classes_and_any_number_may_be_left():
    label_map = np.array([[VOID, 0, 1, 1], [2, 2, 3, 0]], np.int32)
    classes = np.array([7, 8, 9, 0, 0], np.int32)
    left = set()
    for seed in range(60):
        labels, shuffled, remaining = draw_partial_sequence(label_map, classes, 3, np.random.default_rng(seed))
        left.add(remaining)
        assert np.array_equal(labels == VOID, label_map == VOID)
        assert np.array_equal(labels == 0, label_map == 0)
        for pixel in zip(*np.nonzero(label_map > 0), strict=True):
            assert shuffled[labels[pixel] - 1] == classes[label_map[pixel] - 1]
        assert shuffled[3:].tolist() == [0, 0]
    assert left == {0, 1, 2, 3}


def test_an_image_without_objects_stays_as_it_is():
    rng = np.random.default_rng(0)
    labels, classes, remaining = draw_partial_sequence(np.zeros((2, 2), np.int32), np.zeros(3, np.int32), 0, rng)
    assert (labels.sum(), classes.sum(), remaining) == (0, 0, 0)


def test_both_pipelines_mark_the_same_objects_as_found():
    config = DataConfig(image_size=(32, 32), batch_size=3, max_objects=4, partial_sequences=1.0)
    plain = list(plain_batches(SCENES, config, training=True, epoch=2))
    for (x, y), (tf_x, tf_y) in zip(plain, tf_batches(SCENES, config, training=True, epoch=2), strict=True):
        for name in x:
            np.testing.assert_array_equal(x[name], tf_x[name])
        for name in y:
            np.testing.assert_array_equal(y[name], tf_y[name])
        for found, masks, remaining in zip(x["found"], y["masks"], y["remaining"], strict=True):
            np.testing.assert_array_equal(found, masks[remaining:].sum(0))
    assert any(x["found"].any() for x, _ in plain)


def test_validation_has_whole_sequences():
    config = DataConfig(image_size=(32, 32), batch_size=3, max_objects=4, partial_sequences=1.0)
    images, targets = next(plain_batches(SCENES, config, training=False))
    assert images.shape == (3, 32, 32, 3)
    assert "remaining" not in targets


def test_the_point_of_a_found_object_is_its_pixel_nearest_to_the_centre_of_mass():
    label_map = np.zeros((9, 9), np.int32)
    label_map[0, 0] = 1  # left to find
    label_map[2:7, 2:7] = 2
    label_map[4, 4] = 0  # the centre of object 2 is a hole
    label_map[8, 3:8] = VOID
    label_map[7, 8] = 4  # object 3 has no pixels
    points = middle_points(label_map, 1, 5)
    assert points.dtype == np.int32
    assert points.shape == (5, 2)
    assert points[[0, 2, 4]].tolist() == [[-1, -1]] * 3
    assert points[3].tolist() == [7, 8]
    assert label_map[tuple(points[1])] == 2
    assert np.abs(points[1] - 4).sum() == 1
    assert (middle_points(label_map, 4, 5) == -1).all()


def test_found_objects_have_either_a_true_mask_or_points():
    config = DataConfig(image_size=(32, 32), batch_size=3, max_objects=4, partial_sequences=1.0, found_by_votes=0.5)
    kinds = set()
    for epoch in range(4):
        plain = plain_batches(SCENES, config, training=True, epoch=epoch)
        for (x, y), (tf_x, _) in zip(plain, tf_batches(SCENES, config, training=True, epoch=epoch), strict=True):
            for name in ("images", "found", "found_points"):
                np.testing.assert_array_equal(x[name], tf_x[name])
            for found, points, masks, remaining, valid in zip(
                x["found"], x["found_points"], y["masks"], y["remaining"], y["valid"], strict=True
            ):
                has_point = (points >= 0).all(axis=1)
                kinds.add((bool(found.any()), bool(has_point.any())))
                if not has_point.any():
                    np.testing.assert_array_equal(found, masks[remaining:].sum(0))
                    continue
                assert not found.any()
                assert has_point.tolist() == [remaining <= number < valid.sum() for number in range(4)]
                for number in np.flatnonzero(has_point):
                    assert masks[number][tuple(points[number])] == 1
    assert kinds == {(True, False), (False, True), (False, False)}
