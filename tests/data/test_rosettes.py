"""Generated rosette plants."""

import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.rosettes import dataset as rosettes
from rsis_tf.data.readers.rosettes.dataset import RosetteDataset, visible_leaves
from rsis_tf.data.readers.rosettes.leaf import Leaf, Outlines
from rsis_tf.data.readers.rosettes.plant import grow


def digest(dataset, indices):
    content = b"".join(dataset[index].image.tobytes() + dataset[index].label_map.tobytes() for index in indices)
    return hashlib.sha256(content).hexdigest()


def test_a_sample_depends_only_on_seed_and_index():
    dataset = RosetteDataset(size=(48, 48), length=10, seed=3)
    backwards = {index: dataset[index].image for index in reversed(range(10))}
    again = RosetteDataset(size=(48, 48), length=999, seed=3)
    for index, image in backwards.items():
        np.testing.assert_array_equal(again[index].image, image)
    assert len({image.tobytes() for image in backwards.values()}) == 10
    assert not np.array_equal(backwards[0], RosetteDataset(size=(48, 48), seed=4)[0].image)


def test_another_process_makes_the_same_samples():
    program = (
        "import sys; sys.path.insert(0, 'tests/data'); from test_rosettes import *; "
        "print(digest(RosetteDataset(size=(64, 48), seed=5), range(6)))"
    )
    root = pathlib.Path(__file__).parents[2]
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert other.stdout.strip() == digest(RosetteDataset(size=(64, 48), seed=5), range(6))


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (96, 96), (150, 64)])
def test_every_label_is_a_leaf_with_enough_visible_pixels(size):
    dataset = RosetteDataset(size=size, length=40, max_objects=12)
    assert dataset.class_names == ("background", "leaf")
    for index in range(len(dataset)):
        sample = dataset[index]
        assert (sample.image.shape, sample.image.dtype) == ((*size, 3), np.uint8)
        assert (sample.label_map.shape, sample.label_map.dtype) == (size, np.int32)
        numbers, pixels = np.unique(sample.label_map, return_counts=True)
        assert numbers.tolist() == list(range(len(sample.classes) + 1))
        assert 1 <= len(sample.classes) <= 12
        assert (sample.classes == 1).all()
        assert pixels[1:].min() >= 20


def test_the_number_of_leaves_covers_the_whole_range():
    dataset = RosetteDataset(size=(96, 96), length=300, max_objects=10)
    counts = np.bincount([len(dataset[index].classes) for index in range(len(dataset))], minlength=11)
    assert counts[0] == 0
    assert counts[1:].min() >= 10  # 30 each if all were equally frequent
    dataset = RosetteDataset(size=(128, 128), length=200)
    assert max(len(dataset[index].classes) for index in range(len(dataset))) >= 19


def test_leaves_follow_each_other_by_the_golden_angle():
    deviations, turns = [], set()
    for seed in range(30):
        plant = grow(np.random.default_rng(seed), 12, (96, 96))
        steps = np.rad2deg(np.diff(plant.angles)) % 360
        turn = 137.508 if abs(np.median(steps) - 137.5) < 20 else 360 - 137.508
        turns.add(turn)
        deviations.extend(steps - turn)
    assert len(turns) == 2  # left-handed and right-handed plants
    assert np.abs(deviations).max() < 60
    assert np.abs(np.mean(deviations)) < 2
    assert 3 < np.std(deviations) < 14  # the difference of two deviations of 3 to 9 degrees each


def test_older_leaves_are_larger_and_growth_slows_down():
    for seed in range(20):
        plant = grow(np.random.default_rng(seed), 14, (96, 96))
        assert (np.diff(plant.lengths) <= 0).all()
        assert (np.diff(plant.ages) < 0).all()
        assert plant.lengths[-1] < 0.6 * plant.lengths[0]
        assert plant.lengths[0] - plant.lengths[4] < plant.lengths[-5] - plant.lengths[-1]


def test_younger_leaves_lie_above_older_ones():
    overlaps = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        outlines = Outlines(grow(rng, 10, (96, 96)), rng)
        label_map, leaves = visible_leaves(outlines.leaves((96, 96)), (96, 96), most=10)
        assert [leaf.number for leaf in leaves] == sorted(leaf.number for leaf in leaves)  # the oldest first
        highest = np.zeros((96, 96), np.int32)
        covering = np.zeros((96, 96), np.int32)
        for number, leaf in enumerate(leaves, start=1):
            highest[leaf.rows, leaf.columns][leaf.inside] = number
            covering[leaf.rows, leaf.columns] += leaf.inside
        np.testing.assert_array_equal(label_map, highest)
        overlaps += np.count_nonzero(covering > 1)
    assert overlaps > 1000


def square(number, rows, columns):
    """A leaf that covers a whole part of the image."""
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    ones = np.ones(shape, np.float32)
    return Leaf(number=number, rows=rows, columns=columns, distance=-ones, node=ones.astype(np.int32), across=ones)


def test_hidden_leaves_are_left_out():
    large = square(0, slice(0, 20), slice(0, 20))
    three_tenths = square(1, slice(0, 10), slice(13, 23))  # 30 of 100 pixels are seen beside `large`
    less = square(2, slice(0, 10), slice(12, 22))  # 20 of 100
    small = square(3, slice(30, 34), slice(0, 4))  # 16 pixels
    label_map, leaves = visible_leaves([large, less, small, three_tenths], (40, 40), most=9)
    assert [leaf.number for leaf in leaves] == [1, 0]
    assert np.bincount(label_map.ravel()).tolist() == [1600 - 430, 30, 400]
    _, leaves = visible_leaves([large, three_tenths], (40, 40), most=1)
    assert [leaf.number for leaf in leaves] == [0]


def test_labels_lie_on_what_is_painted():
    """Leaves without ground, shading of the ground or noise: exactly the labelled pixels have a colour."""

    class Nothing:
        def paint(self, rng):
            return np.zeros((3, 96, 96), np.float32)

    class Plain:
        def take(self, scene, direction, rng):
            return np.moveaxis(scene, 0, -1).astype(np.uint8)

    dataset = RosetteDataset(size=(96, 96), length=12)
    dataset._ground, dataset._camera = Nothing(), Plain()
    for index in range(len(dataset)):
        sample = dataset[index]
        painted = sample.image.max(-1)
        labelled = sample.label_map > 0
        assert (painted[labelled] > 15).mean() > 0.99
        edge = np.zeros_like(labelled)  # pixels beside a leaf are covered by up to a half
        edge[1:] |= labelled[:-1]
        edge[:-1] |= labelled[1:]
        edge[:, 1:] |= labelled[:, :-1]
        edge[:, :-1] |= labelled[:, 1:]
        assert (painted[~labelled & ~edge] == 0).mean() > 0.995


def test_leaves_differ_from_the_ground_in_colour():
    greener = 0
    dataset = RosetteDataset(size=(64, 64), length=40)
    for index in range(len(dataset)):
        sample = dataset[index]
        green = sample.image[..., 1].astype(int) - sample.image[..., 2]
        greener += green[sample.label_map > 0].mean() > green[sample.label_map == 0].mean() + 10
    assert greener >= 36


def test_the_pipeline_reads_generated_leaves():
    config = DataConfig(dataset="leaves", image_size=(32, 40), max_objects=3, batch_size=4, train_size=8)
    plants = load_dataset(config, "train")
    assert max(len(plants[index].classes) for index in range(8)) <= 3
    batches = list(plain_batches(plants, config, training=True))
    assert len(batches) == 2
    assert batches[0][0].shape == (4, 32, 40, 3)


def test_the_sizes_of_the_splits_and_their_differences():
    config = DataConfig(dataset="leaves", image_size=(32, 32))
    assert [len(load_dataset(config, split)) for split in ("train", "val", "test")] == [4096, 128, 128]
    images = set()
    for seed in (0, 1):
        for split in ("train", "val", "test"):
            dataset = load_dataset(DataConfig(dataset="leaves", image_size=(32, 32), seed=seed), split)
            images.update(dataset[index].image.tobytes() for index in range(3))
    assert len(images) == 2 * 3 * 3


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"Received: size=\(31, 64\)"):
        RosetteDataset(size=(31, 64))
    with pytest.raises(ValueError, match=r"Received: .*max_objects=0"):
        RosetteDataset(max_objects=0)
    with pytest.raises(IndexError, match="Received: 3"):
        RosetteDataset(length=3)[3]
    with pytest.raises(rosettes.InputError, match=r"Received: image_size=\(16, 64\)"):
        load_dataset(DataConfig(dataset="leaves", image_size=(16, 64)), "val")
