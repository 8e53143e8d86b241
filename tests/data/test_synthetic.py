"""Generated scenes."""

import numpy as np
import pytest

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.readers.synthetic import SyntheticDataset


def test_a_sample_depends_only_on_seed_and_index():
    first = SyntheticDataset(length=10, seed=3)[7]
    again = SyntheticDataset(length=999, seed=3)[7]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label_map, again.label_map)
    np.testing.assert_array_equal(first.classes, again.classes)
    assert not np.array_equal(first.image, SyntheticDataset(length=10, seed=4)[7].image)
    assert not np.array_equal(first.image, SyntheticDataset(length=10, seed=3)[8].image)


@pytest.mark.parametrize("size", [(24, 24), (64, 64), (40, 96)])
def test_at_least_half_of_every_shape_is_visible(size, monkeypatch):
    painted: list[np.ndarray] = []
    keep = lambda self, canvas, distance, pattern, rng: painted.append(distance < 0)  # noqa: E731
    monkeypatch.setattr(SyntheticDataset, "_paint", keep)
    dataset = SyntheticDataset(size=size, length=60, max_objects=6)
    numbers = set()
    for index in range(len(dataset)):
        painted.clear()
        sample = dataset[index]
        assert len(painted) == len(sample.classes)
        numbers.add(len(painted))
        for number, inside in enumerate(painted, start=1):
            visible = sample.label_map == number
            assert visible.sum() >= 20
            assert visible.sum() >= 0.5 * inside.sum()
            assert not np.any(visible & ~inside)
    assert min(numbers) == 1
    assert max(numbers) >= 4


def test_shapes_dtypes_and_ranges_of_the_samples():
    dataset = SyntheticDataset(size=(48, 64), length=40, max_objects=4)
    assert dataset.class_names == ("background", "circle", "square", "triangle")
    seen = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.image.shape == (48, 64, 3)
        assert sample.image.dtype == np.uint8
        assert sample.label_map.dtype == np.int32
        assert sorted(np.unique(sample.label_map)) == list(range(len(sample.classes) + 1))
        assert 1 <= len(sample.classes) <= 4
        seen.update(sample.classes.tolist())
    assert seen == {1, 2, 3}


def test_a_disc_is_round_and_a_square_is_not():
    # A disc of any size fills π/4 of its bounding box; scenes have one shape, and shapes at the border are left out.
    dataset = SyntheticDataset(size=(96, 96), length=200, max_objects=1)
    shares = {1: [], 2: [], 3: []}
    for index in range(len(dataset)):
        sample = dataset[index]
        rows, columns = np.nonzero(sample.label_map)
        if rows.min() > 0 and rows.max() < 95 and columns.min() > 0 and columns.max() < 95:
            box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            shares[int(sample.classes[0])].append(rows.size / box)
    np.testing.assert_allclose(shares[1], np.pi / 4, atol=0.06)  # an edge pixel more or less
    assert max(shares[3]) < 0.65
    assert np.std(shares[2]) > 0.05


def test_splits_of_any_two_runs_have_no_image_in_common():
    images = set()
    for seed in (0, 1, 2):
        for split in ("train", "val", "test"):
            dataset = load_dataset(DataConfig(seed=seed, train_size=5, val_size=5), split)
            images.update(dataset[index].image.tobytes() for index in range(5))
    assert len(images) == 3 * 3 * 5


def test_iteration_ends():
    assert len(list(SyntheticDataset(length=3))) == 3


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="Received"):
        SyntheticDataset(size=(8, 64))
    with pytest.raises(ValueError, match="Received"):
        SyntheticDataset(seed=-1)
