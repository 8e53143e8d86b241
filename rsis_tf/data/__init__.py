"""Datasets: `load_dataset` opens one by name, `rsis_tf.data.pipeline` makes batches of it.

A reader's module is imported when its dataset is asked for.
"""

from rsis_tf.config import DataConfig
from rsis_tf.data.files import require_folder
from rsis_tf.data.sample import VOID, Dataset, Sample
from rsis_tf.errors import InputError

__all__ = ["DATASETS", "SPLITS", "VOID", "Dataset", "Sample", "Subset", "load_dataset", "require_dataset"]

DATASETS = ("cityscapes", "coco", "cvppp", "folder", "synthetic", "voc")
SPLITS = ("train", "val", "test")


class Subset:
    """The first `length` samples of a dataset (all of them if it has fewer)."""

    def __init__(self, dataset: Dataset, length: int):
        self.class_names = dataset.class_names
        self._dataset = dataset
        self._length = min(length, len(dataset))
        # Absent where the dataset has none: see `rsis_tf.data.sample.Dataset`.
        if hasattr(dataset, "read"):
            self.read = dataset.read
        if hasattr(dataset, "files"):
            self.files = dataset.files

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0 … {self._length - 1}. Received: {index}")
        return self._dataset[index]


def load_dataset(config: DataConfig, split: str, *, check: bool = True) -> Dataset:
    """Opens one split of a dataset.

    Args:
        config: names the dataset and its folder; `train_size` and `val_size` limit the splits "train" and "val"
            ("synthetic": 4096 and 128 pictures unless given, "test" as many as "val").
        split: "train", "val" or "test".
        check: make sure at once that every file of the split exists; False leaves that to the reading.

    Returns:
        The samples, at their own sizes.

    Raises:
        InputError: for an unknown dataset or split, a missing folder or file, or a split without pictures.
    """
    require_dataset(config)
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    limit = {"train": config.train_size, "val": config.val_size, "test": None}[split]
    if config.dataset == "synthetic":
        from rsis_tf.data.synthetic import SyntheticDataset

        if min(config.image_size) < SyntheticDataset.min_side:
            raise InputError(
                f"synthetic pictures are at least {SyntheticDataset.min_side} pixels on each side. "
                f"Received: image_size={config.image_size}"
            )
        # Three seeds per run seed, so that no two splits of any two runs share a picture.
        seed = len(SPLITS) * config.seed + SPLITS.index(split)
        length = (config.train_size or 4096) if split == "train" else (config.val_size or 128)
        return SyntheticDataset(size=config.image_size, length=length, seed=seed)
    dataset = _open(config.dataset, config.root, split, check)
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
    if config.root is None:
        raise InputError(f"dataset {config.dataset!r} needs the folder it lies in. Received: root=None")
    require_folder(config.root, f"the folder of a {config.dataset} dataset")


def _open(name: str, root: str, split: str, check: bool) -> Dataset:
    match name:
        case "cityscapes":
            from rsis_tf.data.cityscapes import CityscapesDataset as Reader
        case "coco":
            from rsis_tf.data.coco import CocoDataset as Reader
        case "cvppp":
            from rsis_tf.data.cvppp import CvpppDataset as Reader
        case "folder":
            from rsis_tf.data.folder import FolderDataset as Reader
        case "voc":
            from rsis_tf.data.voc import VocDataset as Reader
    return Reader(root, split, check=check)
