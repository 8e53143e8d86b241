"""The stop threshold that counts best."""

import numpy as np
import pytest

from rsis_tf.data.sample import Sample
from rsis_tf.evaluation.stopping import best_threshold, choose_stop_threshold


def test_the_threshold_of_the_least_counting_error():
    # One object, then steps that name it again with 0.6: over 0.6 the count is right.
    stop = np.array([[0.9, 0.62, 0.61], [0.95, 0.62, 0.1]], np.float32)
    choice = best_threshold(stop, np.array([1, 1]))
    assert choice.threshold == pytest.approx(0.65)
    assert choice.error == 0
    assert choice.error_at_half == pytest.approx(1.5)
    assert choice.images == 2
    assert str(choice) == "stop threshold 0.65: counting error 0.00 on 2 training pictures (1.50 with 0.5)"


def test_of_equal_thresholds_the_nearest_to_one_half():
    choice = best_threshold(np.array([[0.99, 0.01]]), np.array([1]))
    assert (choice.threshold, choice.error, choice.error_at_half) == (0.5, 0, 0)


def test_a_sequence_ends_at_its_first_step_without_an_object():
    # Under 0.3 both later steps count, over it none does, though the last one alone is certain.
    choice = best_threshold(np.array([[0.9, 0.3, 0.9]]), np.array([3]))
    assert choice.threshold == pytest.approx(0.3, abs=0.051)
    assert choice.error == 0
    assert choice.error_at_half == 2


def test_no_sequence_can_count_further_than_its_steps():
    choice = best_threshold(np.array([[0.9, 0.8], [0.9, 0.4]]), np.array([7, 1]))
    assert (choice.threshold, choice.error) == (0.5, 0)


class Counting:
    """Tells the number of objects by the brightness of the picture, and one object too many with 0.7."""

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


class Pictures:
    class_names = ("background", "leaf")

    def __len__(self):
        return 9

    def __getitem__(self, index):
        count = index % 4
        image = np.full((6, 8, 3), count, np.uint8)
        return Sample(
            image=image, label_map=np.zeros((6, 8), np.int32), classes=np.ones(count, np.int32), image_id=str(index)
        )


def test_pictures_of_a_dataset_are_counted():
    shown = []
    choice = choose_stop_threshold(Counting(), Pictures(), progress=lambda *state: shown.append(state))
    assert choice.threshold == pytest.approx(0.75)
    assert (choice.error, choice.error_at_half, choice.images) == (0, 1, 9)
    assert shown == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


def test_of_a_large_dataset_pictures_spread_over_it_are_taken():
    predictor = Counting()
    assert choose_stop_threshold(predictor, Pictures(), limit=3).images == 3
    assert predictor.seen == [0, 0, 0]  # pictures 0, 4 and 8
