"""The choice of the stop threshold."""

import numpy as np
import pytest

from rsis_tf.data.sample import Sample
from rsis_tf.evaluation.stopping import CANDIDATES, best_threshold, choose_stop_threshold


def test_the_threshold_with_the_lowest_counting_error_is_chosen():
    # One object, then steps that repeat it with an objectness of about 0.6: above that, the count is right.
    stop = np.array([[0.9, 0.62, 0.61], [0.95, 0.62, 0.1]], np.float32)
    choice = best_threshold(np.repeat(stop, 50, axis=0), np.ones(100, int))
    assert choice.threshold == pytest.approx(0.76)  # the middle of 0.63 … 0.90
    assert choice.error == 0
    assert choice.error_at_half == pytest.approx(1.5)
    assert choice.images == 100
    assert str(choice) == "stop threshold 0.76: counting error 0.00 on 100 training images (1.50 with 0.5)"


def test_the_middle_of_thresholds_without_a_difference_is_chosen():
    choice = best_threshold(np.array([[0.99, 0.01]]), np.array([1]))
    assert (choice.threshold, choice.error, choice.error_at_half) == (0.5, 0, 0)


def test_a_sequence_ends_at_its_first_step_without_an_object():
    # Up to 0.3 both later steps count. Above 0.3 neither does, although the objectness of the last step is high.
    choice = best_threshold(np.array([[0.9, 0.3, 0.9]]), np.array([3]))
    assert choice.threshold == pytest.approx(0.17)  # the middle of 0.05 … 0.30
    assert choice.error == 0
    assert choice.error_at_half == 2


def test_more_objects_than_steps_count_as_the_number_of_steps():
    stop, counts = np.array([[0.9, 0.8], [0.9, 0.4]]), np.array([7, 1])
    choice = best_threshold(np.repeat(stop, 50, axis=0), np.repeat(counts, 50))
    assert (choice.threshold, choice.error) == (0.6, 0)  # the middle of 0.41 … 0.80


def test_the_choice_hardly_depends_on_the_training():
    """The lowest error lies anywhere in a flat range by chance; its middle stays where it is."""
    steps, chosen, lowest = np.arange(20), [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, 15, 150)
        unsure = rng.random((150, 20)) < 0.08
        objects = np.where(unsure, rng.uniform(0.3, 0.9, (150, 20)), rng.uniform(0.85, 1, (150, 20)))
        surplus = np.where(unsure, rng.uniform(0.1, 0.7, (150, 20)), rng.uniform(0, 0.15, (150, 20)))
        stop = np.where(steps < counts[:, None], objects, surplus)
        chosen.append(best_threshold(stop, counts).threshold)
        running = np.minimum.accumulate(stop, axis=1)
        errors = [np.abs((running >= candidate).sum(axis=1) - counts).mean() for candidate in CANDIDATES]
        lowest.append(CANDIDATES[int(np.argmin(errors))])
    assert np.ptp(chosen) <= 0.1 < np.ptp(lowest)


class Counting:
    """Predicts as many objects as the brightness of the image says, and one more with an objectness of 0.7."""

    batch_size = 2
    image_size = (4, 4)
    aspect = "stretch"

    def __init__(self):
        self.seen = []

    def run(self, images):
        counts = images[:, 0, 0, 0].astype(int)  # (B,)
        self.seen += counts.tolist()
        steps = np.arange(5)
        stop = np.where(steps < counts[:, None], 0.95, np.where(steps == counts[:, None], 0.7, 0.1))
        return None, None, stop


class GreyImages:
    class_names = ("background", "leaf")

    def __len__(self):
        return 9

    def __getitem__(self, index):
        count = index % 4
        image = np.full((6, 8, 3), count, np.uint8)
        return Sample(
            image=image, label_map=np.zeros((6, 8), np.int32), classes=np.ones(count, np.int32), image_id=str(index)
        )


def test_objects_of_a_dataset_are_counted():
    calls = []
    choice = choose_stop_threshold(Counting(), GreyImages(), progress=lambda *state: calls.append(state))
    assert choice.threshold == pytest.approx(0.83)  # the middle of 0.71 … 0.95
    assert (choice.error, choice.error_at_half, choice.images) == (0, 1, 9)
    assert calls == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


def test_images_spread_over_a_large_dataset_are_used():
    predictor = Counting()
    assert choose_stop_threshold(predictor, GreyImages(), limit=3).images == 3
    assert predictor.seen == [0, 0, 0]  # images 0, 4 and 8
