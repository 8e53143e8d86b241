"""Maps of numbers as images, and panels in rows."""

import numpy as np
import pytest

from rsis_tf.errors import InputError
from rsis_tf.visualization import heat_map, panel_grid

DARKEST, BRIGHTEST = (68, 1, 84), (253, 231, 36)
"""The ends of Matplotlib's "viridis"."""


def test_small_maps_are_enlarged_and_their_cells_stay_visible():
    drawn = heat_map(np.array([[-2.0, 5.0], [5.0, -2.0], [-2.0, -2.0]]))
    assert drawn.shape == (216, 144, 3)
    assert drawn.dtype == np.uint8
    assert np.unique(drawn.reshape(-1, 3), axis=0).tolist() == [list(DARKEST), list(BRIGHTEST)]
    assert drawn[0, 0].tolist() == drawn[71, 71].tolist() == list(DARKEST)
    assert drawn[71, 72].tolist() == drawn[72, 71].tolist() == list(BRIGHTEST)


def test_colours_follow_the_limits():
    values = np.array([[0, 5, 10, 20]])
    drawn = heat_map(values, low=5, high=10, size=(1, 4))
    assert drawn.tolist() == [[list(DARKEST), list(DARKEST), list(BRIGHTEST), list(BRIGHTEST)]]
    np.testing.assert_array_equal(heat_map(np.zeros((2, 2)), size=(2, 2)), np.full((2, 2, 3), DARKEST, np.uint8))


@pytest.mark.parametrize("values", [np.zeros((2, 2, 3)), np.zeros((0, 3)), np.array([[0, np.nan]])])
def test_other_values_are_refused(values):
    with pytest.raises(InputError, match=r"Received: float64 of shape"):
        heat_map(values)


def test_panels_follow_each_other_in_rows():
    panels = [(np.full((40, 60, 3), shade, np.uint8), f"number {shade}") for shade in (10, 20, 30)]
    drawn = panel_grid(panels, columns=2)
    places = [tuple(np.argwhere((drawn == shade).all(axis=-1))[0]) for shade in (10, 20, 30)]
    (y1, x1), (y2, x2), (y3, x3) = places
    assert y1 == y2 < y3
    assert x1 == x3 < x2
    for (y, x), shade in zip(places, (10, 20, 30), strict=True):
        assert (drawn[y : y + 40, x : x + 60] == shade).all()
        assert (drawn[y + 40 : y + 62, x : x + 60] < 100).any()  # the caption


@pytest.mark.parametrize("sizes", [(), ((40, 60), (60, 40))])
def test_panels_of_no_or_two_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="panels of one size"):
        panel_grid([(np.zeros((*size, 3), np.uint8), "x") for size in sizes])
