"""The assignment of objects to predictions, compared with a search through all assignments."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rsis_tf.training.matcher import match, match_in_graph

_COSTS = st.one_of(
    st.integers(-2, 2).map(float),  # many ties
    st.floats(-1, 1, width=32, allow_subnormal=False),  # TensorFlow takes subnormal numbers for 0
    st.floats(-1e5, 1e5, width=32, allow_subnormal=False),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)


@st.composite
def _problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draws costs (B, N, T) float32 and the numbers (B,) of objects; rows beyond a number are padding."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    cost = draw(arrays.arrays(np.float32, shape, elements=_COSTS))
    count = draw(st.lists(st.integers(0, shape[1]), min_size=shape[0], max_size=shape[0]))
    return cost, np.array(count, np.int32)


def _smallest(cost: np.ndarray, objects: int, steps: int) -> float:
    """Returns the smallest total cost (N, T) over all ways to give each of the first steps a different object."""
    if objects <= steps:
        ways = (zip(range(objects), way, strict=True) for way in itertools.permutations(range(steps), objects))
    else:
        ways = (zip(way, range(steps), strict=True) for way in itertools.permutations(range(objects), steps))
    return min(sum(cost[n, t] for n, t in way) for way in ways)


@given(_problems())
@example((np.zeros((1, 3, 3), np.float32), np.array([0], np.int32)))
@example((np.full((1, 5, 5), np.nan, np.float32), np.array([5], np.int32)))
def test_the_assignment_is_one_to_one_and_has_the_smallest_cost(problem: tuple[np.ndarray, np.ndarray]) -> None:
    cost, count = problem
    assignment, weight = match(cost, count)
    assert (assignment.shape, assignment.dtype) == ((len(cost), cost.shape[2]), np.int32)
    assert (weight.shape, weight.dtype) == ((len(cost), cost.shape[2]), np.float32)
    # What the docstring says of numbers that are not finite.
    finite = np.nan_to_num(cost.astype(np.float64), nan=1.0, posinf=1e6, neginf=-1e6)
    for one, objects, steps, weights in zip(finite, count.tolist(), assignment, weight, strict=True):
        used = min(objects, cost.shape[2])
        assert weights.tolist() == [1] * used + [0] * (len(weights) - used)  # the first steps, and no others
        assert not steps[used:].any()
        assert len(set(steps[:used].tolist())) == used
        assert all(0 <= n < objects for n in steps[:used].tolist())  # never padding
        total = sum(one[n, t] for t, n in enumerate(steps[:used].tolist()))
        assert total == pytest.approx(_smallest(one, objects, used), rel=1e-9, abs=1e-9)


@given(_problems(), st.floats(-100, 100, width=32))
def test_padding_and_its_costs_are_not_read(problem: tuple[np.ndarray, np.ndarray], value: float) -> None:
    cost, count = problem
    changed = cost.copy()
    for one, objects in zip(changed, count, strict=True):
        one[objects:] = value
    for ours, theirs in zip(match(cost, count), match(changed, count), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(_problems())
def test_images_of_a_batch_are_independent_and_the_graph_computes_the_same(
    problem: tuple[np.ndarray, np.ndarray],
) -> None:
    cost, count = problem
    whole = match(cost, count)
    for row in range(len(cost)):
        for ours, theirs in zip(whole, match(cost[row : row + 1], count[row : row + 1]), strict=True):
            np.testing.assert_array_equal(ours[row : row + 1], theirs)
    for ours, theirs in zip(whole, match_in_graph(cost, count), strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs))


@given(_problems(), st.integers(-5, 9))
def test_a_number_of_objects_out_of_range_is_refused(problem: tuple[np.ndarray, np.ndarray], number: int) -> None:
    cost, count = problem
    count[-1] = number
    if 0 <= number <= cost.shape[1]:
        match(cost, count)
    else:
        with pytest.raises(ValueError, match=r"Received: count\["):
            match(cost, count)
