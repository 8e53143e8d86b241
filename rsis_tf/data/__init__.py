"""Datasets: `load_dataset` opens one by name, `rsis_tf.data.pipeline` makes batches of it.

A reader's module is imported when its dataset is asked for.
"""

import dataclasses
import pathlib
from typing import Any

from rsis_tf.config import DataConfig
from rsis_tf.data.files import require_folder
from rsis_tf.data.sample import VOID, Dataset, Inspection, Sample
from rsis_tf.errors import InputError

__all__ = [
    "DATASETS",
    "SPLITS",
    "VOID",
    "Dataset",
    "Sample",
    "Subset",
    "category_ids",
    "load_dataset",
    "require_dataset",
]

DATASETS = ("cityscapes", "coco", "cvppp", "folder", "synthetic", "voc")
SPLITS = ("train", "val", "test")
_COCO_FIELDS = ("annotations", "val_annotations", "images", "val_images", "val_share", "crowds")
"""Fields of the configuration that only this reader has."""


class Subset:
    """The first `length` samples of a dataset (all of them if it has fewer)."""

    def __init__(self, dataset: Dataset, length: int):
        self.class_names = dataset.class_names
        self.category_ids = category_ids(dataset)
        self._dataset = dataset
        self._length = min(length, len(dataset))

    def __getattr__(self, name: str) -> Any:
        """What else a reader has, such as the files of its annotations."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    @property
    def image_files(self) -> list[pathlib.Path]:
        return self._dataset.image_files[: self._length]

    def inspect(self, index: int) -> Inspection:
        return self._dataset.inspect(index)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0 … {self._length - 1}. Received: {index}")
        return self._dataset[index]


def category_ids(dataset: Dataset) -> tuple[int, ...]:
    """Returns the K numbers by which the dataset's own files call the classes, 0 for background.

    Empty if they have none, or call them by texts.
    """
    numbers = tuple(getattr(dataset, "category_ids", ()))
    return numbers if all(type(number) is int for number in numbers) else ()


def load_dataset(config: DataConfig, split: str, *, check: bool = True) -> Dataset:
    """Opens one split of a dataset.

    Args:
        config: names the dataset and its folder; `train_size` and `val_size` limit the splits "train" and "val"
            ("synthetic": 4096 and 128 pictures unless given, "test" as many as "val").
        split: "train", "val" or "test"; for "coco" also "all", a dataset without splits.
        check: make sure at once that every file of the split exists; False leaves that to the reading.

    Returns:
        The samples, at their own sizes.

    Raises:
        InputError: for an unknown dataset or split, a missing folder or file, or a split without pictures.
    """
    require_dataset(config)
    if split not in SPLITS and (config.dataset, split) != ("coco", "all"):
        raise InputError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    limit = {"train": config.train_size, "val": config.val_size}.get(split)
    if config.dataset == "synthetic":
        from rsis_tf.data.readers.synthetic import SyntheticDataset

        if min(config.image_size) < SyntheticDataset.min_side:
            raise InputError(
                f"synthetic pictures are at least {SyntheticDataset.min_side} pixels on each side. "
                f"Received: image_size={config.image_size}"
            )
        # Three seeds per run seed, so that no two splits of any two runs share a picture.
        seed = len(SPLITS) * config.seed + SPLITS.index(split)
        length = (config.train_size or 4096) if split == "train" else (config.val_size or 128)
        return SyntheticDataset(size=config.image_size, length=length, seed=seed)
    dataset = _open(config, split, check)
    return dataset if limit is None else Subset(dataset, limit)


def require_dataset(config: DataConfig) -> None:
    """Makes sure that the dataset is one that can be read and that its folder is there.

    Raises:
        InputError: if not, or if the seed is negative.
    """
    if config.dataset not in DATASETS:
        raise InputError(f"dataset must be one of {', '.join(DATASETS)}. Received: {config.dataset!r}")
    if config.seed < 0:
        raise InputError(f"seed must be 0 or more. Received: seed={config.seed}")
    if config.dataset == "synthetic":
        return
    given = [name for name in _COCO_FIELDS if getattr(config, name) not in (None, "auto")]
    if config.dataset != "coco" and given:
        option = given[0].replace("_", "-")
        raise InputError(f"--{option} is for --dataset coco. Received: --dataset {config.dataset}")
    if config.annotations is not None or config.val_annotations is not None:
        if config.root is None:
            return
    elif config.root is None:
        raise InputError(f"dataset {config.dataset!r} needs the folder it lies in. Received: root=None")
    require_folder(config.root, f"the folder of a {config.dataset} dataset")


def _open(config: DataConfig, split: str, check: bool) -> Dataset:
    match config.dataset:
        case "cityscapes":
            from rsis_tf.data.readers.cityscapes import CityscapesDataset as Reader
        case "coco":
            from rsis_tf.data.readers.coco import CocoDataset

            fields = dataclasses.asdict(config)
            return CocoDataset(config.root, split, check=check, **{name: fields[name] for name in _COCO_FIELDS})
        case "cvppp":
            from rsis_tf.data.readers.cvppp import CvpppDataset as Reader
        case "folder":
            from rsis_tf.data.readers.folder import FolderDataset as Reader
        case "voc":
            from rsis_tf.data.readers.voc import VocDataset as Reader
    return Reader(config.root, split, check=check)
