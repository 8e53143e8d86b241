"""Samples no larger than batches need them: JPEG files decoded at reduced scale, and a cache of what came of it.

Batches are made of images of a few hundred pixels a side; a camera's image has twenty times as many pixels, and most of
the time goes into decoding and labelling what is thrown away. Prediction and evaluation do not pass here: masks come at
the size of the image, so both need it whole.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import threading
from typing import Protocol

import numpy as np
from PIL import Image

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import augmentation_of
from rsis_tf.data.labels import reduced_labels
from rsis_tf.data.sample import Dataset, Sample
from rsis_tf.errors import InputError

_VERSION = 1
"""Of the entries in a cache; a new number makes all of them anew."""

_DIGEST = 16
"""Bytes of checksum before an entry."""


class Cache(Protocol):
    """Where samples are kept, by the fingerprint of what they are made of."""

    def get(self, key: str) -> Sample | None: ...

    def put(self, key: str, sample: Sample) -> None: ...


class WorkingSamples:
    """A dataset's samples at the size that batches need: never smaller, seldom more than twice as large.

    Args:
        dataset: the samples at their own size. Where it has `read(index, at_least)`, JPEG files can be decoded at
            reduced scale; where it has `files(index)`, its samples can be kept in a cache.
        config: `image_size`, `draft`, `cache` and, for training, the zoom of its augmentation.
        training: whether the batches are augmented; what is enlarged must have been read larger.

    Raises:
        InputError: for a cache of samples that are not files, or a folder that cannot be made.
    """

    def __init__(self, dataset: Dataset, config: DataConfig, *, training: bool) -> None:
        self.class_names = dataset.class_names
        self.at_least = needed_size(config, training=training)
        self._dataset = dataset
        self._draft = config.draft and hasattr(dataset, "read")
        self._cache: Cache | None = None
        if config.cache:
            if not hasattr(dataset, "files"):
                raise InputError(f"a cache is for datasets of files. Received: cache={config.cache!r}")
            self._cache = MemoryCache() if config.cache == "memory" else FolderCache(pathlib.Path(config.cache))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if self._cache is None:
            return self._read(index)
        key = self._fingerprint(index)
        sample = self._cache.get(key)
        if sample is None:
            sample = reduced(self._read(index), self.at_least)
            self._cache.put(key, sample)
        return sample

    def _read(self, index: int) -> Sample:
        return self._dataset.read(index, self.at_least) if self._draft else self._dataset[index]

    def _fingerprint(self, index: int) -> str:
        """Changes with the files of a sample, by path, size and time, and with all that decides how it is read."""
        states = []
        for path in self._dataset.files(index):
            try:
                state = path.stat()
            except OSError as error:
                raise InputError(f"expected a file of the dataset. Received: {path} ({error.strerror})") from None
            states.append((str(path.absolute()), state.st_size, state.st_mtime_ns))
        crowds = getattr(self._dataset, "crowds", None)
        facts = [_VERSION, index, self.class_names, self.at_least, self._draft, crowds, states]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def working_samples(dataset: Dataset, config: DataConfig, *, training: bool) -> Dataset:
    """Returns the samples as `config` wants them read for batches: `WorkingSamples`, or the dataset as it is."""
    return WorkingSamples(dataset, config, training=training) if config.draft or config.cache else dataset


def needed_size(config: DataConfig, *, training: bool) -> tuple[int, int]:
    """(height, width) that an image must have for its batches, where the augmentation enlarges it most."""
    closest = min(augmentation_of(config).zoom[0], 1.0) if training and config.transforms.augment else 1.0
    height, width = (math.ceil(side / closest) for side in config.image_size)
    return height, width


def reduced(sample: Sample, at_least: tuple[int, int]) -> Sample:
    """Shrinks a sample by the largest whole factor that leaves it at least so large: blocks of pixels are averaged.

    Objects that lose all their pixels are dropped.
    """
    height, width = sample.label_map.shape
    factor = min(height // at_least[0], width // at_least[1])
    if factor < 2:
        return sample
    label_map, classes = reduced_labels(sample.label_map, sample.classes, factor)
    image = np.asarray(Image.fromarray(sample.image).reduce(factor))
    return dataclasses.replace(sample, image=image, label_map=label_map, classes=classes)


class MemoryCache:
    """Samples kept in this process."""

    def __init__(self) -> None:
        self._samples: dict[str, Sample] = {}

    def get(self, key: str) -> Sample | None:
        sample = self._samples.get(key)
        return sample and dataclasses.replace(sample, label_map=sample.label_map.astype(np.int32))

    def put(self, key: str, sample: Sample) -> None:
        self._samples[key] = dataclasses.replace(sample, label_map=_narrow(sample.label_map))


class FolderCache:
    """Samples kept as files of a folder, for several runs and processes at once.

    An entry is a checksum and NumPy's archive of the arrays. It is written beside its name and renamed when it is
    whole; one that is damaged counts as missing and is written anew.

    Args:
        folder: made where it is missing.

    Raises:
        InputError: when it cannot be made.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"expected a folder for the cache. Received: {folder} ({error.strerror})") from None

    def get(self, key: str) -> Sample | None:
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"expected a cache that can be read. Received: {self._path(key)} ({error})") from None
        digest, archive = content[:_DIGEST], content[_DIGEST:]
        if digest != _checksum(archive):
            return None
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            return Sample(
                image=arrays["image"],
                label_map=arrays["label_map"].astype(np.int32),
                classes=arrays["classes"],
                image_id=str(arrays["image_id"]),
            )

    def put(self, key: str, sample: Sample) -> None:
        archive = io.BytesIO()
        np.savez(
            archive,
            image=sample.image,
            label_map=_narrow(sample.label_map),
            classes=sample.classes,
            image_id=np.array(sample.image_id),
        )
        path = self._path(key)
        partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            partial.write_bytes(_checksum(archive.getvalue()) + archive.getvalue())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"expected a cache that can be written. Received: {path} ({error.strerror})") from None

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / key[:2] / f"{key}.sample"


def _narrow(label_map: np.ndarray) -> np.ndarray:
    """Labels in half the space, where they fit."""
    return label_map.astype(np.int16) if label_map.max(initial=0) <= np.iinfo(np.int16).max else label_map


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
