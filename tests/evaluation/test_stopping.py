"""The calibration of the objectness."""

import numpy as np
import pytest

from rsis_tf.data.sample import Sample
from rsis_tf.evaluation.stopping import THRESHOLD, calibrate, fit
from rsis_tf.inference import KerasPredictor
from rsis_tf.models import ModelConfig, build_model


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def sequences(*, slope: float, offset: float, images: int = 2000, steps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Objectness (P, T) whose logits times `slope` plus `offset` are the true ones, and counts (P,)."""
    rng = np.random.default_rng(0)
    true = np.cumsum(rng.normal(-0.7, 0.5, (images, steps)), axis=1) + 4  # falls, as the objects of an image are found
    true = np.minimum.accumulate(true, axis=1)
    counts = (rng.random((images, 1)) < sigmoid(true)).sum(axis=1)  # one number for all steps: no gaps in the count
    return sigmoid((true - offset) / slope), counts


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (1.4, -1.2), (0.5, 1.0)])
def test_one_half_is_where_another_object_is_as_likely_as_none(slope, offset):
    stop, counts = sequences(slope=slope, offset=offset)
    found = fit(stop, counts)
    assert found.shift == pytest.approx(offset / slope, abs=0.15)
    assert found.threshold_before == pytest.approx(sigmoid(-offset / slope), abs=0.03)
    assert found.error <= found.error_before + 0.01
    assert found.images == 2000
    near = np.abs(sigmoid(np.log(stop / (1 - stop)) + found.shift) - 0.5) < 0.1
    assert near.sum() > 300
    assert (np.arange(stop.shape[1]) < counts[:, None])[near].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("slope", "offset"), [(1.4, -1.2), (0.6, -4.0), (1.0, 3.0)])
@pytest.mark.parametrize("images", [3, 8, 24, 150, 256])
def test_a_second_calibration_changes_nothing(slope, offset, images):
    stop, counts = sequences(slope=slope, offset=offset, images=images)
    stop = stop.astype(np.float32)
    first = fit(stop, counts)
    assert abs(first.shift) > 0.1
    logits = np.log(stop) - np.log1p(-stop)
    again = fit(sigmoid(logits + np.float32(first.shift)).astype(np.float32), counts)
    assert (again.shift, again.threshold_before) == (0, 0.5)
    assert again.error == again.error_before == first.error


def test_a_sequence_ends_at_its_first_step_without_an_object():
    # The objectness of the last steps is high again, but no sequence gets there.
    stop, counts = sequences(slope=1.4, offset=-1.2)
    later = stop.copy()
    later[:, -1] = np.where(stop[:, -2] < 0.2, 0.99, stop[:, -1])
    assert fit(np.minimum.accumulate(later, axis=1), counts) == fit(later, counts)


def test_more_objects_than_steps_count_as_the_number_of_steps():
    stop, counts = sequences(slope=1.4, offset=-1.2)
    more = np.where(counts == stop.shape[1], 40, counts)
    assert (more == 40).any()
    assert fit(stop, more) == fit(stop, counts)


@pytest.mark.parametrize(
    ("stop", "counts"),
    [
        ([[0.99, 0.01]], [1]),  # certain and right
        ([[1.0, 0.0]] * 50, [1] * 50),
        ([[0.9, 0.9]], [2]),  # no sequence ends
        ([[0.1, 0.1]], [0]),  # no object
    ],
)
def test_few_or_certain_steps_change_little(stop, counts):
    found = fit(np.array(stop, np.float32), np.array(counts))
    assert abs(found.shift) < 1
    assert found.error == 0


def test_an_objectness_that_says_nothing_is_left_as_it_is():
    rng = np.random.default_rng(0)
    stop = np.minimum.accumulate(rng.uniform(0.2, 0.8, (400, 6)), axis=1)
    counts = np.where(stop[:, 2] > 0.4, 1, 5)  # the higher, the fewer objects
    found = fit(np.repeat(stop[:, 2:3], 6, axis=1), counts)
    assert found.shift == 0
    assert found.error == found.error_before


def test_the_message_names_the_old_threshold_and_both_errors():
    stop = np.array([[0.9, 0.62, 0.61], [0.95, 0.62, 0.1]], np.float32)
    found = fit(np.repeat(stop, 50, axis=0), np.ones(100, int))  # one object, then steps that repeat it
    assert (found.error, found.error_before) == (0, 1.5)
    assert str(found) == (
        f"objectness: {found.threshold_before:.2f} becomes 0.5, counting error 0.00 on 100 training images "
        "(1.50 before)"
    )
    assert 0.65 < found.threshold_before < 0.9


def test_the_stop_head_takes_the_shift():
    config = ModelConfig(
        encoder="compact", hidden_size=16, decoder_stages=2, num_classes=2, num_steps=3, image_size=(32, 32)
    )
    model = build_model(config)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    before = KerasPredictor(model).run(images)
    model.decoder.shift_stop(-0.75)
    after = KerasPredictor(model).run(images)
    logits = np.log(before[2]) - np.log1p(-before[2])
    np.testing.assert_allclose(after[2], sigmoid(logits - 0.75), atol=1e-5)
    for one, other in zip(before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.config.stop_threshold == THRESHOLD


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
        return 91

    def __getitem__(self, index):
        count = index % 4
        image = np.full((6, 8, 3), count, np.uint8)
        return Sample(
            image=image, label_map=np.zeros((6, 8), np.int32), classes=np.ones(count, np.int32), image_id=str(index)
        )


def test_objects_of_a_dataset_are_counted():
    calls = []
    found = calibrate(Counting(), GreyImages(), progress=lambda *state: calls.append(state))
    assert 0.7 < found.threshold_before < 0.95
    assert (found.error, found.error_before, found.images) == (0, 1, 91)
    assert calls == [*((count, 91) for count in range(2, 91, 2)), (91, 91)]


def test_images_spread_over_a_large_dataset_are_used():
    predictor = Counting()
    assert calibrate(predictor, GreyImages(), limit=3).images == 3
    assert predictor.seen == [0, 1, 2]  # images 0, 45 and 90
