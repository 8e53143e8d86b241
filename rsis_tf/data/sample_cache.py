"""Caches of samples, in memory or in a folder, so that images are decoded in the first epoch only."""

import dataclasses
import hashlib
import io
import pathlib
from typing import Protocol

import numpy as np

from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError, reason_of
from rsis_tf.files import write_bytes

_DIGEST = 16
"""Size of the checksum at the beginning of an entry, in bytes."""


class Cache(Protocol):
    """Keeps samples by a key that changes with the files and settings that they are made from."""

    def get(self, key: str) -> Sample | None:
        """Returns the sample of a key, or None if there is none."""

    def put(self, key: str, sample: Sample) -> None:
        """Keeps a sample."""


class MemoryCache:
    """Samples kept in this process."""

    def __init__(self) -> None:
        self._samples: dict[str, Sample] = {}

    def get(self, key: str) -> Sample | None:
        """Returns the sample of a key, or None if there is none."""
        sample = self._samples.get(key)
        return sample and dataclasses.replace(sample, label_map=sample.label_map.astype(np.int32))

    def put(self, key: str, sample: Sample) -> None:
        """Keeps a sample."""
        self._samples[key] = dataclasses.replace(sample, label_map=_narrow(sample.label_map))


class FolderCache:
    """Samples kept as files in a folder, which several runs and processes may share at the same time.

    An entry is a checksum and an `.npz` archive of the arrays. A damaged entry counts as missing and is replaced.

    Args:
        folder: created if it is missing.

    Raises:
        InputError: if it cannot be created.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"expected a folder for the cache. Received: {folder} ({error.strerror})") from None

    def get(self, key: str) -> Sample | None:
        """Returns the sample of a key, or None if there is no intact entry.

        Raises:
            InputError: if the entry cannot be read.
        """
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"expected a readable cache. Received: {self._path(key)} ({error})") from None
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
        """Writes an entry.

        Raises:
            InputError: if it cannot be written.
        """
        archive = io.BytesIO()
        np.savez(
            archive,
            image=sample.image,
            label_map=_narrow(sample.label_map),
            classes=sample.classes,
            image_id=np.array(sample.image_id),
        )
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, _checksum(archive.getvalue()) + archive.getvalue())
        except OSError as error:
            raise InputError(f"expected a writable cache. Received: {path} ({reason_of(error)})") from None

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / key[:2] / f"{key}.sample"


def _narrow(label_map: np.ndarray) -> np.ndarray:
    """Returns the labels as int16, which takes half the space, if they fit."""
    return label_map.astype(np.int16) if label_map.max(initial=0) <= np.iinfo(np.int16).max else label_map


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
