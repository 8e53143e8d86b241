"""Samples that are no larger than the batches need: JPEG files decoded at reduced scale, and a cache of the results.

Batches are made of images of a few hundred pixels a side. The image of a camera has twenty times as many pixels, and
most of the time goes into decoding and labelling pixels that are then thrown away. Prediction and evaluation do not use
this module: their masks have the size of the image, so they read the whole image.
"""

import dataclasses
import hashlib
import json
import math
import pathlib

import numpy as np
from PIL import Image

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import augmentation_of
from rsis_tf.data.labels import reduced_labels
from rsis_tf.data.sample import Dataset, FileDataset, Sample, reads_files
from rsis_tf.data.sample_cache import Cache, FolderCache, MemoryCache
from rsis_tf.errors import InputError

_VERSION = 2
"""Version of the cached samples; a new number invalidates older entries."""


class ReducedSamples:
    """A dataset's samples at the size that batches need: never smaller, and seldom more than twice as large.

    Args:
        dataset: the samples at their own size. Only a reader of files can decode JPEG files at reduced scale, and only
            its samples can be cached.
        config: `image_size`, `draft`, `cache` and, for training, the zoom of its augmentation.
        training: whether the batches are augmented. An image that the augmentation enlarges must be read larger.

    Raises:
        InputError: for a cache of samples that are not files, or a cache folder that cannot be created.
    """

    def __init__(self, dataset: Dataset, config: DataConfig, *, training: bool) -> None:
        self.class_names = dataset.class_names
        self.at_least = needed_size(config, training=training)
        self._dataset = dataset
        self._files: FileDataset | None = dataset if reads_files(dataset) else None
        self._draft = config.draft and self._files is not None
        self._cache: Cache | None = None
        if config.cache:
            if self._files is None:
                raise InputError(f"a cache is for datasets of files. Received: cache={config.cache!r}")
            self._cache = MemoryCache() if config.cache == "memory" else FolderCache(pathlib.Path(config.cache))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if self._cache is None or self._files is None:
            return self._read(index)
        key = self._fingerprint(self._files, index)
        sample = self._cache.get(key)
        if sample is None:
            sample = reduced(self._read(index), self.at_least)
            self._cache.put(key, sample)
        return sample

    def _read(self, index: int) -> Sample:
        return self._files.read(index, self.at_least) if self._draft and self._files else self._dataset[index]

    def _fingerprint(self, dataset: FileDataset, index: int) -> str:
        """Returns a key that changes with the paths, sizes and times of a sample's files and with every setting."""
        states = []
        for path in dataset.files(index):
            try:
                state = path.stat()
            except OSError as error:
                raise InputError(f"expected a file of the dataset. Received: {path} ({error.strerror})") from None
            states.append((str(path.absolute()), state.st_size, state.st_mtime_ns))
        facts = [_VERSION, index, self.class_names, self.at_least, self._draft, dataset.crowds, states]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def reduced_samples(dataset: Dataset, config: DataConfig, *, training: bool) -> Dataset:
    """Returns `ReducedSamples` if `config` asks for reduced or cached samples, else the dataset itself."""
    return ReducedSamples(dataset, config, training=training) if config.draft or config.cache else dataset


def needed_size(config: DataConfig, *, training: bool) -> tuple[int, int]:
    """Returns the (height, width) that an image needs if the augmentation enlarges it as far as it can."""
    closest = min(augmentation_of(config).zoom[0], 1.0) if training and config.transforms.augment else 1.0
    height, width = (math.ceil(side / closest) for side in config.image_size)
    return height, width


def reduced(sample: Sample, at_least: tuple[int, int]) -> Sample:
    """Shrinks a sample by the largest integer factor that leaves (h, w) or more; blocks of pixels are averaged.

    Objects that lose all their pixels are dropped.
    """
    height, width = sample.label_map.shape
    factor = min(height // at_least[0], width // at_least[1])
    if factor < 2:
        return sample
    label_map, classes = reduced_labels(sample.label_map, sample.classes, factor)
    image = np.asarray(Image.fromarray(sample.image).reduce(factor))
    return dataclasses.replace(sample, image=image, label_map=label_map, classes=classes)
