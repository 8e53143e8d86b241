"""The first samples of a dataset, as `--limit`, `--train-size` and `--val-size` choose them."""

import pathlib
from typing import Any

from rsis_tf.data.sample import Dataset, Inspection, Sample, reads_files


class Subset:
    """The first `length` samples of a dataset (all of them if it has fewer).

    It has all attributes of the dataset, so the subset of a reader of files is one too.
    """

    def __init__(self, dataset: Dataset, length: int):
        self.class_names = dataset.class_names
        self._dataset = dataset
        self._length = min(length, len(dataset))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    @property
    def image_files(self) -> list[pathlib.Path]:
        """The files of these samples."""
        if not reads_files(self._dataset):
            raise AttributeError("image_files")
        return self._dataset.image_files[: self._length]

    def inspect(self, index: int) -> Inspection:
        """See `FileDataset.inspect`."""
        if not reads_files(self._dataset):
            raise AttributeError("inspect")
        return self._dataset.inspect(index)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0 … {self._length - 1}. Received: {index}")
        return self._dataset[index]
