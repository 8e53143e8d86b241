"""Caches of samples in memory and in a folder."""

import concurrent.futures
import dataclasses
import os

import numpy as np
import pytest
from dataset_files import save, write_coco
from PIL import Image, ImageOps

from rsis_tf.config import DataConfig
from rsis_tf.data import Subset, load_dataset
from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.reduced_samples import ReducedSamples, reduced, reduced_samples
from rsis_tf.errors import InputError


class Counted:
    """Counts the samples read from a dataset."""

    def __init__(self, dataset):
        self.dataset, self.reads = dataset, 0

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.reads += 1
        return self.dataset[index]

    def read(self, index, at_least):
        self.reads += 1
        return self.dataset.read(index, at_least)


def assert_same(first, second) -> None:
    assert first.image_id == second.image_id
    for name in ("image", "label_map", "classes"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.fixture(params=["jpg", "png"])
def dataset(request, tmp_path) -> Counted:
    return Counted(CocoDataset(write_coco(tmp_path / "data", (403, 605), ending=request.param), "train"))


@pytest.fixture(params=["memory", "folder"])
def config(request, tmp_path) -> DataConfig:
    cache = "memory" if request.param == "memory" else str(tmp_path / "a" / "cache")
    return DataConfig(dataset="coco", image_size=(48, 48), draft=True, cache=cache)


def test_a_cached_sample_is_read_once_and_reduced(dataset, config):
    samples = reduced_samples(dataset, config, training=True)
    first, second = samples[0], samples[0]
    assert dataset.reads == 1
    assert_same(first, second)
    assert first.image.shape == (51, 76, 3)  # 403 and 605 divided by 8, rounded up
    assert first.label_map.max() == 2
    assert_same(first, reduced(dataset.read(0, (48, 48)), (48, 48)))


def test_several_runs_may_use_a_cache_folder(dataset, tmp_path):
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    first = ReducedSamples(dataset, config, training=True)[0]
    assert_same(first, ReducedSamples(dataset, config, training=True)[0])
    assert dataset.reads == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("change", ["image", "annotations", "image_size", "augment", "draft"])
def test_a_changed_file_or_setting_is_read_again(tmp_path, change):
    root = write_coco(tmp_path / "data", (403, 605))
    dataset = Counted(CocoDataset(root, "train"))
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    ReducedSamples(dataset, config, training=True)[0]
    if change == "image":
        ImageOps.invert(Image.open(root / "train" / "scene.jpg")).save(root / "train" / "scene.jpg", quality=95)
    elif change == "annotations":  # the same text, written again
        state = (root / "annotations" / "train.json").stat()
        os.utime(root / "annotations" / "train.json", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    else:
        changes = {"image_size": (50, 50), "augment": True, "draft": True}
        config = dataclasses.replace(config, **{change: changes[change]})
    got = ReducedSamples(dataset, config, training=True)[0]
    assert dataset.reads == 2
    if change == "image":
        np.testing.assert_array_equal(got.image, reduced(dataset[0], (48, 48)).image)


@pytest.mark.parametrize("damage", ["emptied", "cut", "one bit", "other"])
def test_a_damaged_entry_is_replaced(tmp_path, damage):
    dataset = Counted(CocoDataset(write_coco(tmp_path / "data", (403, 605)), "train"))
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    whole = ReducedSamples(dataset, config, training=True)[0]
    (entry,) = (tmp_path / "cache").rglob("*.sample")
    content = entry.read_bytes()
    middle = len(content) // 2
    damaged = {
        "emptied": b"",
        "cut": content[:middle],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "other": b"not a sample at all",
    }[damage]
    entry.write_bytes(damaged)
    assert_same(whole, ReducedSamples(dataset, config, training=True)[0])
    assert dataset.reads == 2
    assert entry.read_bytes() == content
    assert_same(whole, ReducedSamples(dataset, config, training=True)[0])
    assert dataset.reads == 2


def test_threads_may_share_a_cache(dataset, config):
    samples = reduced_samples(dataset, config, training=True)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: samples[0], range(32)))
    for answer in answers:
        assert_same(answer, answers[0])


def test_a_subset_is_cached_and_reduced_like_the_whole_dataset(dataset, config):
    samples = reduced_samples(Subset(dataset, 1), config, training=True)
    assert_same(samples[0], reduced_samples(dataset, config, training=True)[0])
    samples[0]
    assert dataset.reads == (2 if config.cache == "memory" else 1)  # both use the same folder


def test_the_cache_keeps_void_and_thousands_of_objects(tmp_path, config):
    labels = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    save(tmp_path / "many" / "train" / "labels" / "a.png", labels)
    save(tmp_path / "many" / "train" / "images" / "a.png", np.zeros((64, 64, 3), np.uint8))
    folder = load_dataset(DataConfig(dataset="folder", root=str(tmp_path / "many")), "train")
    samples = reduced_samples(folder, config, training=True)
    assert_same(samples[0], folder[0])
    assert_same(samples[0], folder[0])
    (tmp_path / "many" / "classes.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    with_void = load_dataset(DataConfig(dataset="folder", root=str(tmp_path / "many")), "train")
    samples = reduced_samples(with_void, config, training=True)
    assert (samples[0].label_map < 0).any()
    assert_same(samples[0], with_void[0])


def test_a_cache_of_synthetic_scenes_is_refused():
    dataset = SyntheticDataset(size=(32, 32), length=2)
    with pytest.raises(InputError, match=r"a cache is for datasets of files\. Received: cache='memory'"):
        reduced_samples(dataset, DataConfig(cache="memory"), training=True)


def test_a_cache_that_is_a_file_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="expected a folder for the cache"):
            reduced_samples(dataset, DataConfig(cache=str(cache)), training=True)


def test_the_message_names_an_entry_that_cannot_be_written(dataset, tmp_path):
    samples = reduced_samples(dataset, DataConfig(image_size=(48, 48), cache=str(tmp_path / "cache")), training=True)
    for prefix in range(256):  # entries are in folders named by two hexadecimal digits
        (tmp_path / "cache" / f"{prefix:02x}").write_text("not a folder")
    with pytest.raises(InputError, match=r"expected a (readable|writable) cache\. Received: "):
        samples[0]


def test_a_missing_file_is_named(dataset, config):
    samples = reduced_samples(dataset, config, training=True)
    samples[0]
    dataset.files(0)[0].unlink()
    with pytest.raises(InputError, match=r"Received: .*scene\.(jpg|png)"):
        samples[0]
