import pathlib
import warnings

import numpy as np
import pytest
from evaluation_fakes import make_instance

from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.leaves import (
    consecutive,
    count_difference,
    foreground_dice,
    label_map,
    symmetric_best_dice,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "cvppp_metrics.npz"


def literal(prediction, truth):
    """The organisers' BestScore with its loops over all ids, used or not."""

    def best(first, second):
        low, high = int(first.min()), int(first.max())
        if low == high:
            return 0.0
        total = 0.0
        for i in range(low + 1, high + 1):
            scores = [0.0]
            for j in range(int(second.min()) + 1, int(second.max()) + 1):
                a, b = first == i, second == j
                if a.sum() + b.sum() > 0:
                    scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
            total += max(scores)
        return total / (high - low)

    return min(best(prediction, truth), best(truth, prediction))


@pytest.mark.parametrize("case", range(8))
def test_scores_equal_those_of_the_challenges_scripts(case):
    golden = np.load(GOLDEN)
    prediction, truth = golden[f"pred{case}"], golden[f"truth{case}"]
    assert symmetric_best_dice(prediction, truth) == pytest.approx(golden["symmetric_best_dice"][case], abs=1e-9)
    assert count_difference(prediction, truth) == golden["count_difference"][case]
    assert foreground_dice(prediction, truth) == pytest.approx(golden["foreground_dice"][case], abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_best_dice_equals_the_loops_with_gaps_and_any_lowest_label(seed):
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        ids = rng.choice(np.arange(-1, 9), size=rng.integers(1, 6), replace=False)
        maps.append(rng.choice(ids, size=(9, 11)).astype(np.int32))
    assert symmetric_best_dice(*maps) == pytest.approx(literal(*maps), abs=1e-12)


def test_scores_worked_out_by_hand():
    truth = np.array([[1, 1, 2, 2], [0, 0, 0, 0]])
    prediction = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    # Prediction over truth: 2·2/(3+2) = 0.8. Truth over prediction: 0.8 and 2·1/(2+3) = 0.4, mean 0.6.
    assert symmetric_best_dice(prediction, truth) == pytest.approx(0.6)
    assert symmetric_best_dice(truth, prediction) == pytest.approx(0.6)
    assert count_difference(prediction, truth) == -1
    assert foreground_dice(prediction, truth) == pytest.approx(2 * 3 / (3 + 4))


def test_a_skipped_id_counts_as_an_object():
    truth = np.array([[0, 1, 2, 3]])
    prediction = np.array([[0, 1, 2, 4]])
    assert symmetric_best_dice(prediction, truth) == pytest.approx(3 / 4)
    assert count_difference(prediction, truth) == 1


def test_empty_maps_give_no_warning():
    empty, truth = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (symmetric_best_dice(empty, truth), symmetric_best_dice(truth, empty)) == (0, 0)
        assert (foreground_dice(empty, truth), foreground_dice(truth, empty)) == (0, 0)
        assert (count_difference(empty, truth), count_difference(truth, empty)) == (-1, 1)
        assert (symmetric_best_dice(empty, empty), count_difference(empty, empty)) == (0, 0)
        assert np.isnan(foreground_dice(empty, empty))


def test_a_perfect_prediction_scores_one():
    truth = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert (symmetric_best_dice(truth, truth), foreground_dice(truth, truth), count_difference(truth, truth)) == (
        1,
        1,
        0,
    )


@pytest.mark.parametrize(
    ("prediction", "truth", "received"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), r"\(3, 4\) and \(4, 3\)"),
        (np.zeros((3, 4)), np.zeros((3, 4), int), "float64"),
        (np.zeros((3, 4, 1), int), np.zeros((3, 4, 1), int), r"\(3, 4, 1\)"),
        (np.zeros((0, 4), int), np.zeros((0, 4), int), r"\(0, 4\)"),
    ],
)
def test_anything_but_two_label_maps_of_one_shape_is_refused(prediction, truth, received):
    for score in (symmetric_best_dice, count_difference, foreground_dice):
        with pytest.raises(InputError, match=received):
            score(prediction, truth)


@pytest.mark.parametrize("values", [[0, 1, 2], [-1, 0, 7], [5, 10**6, 2 * 10**6], [-(2**31), 0, 2**31 - 1]])
def test_ids_far_apart_are_renumbered_in_order_and_scored(values):
    labels = np.array(values, np.int32)[[[0, 2, 1], [2, 0, 1]]]
    assert consecutive(labels).tolist() == [[0, 2, 1], [2, 0, 1]]
    # Two objects found, and every unused id between them counts as an object with a Dice of 0.
    assert symmetric_best_dice(labels, labels) == pytest.approx(2 / (values[2] - values[0]))


def test_the_label_map_gives_a_pixel_to_the_earliest_step_and_skips_no_id():
    first, hidden, last = np.zeros((3, 2, 4), bool)
    first[:, :2], hidden[0, :2], last[:, 1:] = True, True, True
    void = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)
    labels = label_map([make_instance(m) for m in (first, hidden, last)], (2, 4), void=void)
    assert labels.tolist() == [[1, 1, 2, 0], [1, 1, 2, 2]]
    with pytest.raises(InputError, match=r"\(2, 4\)"):
        label_map([make_instance(first)], (2, 5))


def test_the_scores_are_importable_from_the_package_itself():
    from rsis_tf.evaluation import leaves

    assert leaves.symmetric_best_dice is symmetric_best_dice
    assert leaves.count_difference is count_difference
    assert leaves.foreground_dice is foreground_dice
