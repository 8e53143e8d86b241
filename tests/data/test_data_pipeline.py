"""Batches of both pipelines."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from dataset_files import NumberedDataset, sample_of

from rsis_tf.config import DataConfig
from rsis_tf.data.pipeline import epoch_order, num_batches, plain_batches, reader_errors, tf_batches
from rsis_tf.data.prepare import prepare
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError

TINY = DataConfig(image_size=(8, 8), max_objects=3, batch_size=4)


def indices(batches) -> list[list[int]]:
    """Returns the index of each image of `NumberedDataset`, by batch."""
    return [images[:, 0, 0, 0].tolist() for images, _ in batches]


@pytest.mark.parametrize("batches", [plain_batches, tf_batches])
def test_void_and_objects_beyond_the_limit_are_ignored(batches):
    label_map = np.zeros((8, 8), np.int32)
    label_map[0, :2], label_map[1:3], label_map[3, :5], label_map[4, :3] = 1, 2, 3, 4
    label_map[7] = VOID
    dataset = [sample_of(label_map, [1, 1, 1, 1])]
    _, targets = next(iter(batches(dataset, TINY, training=False)))
    expected = (label_map == VOID) | (label_map == 1)  # of four objects, the smallest is dropped
    np.testing.assert_array_equal(targets["ignored"], expected[None])
    assert not (np.asarray(targets["masks"]).any(axis=1) & expected).any()


def test_the_order_is_a_permutation_that_depends_on_seed_and_epoch():
    orders = [epoch_order(50, seed, epoch, True).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert epoch_order(50, 0, 1, True).tolist() == orders[1]
    assert epoch_order(5, 0, 1, False).tolist() == [0, 1, 2, 3, 4]


def test_training_drops_an_incomplete_batch_and_validation_keeps_it():
    dataset = NumberedDataset(10)
    training = indices(plain_batches(dataset, TINY, training=True))
    assert [len(batch) for batch in training] == [4, 4]
    assert len({index for batch in training for index in batch}) == 8
    assert indices(plain_batches(dataset, TINY, training=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert num_batches(10, TINY, training=True) == 2
    assert num_batches(10, TINY, training=False) == 3


def test_a_dataset_smaller_than_a_batch_is_repeated_in_training():
    (batch,) = indices(plain_batches(NumberedDataset(3), TINY, training=True))
    assert len(batch) == 4
    assert set(batch) == {0, 1, 2}
    assert num_batches(3, TINY, training=True) == 1
    assert indices(plain_batches(NumberedDataset(3), TINY, training=False)) == [[0, 1, 2]]


def test_the_arrays_of_a_batch():
    images, targets = next(plain_batches(NumberedDataset(4), TINY, training=False))
    assert images.dtype == targets["masks"].dtype == targets["valid"].dtype == np.uint8
    assert targets["classes"].dtype == np.int32
    assert targets["masks"].shape == (4, 3, 8, 8)
    assert targets["masks"][:, 0, :4, :4].all()
    assert targets["masks"].sum() == 4 * 16
    assert targets["classes"].tolist() == targets["valid"].tolist() == [[1, 0, 0]] * 4


def test_epochs_differ_and_can_be_repeated():
    config = dataclasses.replace(TINY, augment=True)
    dataset = SyntheticDataset(size=(24, 24), length=8)
    first, second, again = (list(plain_batches(dataset, config, training=True, epoch=epoch)) for epoch in (0, 1, 0))
    assert_same(first, again)
    assert not np.array_equal(first[0][0], second[0][0])
    order = epoch_order(8, 0, 0, True)
    plain = prepare(dataset[int(order[0])], config, None)[0]
    assert not np.array_equal(first[0][0][0], plain)  # augmented
    validation = plain_batches(dataset, config, training=False)
    np.testing.assert_array_equal(next(validation)[0][0], prepare(dataset[0], config, None)[0])  # not augmented


def test_batches_do_not_depend_on_the_number_of_threads():
    config = dataclasses.replace(TINY, augment=True)
    dataset = SyntheticDataset(size=(24, 24), length=13)
    for training in (True, False):
        alone = plain_batches(dataset, config, training=training)
        assert_same(alone, plain_batches(dataset, config, training=training, workers=3))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("length", [3, 13])
def test_tensorflow_gives_the_same_batches(augment, length):
    config = dataclasses.replace(TINY, augment=augment)
    dataset = SyntheticDataset(size=(24, 24), length=length)
    for training in (True, False):
        batches = tf_batches(dataset, config, training=training, epoch=2)
        assert_same(plain_batches(dataset, config, training=training, epoch=2), batches.as_numpy_iterator())


def test_tensorflow_batches_have_static_shapes():
    images, targets = tf_batches(NumberedDataset(9), TINY, training=True).element_spec
    assert images.shape == (4, 8, 8, 3)
    assert targets["masks"].shape == (4, 3, 8, 8)
    assert targets["classes"].shape == targets["valid"].shape == (4, 3)
    images, _ = tf_batches(NumberedDataset(9), TINY, training=False).element_spec
    assert images.shape.as_list() == [None, 8, 8, 3]


def test_nothing_sleeps_beside_tensorflow_batches():
    """The thread of tf.data's autotuning can hold up the end of an epoch for as long as the epoch took."""
    assert tf_batches(NumberedDataset(9), TINY, training=True).options().autotune.enabled is False


def test_an_unreadable_file_raises_the_readers_error():
    class Broken(NumberedDataset):
        def __getitem__(self, index):
            raise InputError('expected an image. Received: /a/“b”\'s\\c.png ("cut")')

    for batches in (plain_batches, tf_batches):
        with (
            pytest.raises(InputError, match=r"^expected an image\. Received: /a/“b”'s\\c\.png \(\"cut\"\)$"),
            reader_errors(),
        ):
            list(batches(Broken(4), TINY, training=True))


def test_reader_errors_does_not_change_other_errors():
    with pytest.raises(KeyError), reader_errors():
        raise KeyError("not a reader's")


def test_plain_batches_do_not_import_tensorflow():
    code = (
        "import sys; from rsis_tf.config import DataConfig; from rsis_tf.data import load_dataset; "
        "from rsis_tf.data.pipeline import plain_batches; config = DataConfig(train_size=8); "
        "next(plain_batches(load_dataset(config, 'train'), config, training=True)); "
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def assert_same(first, second) -> None:
    for (images, targets), (other_images, other_targets) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        assert targets.keys() == other_targets.keys()
        for name in targets:
            assert targets[name].dtype == other_targets[name].dtype
            np.testing.assert_array_equal(targets[name], other_targets[name])
