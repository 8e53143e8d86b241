"""Scores of drawn predictions: average precision against pycocotools, leaves, agreement, bootstrap intervals."""

import fractions
import math
from typing import Any

import numpy as np
import pytest
from coco_reference import official, ours
from evaluation_fakes import ListDataset, make_sample
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from strategies import instance, label_maps, predictions, sizes

from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.evaluation.metrics.average_precision import PRECISION_SCORES
from rsis_tf.evaluation.metrics.bootstrap import known_mean, mean_interval, ratio_intervals
from rsis_tf.evaluation.metrics.leaves import (
    absolute_count_difference,
    consecutive,
    count_difference,
    foreground_dice,
    label_map,
    symmetric_best_dice,
)
from rsis_tf.runtime import Instance

_CLASSES = ("background", "a", "b", "c")
_FEWER = settings(max_examples=max(settings().max_examples // 4, 1))
"""For tests that run the whole evaluation of pycocotools."""


@st.composite
def _scenes(draw: st.DrawFn) -> tuple[ListDataset, dict[str, list[Instance]]]:
    """Draws one to four images with truth and predictions; some predictions equal an object."""
    samples, found = [], {}
    for number in range(draw(st.integers(1, 4))):
        size = draw(sizes(8))
        labels, classes = draw(label_maps(size))
        sample = make_sample(labels, classes, f"image{number}")
        right = [i for i in range(1, len(classes) + 1) if draw(st.booleans())]
        shapes = [(labels == i, int(classes[i - 1])) for i in right]
        shapes += [(one.mask, one.class_id) for one in draw(predictions(size, most=3))]
        scores = draw(st.lists(st.integers(1, 8), min_size=len(shapes), max_size=len(shapes)))
        found[sample.image_id] = [
            instance(mask, class_id=k, score=score / 8, step=step)
            for step, ((mask, k), score) in enumerate(zip(shapes, scores, strict=True))
        ]
        samples.append(sample)
    # pycocotools cannot load an empty list of results, or a truth without an object.
    dataset = ListDataset(samples, _CLASSES)
    assume(any(len(sample.classes) for sample in samples) and _any_outside_void(dataset, found))
    return dataset, found


def _any_outside_void(dataset: ListDataset, found: dict[str, list[Instance]]) -> bool:
    return any((one.mask & (s.label_map >= 0)).any() for s in dataset.samples for one in found[s.image_id])


def _mean(values: np.ndarray) -> float:
    """COCO's mean over what is not −1."""
    return float(values[values > -1].mean()) if (values > -1).any() else math.nan


@_FEWER
@given(_scenes(), st.booleans())
def test_precision_and_recall_are_those_of_pycocotools(scene: tuple, every_class: bool) -> None:
    dataset, found = scene
    measured = ours(dataset, found, every_class=every_class)
    scores = measured.summarize()
    precision = official(dataset, found, every_class=every_class)["precision"][..., 0, -1]  # (10, 101, K − 1)
    for name, part in PRECISION_SCORES.items():
        assert scores.mean[name] == pytest.approx(_mean(precision[part]), nan_ok=True)
        for k, class_name in enumerate(_CLASSES[1:]):
            assert scores.per_class[class_name][name] == pytest.approx(_mean(precision[part, :, k]), nan_ok=True)
    recall = official(dataset, found, every_class=every_class, agnostic=True)["recall"][:, 0, 0, :]  # (3, M)
    assert list(scores.recall.values()) == pytest.approx([_mean(value) for value in recall.T.ravel()], nan_ok=True)
    # The average precision that is drawn again and again for an interval, of all images once.
    for detections, class_name in zip(measured.detections(), _CLASSES[1:], strict=True):
        once = detections.average_precision(np.ones(len(dataset), int), [0, 5])
        expected = [scores.per_class[class_name][name] for name in ("ap50", "ap75")]
        assert once.tolist() == pytest.approx(expected, nan_ok=True)


@_FEWER
@given(_scenes(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_objects_does_not_matter(scene: tuple, random: Any) -> None:
    dataset, found = scene
    order = list(range(len(dataset)))
    random.shuffle(order)
    shuffled = []
    for sample in dataset.samples:
        numbers = list(range(1, len(sample.classes) + 1))
        random.shuffle(numbers)
        table = np.array([0, *numbers, -1])
        classes = np.zeros_like(sample.classes)
        classes[np.array(numbers, int) - 1] = sample.classes
        shuffled.append(make_sample(table[sample.label_map], classes, sample.image_id))
    # Among equal scores the earlier prediction is matched first, so predictions keep their order.
    assert ours(ListDataset([shuffled[i] for i in order], _CLASSES), found).summarize().mean == pytest.approx(
        ours(dataset, found).summarize().mean, nan_ok=True
    )


@_FEWER
@given(_scenes())
def test_the_truth_as_prediction_is_perfect(scene: tuple) -> None:
    dataset, _ = scene
    found = {
        sample.image_id: [
            instance(sample.label_map == i, class_id=int(c), score=0.9) for i, c in enumerate(sample.classes, start=1)
        ]
        for sample in dataset.samples
    }
    scores = ours(dataset, found).summarize()
    assert list(scores.mean.values()) == pytest.approx([1.0] * len(scores.mean))
    assert set(scores.recall.values()) == {1.0}


# ---- Leaves ----


def _best(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    dice = [[2 * (a & b).sum() / (a.sum() + b.sum()) for b in theirs] for a in ours]
    return float(np.mean([max(row) for row in dice]))


_PAIRS = sizes(8).flatmap(lambda size: st.tuples(label_maps(size, void=False), label_maps(size, void=False)))


def _with_background(labels: np.ndarray) -> np.ndarray:
    """Adds a row of background: without any, the challenge takes the first object for it."""
    return np.pad(labels, ((0, 1), (0, 0)))


@given(_PAIRS, st.randoms(use_true_random=False))
def test_leaf_scores_are_those_of_their_definition(pair: tuple, random: Any) -> None:
    one, other = (_with_background(labels) for labels, _ in pair)
    parts = [[labels == i for i in range(1, labels.max() + 1)] for labels in (one, other)]
    score = symmetric_best_dice(one, other)
    if all(parts):
        assert score == pytest.approx(min(_best(*parts), _best(*parts[::-1])))
    else:
        assert score == 0
    assert 0 <= score <= 1
    assert symmetric_best_dice(other, one) == score
    assert symmetric_best_dice(one, one) == bool(parts[0])
    assert count_difference(one, other) == len(parts[0]) - len(parts[1]) == -count_difference(other, one)
    assert absolute_count_difference(one, other) == abs(len(parts[0]) - len(parts[1]))
    sums = (one > 0).sum() + (other > 0).sum()
    expected = 2 * ((one > 0) & (other > 0)).sum() / sums if sums else math.nan
    assert foreground_dice(one, other) == pytest.approx(expected, nan_ok=True)
    numbers = list(range(1, len(parts[0]) + 1))
    random.shuffle(numbers)
    renumbered = np.array([0, *numbers])[one]
    assert symmetric_best_dice(renumbered, other) == pytest.approx(score)
    assert count_difference(renumbered, other) == count_difference(one, other)


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), min_size=1, max_size=3))
def test_consecutive_numbers_keep_order_and_regions(rows: list[list[int]]) -> None:
    labels = np.array(rows, np.int32)
    np.testing.assert_array_equal(consecutive(labels), np.unique(labels, return_inverse=True)[1].reshape(labels.shape))


@given(sizes(8).flatmap(lambda size: st.tuples(label_maps(size), predictions(size))))
def test_label_maps_for_the_challenge_have_no_gaps_and_no_void(drawn: tuple) -> None:
    (truth, _), found = drawn
    labels = label_map(found, truth.shape, void=truth < 0)
    assert set(np.unique(labels).tolist()) | {0} == set(range(int(labels.max()) + 1))
    assert not labels[truth < 0].any()
    claimed = np.any([np.zeros(truth.shape, bool), *(one.mask for one in found)], axis=0)
    np.testing.assert_array_equal(labels > 0, claimed & (truth >= 0))


# ---- Agreement ----


def _row(*pixels: int) -> Instance:
    mask = np.zeros((1, 8), bool)
    mask[0, list(pixels)] = True
    return instance(mask)


@st.composite
def _pairs_in_two_orders(draw: st.DrawFn) -> tuple[list[Instance], list[Instance], list[Instance]]:
    """Draws two predictions, and the second one again in another order."""
    size = draw(sizes(6))
    one, other = draw(predictions(size)), draw(predictions(size))
    return one, other, draw(st.permutations(other))


def _tied(one: list[Instance], other: list[Instance]) -> bool:
    """Whether two pairs of one class have the same IoU, other than 0."""
    pairs = [(a.mask, b.mask) for a in one for b in other if a.class_id == b.class_id]
    ious = [fractions.Fraction(int((a & b).sum()), int((a | b).sum())) for a, b in pairs if (a & b).any()]
    return len(set(ious)) < len(ious)


@given(_pairs_in_two_orders())
@example(([_row(2, 3), _row(1, 5)], [_row(1, 2), _row(3, 4)], [_row(3, 4), _row(1, 2)]))  # three IoUs of 1/3
def test_agreement_is_symmetric_and_depends_on_the_order_of_ties_alone(drawn: tuple) -> None:
    one, other, reordered = drawn
    value = agreement(one, other)
    assert 0 <= value <= 1
    assert agreement(other, reordered) == 1
    if not _tied(one, other):
        assert agreement(other, one) == pytest.approx(value)
        assert agreement(one, reordered) == pytest.approx(value)


# ---- Bootstrap ----

_VALUES = st.lists(st.one_of(st.floats(-10, 10), st.just(math.nan)), min_size=1, max_size=12)


@given(_VALUES, st.integers(0, 99))
def test_an_interval_of_a_mean_is_within_the_values(values: list[float], seed: int) -> None:
    low, high = mean_interval(values, resamples=60, seed=seed)
    known = [value for value in values if not math.isnan(value)]
    assert (low, high) == pytest.approx(mean_interval(values, resamples=60, seed=seed), nan_ok=True)
    if not known:
        assert math.isnan(low)
        assert math.isnan(high)
        assert math.isnan(known_mean(values))
        return
    assert min(known) - 1e-9 <= low <= high <= max(known) + 1e-9
    assert known_mean(values) == pytest.approx(np.mean(known))
    if len(set(known)) == 1:
        assert (low, high) == pytest.approx((known[0], known[0]))
    shifted = mean_interval([value + 5 for value in values], resamples=60, seed=seed)
    assert shifted == pytest.approx((low + 5, high + 5))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_an_interval_of_a_recall_is_a_share(pairs: list[tuple[int, int]]) -> None:
    matched, objects = np.array([[min(pair), max(pair)] for pair in pairs]).T
    ((low, high),) = ratio_intervals(matched[:, None], objects, resamples=60)
    if objects.any():
        assert 0 <= low <= high <= 1
    else:
        assert math.isnan(low)
        assert math.isnan(high)


@_FEWER
@given(_scenes())
def test_intervals_of_precision_are_shares_in_order(scene: tuple) -> None:
    dataset, found = scene
    measured = ours(dataset, found)
    intervals = [*measured.precision_intervals(["ap", "ap50"], resamples=20).values()]
    for low, high in [*intervals, *measured.recall_intervals(resamples=20).values()]:
        assert 0 <= low <= high <= 1
    if len(dataset) == 1:  # every draw is the same image
        assert intervals[0] == pytest.approx((measured.summarize().mean["ap"],) * 2)
