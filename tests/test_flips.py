"""Averaging over mirror images: objects are matched between sequences of different order."""

import numpy as np
import pytest
from exact_predictor import ExactPredictor, blobs, compared, image_of

from rsis_tf.flips import AXES, average, flip_images


def sequence(masks, axes, stop, *, classes=(0.1, 0.9)):
    """Outputs of an image flipped along axes."""
    flipped = np.flip(np.asarray(masks, np.float32), axes)
    return flipped, np.tile(np.array(classes, np.float32), (len(masks), 1)), np.array(stop, np.float32)


def scene():
    masks = np.zeros((3, 8, 12), np.float32)
    masks[0, :3, :4] = masks[1, 4:, 2:7] = masks[2, 5:7, 9:] = 0.8
    return masks


def test_objects_found_in_another_order_are_averaged():
    masks = scene()
    orders = ([0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1])
    sequences = [
        sequence(masks[order] * (1 - number / 10), axes, [0.9, 0.8, 0.7])
        for number, (axes, order) in enumerate(zip(AXES, orders, strict=True))
    ]
    mean, classes, stop = average(sequences, stop_threshold=0.5, mask_threshold=0.5)
    np.testing.assert_allclose(mean, masks * 0.85, rtol=1e-6)
    np.testing.assert_allclose(
        stop, [(0.9 + 0.8 + 0.7 + 0.9) / 4, (0.8 + 0.7 + 0.9 + 0.7) / 4, (0.7 + 0.9 + 0.8 + 0.8) / 4]
    )
    np.testing.assert_allclose(classes, [[0.1, 0.9]] * 3)


def test_an_object_that_one_sequence_found_counts_a_quarter():
    masks = scene()
    sequences = [
        sequence(masks, AXES[0], [0.9, 0.6, 0.2]),
        *(sequence(masks[1:], axes, [0.9, 0.8]) for axes in AXES[1:]),
    ]
    mean, _, stop = average(sequences, stop_threshold=0.5, mask_threshold=0.5)
    # Three of four found the third object. Only the first found the first one, which therefore comes last.
    np.testing.assert_allclose(stop, [(0.6 + 3 * 0.9) / 4, 3 * 0.8 / 4, 0.9 / 4], rtol=1e-6)
    np.testing.assert_allclose(mean, masks[[1, 2, 0]], rtol=1e-6)


@pytest.mark.parametrize(("stop_mode", "found"), [("first", 1), ("each", 2)])
def test_steps_behind_the_end_of_a_sequence_count_as_the_stop_rule_says(stop_mode, found):
    sequences = [sequence(scene(), axes, [0.9, 0.1, 0.9]) for axes in AXES]
    _, _, stop = average(sequences, stop_threshold=0.5, mask_threshold=0.5, stop_mode=stop_mode)
    assert len(stop) == found
    assert (stop >= 0.5).all()


def test_an_image_without_objects_has_none_on_average():
    sequences = [sequence(scene(), axes, [0.4, 0.9, 0.9]) for axes in AXES]
    masks, classes, stop = average(sequences, stop_threshold=0.5, mask_threshold=0.5)
    assert (masks.shape, classes.shape) == ((1, 8, 12), (1, 2))
    assert stop[0] < 0.5


def test_flips_are_undone():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    for axes in AXES:
        np.testing.assert_array_equal(flip_images(flip_images(images, axes), axes), images)
    assert (flip_images(images, (-1,))[0, 0, 0] == images[0, 0, -1]).all()
    assert (flip_images(images, (-2,))[0, 0, 0] == images[0, -1, 0]).all()


def test_predictions_of_an_exact_predictor_do_not_change():
    labels = blobs(64, 8, radii=(3, 7))
    predictor = ExactPredictor(flips=True)
    found = predictor(image_of(labels))
    assert compared(labels, found) == {"exact": 8, "missing": 0, "surplus": 0}
    assert predictor.seen == 4
    assert not found.full
    assert ExactPredictor(flips=True, most=8)(image_of(labels)).full
    large = blobs(150, 30, radii=(3, 7))
    both = ExactPredictor(flips=True, tile="auto")(image_of(large))
    assert compared(large, both) == {"exact": 30, "missing": 0, "surplus": 0}
