"""Datasets by name: `DATASETS` lists them, `load_dataset` opens a split of one.

`rsis_tf.data.sample` defines the interface of a dataset; `rsis_tf.data.pipeline` makes batches of its samples.
The module of a reader is imported when its dataset is opened.
"""

import dataclasses
import importlib
from collections.abc import Callable, Collection

from rsis_tf.config import DataConfig
from rsis_tf.data.paths import require_folder
from rsis_tf.data.sample import SPLITS, VOID, Dataset, FileDataset, Sample, category_ids
from rsis_tf.data.subset import Subset
from rsis_tf.errors import InputError

__all__ = [
    "DATASETS",
    "SPLITS",
    "VOID",
    "Dataset",
    "DatasetEntry",
    "FileDataset",
    "Sample",
    "Subset",
    "category_ids",
    "load_dataset",
    "require_dataset",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A row of the table of datasets.

    Attributes:
        reader: a class or function in a module of `rsis_tf.data.readers`, as "module:name".
        description: one line for help texts.
        own_fields: fields of `DataConfig` that only this reader uses. They are passed to the reader by name, and
            refused for datasets without them.
        shared_fields: fields of `DataConfig` that are also passed to the reader.
        in_folder: whether the dataset is read from a folder. If so, the folder and `check` are passed to the reader.
        opens_whole: whether the reader takes "all" as a split, for a dataset that is not divided into splits.
        leaves_out_classes: whether classes without objects may be left out. If so, `class_names` is passed to the
            reader: those that are not.
    """

    reader: str
    description: str
    own_fields: tuple[str, ...] = ()
    shared_fields: tuple[str, ...] = ()
    in_folder: bool = True
    opens_whole: bool = False
    leaves_out_classes: bool = False

    def load_reader(self) -> Callable[..., Dataset]:
        """Imports the reader's module and returns the class or function."""
        module, _, name = self.reader.partition(":")
        return getattr(importlib.import_module(f"rsis_tf.data.readers.{module}"), name)


DATASETS = {
    "cityscapes": DatasetEntry(
        reader="cityscapes:CityscapesDataset", description="Cityscapes, fine annotations, 8 classes with instances"
    ),
    "coco": DatasetEntry(
        reader="coco:CocoDataset",
        description="annotations in COCO's JSON format, as label tools export them",
        own_fields=("annotations", "val_annotations", "images", "val_images", "val_share", "crowds"),
        opens_whole=True,
        leaves_out_classes=True,
    ),
    "cvppp": DatasetEntry(reader="cvppp:CvpppDataset", description="CVPPP Leaf Segmentation Challenge, A1 to A4"),
    "dsb2018": DatasetEntry(
        reader="dsb2018:Dsb2018Dataset",
        description="2018 Data Science Bowl (BBBC038), or images with one mask file per object",
        own_fields=("val_share",),
        opens_whole=True,
    ),
    "folder": DatasetEntry(reader="folder:FolderDataset", description="a folder of images and one of label maps"),
    "leaves": DatasetEntry(
        reader="rosettes.dataset:open_split",
        description="generated rosette plants from above, their leaves; needs no files",
        shared_fields=("image_size", "max_objects", "train_size", "val_size", "seed"),
        in_folder=False,
    ),
    "shapes": DatasetEntry(
        reader="synthetic:open_split",
        description="generated scenes of circles, squares and triangles; needs no files",
        shared_fields=("image_size", "train_size", "val_size", "seed"),
        in_folder=False,
    ),
    "voc": DatasetEntry(reader="voc:VocDataset", description="Pascal VOC 2012, or a dataset in its layout"),
    "yolo": DatasetEntry(
        reader="yolo:YoloDataset",
        description="data.yaml with outlines in text files, as Ultralytics, Roboflow, CVAT and Label Studio write it",
        own_fields=("val_share",),
        opens_whole=True,
    ),
}
"""Every dataset by the name that `DataConfig.dataset` and `--dataset` use."""


def load_dataset(config: DataConfig, split: str, *, check: bool = True, class_names: Collection[str] = ()) -> Dataset:
    """Opens one split of a dataset.

    Args:
        config: names the dataset and its folder; `train_size` and `val_size` limit the splits "train" and "val"
            ("leaves" and "shapes": 4096 and 128 images by default, and as many in "test" as in "val").
        split: "train", "val" or "test"; for "coco", "dsb2018" and "yolo" also "all", a dataset
            without splits.
        check: whether to make sure at once that every file of the split exists. If False, a missing file is an error
            when it is read.
        class_names: classes that are kept even if no object has them, such as those of the model that is scored.

    Returns:
        The samples, at the size of their images.

    Raises:
        InputError: for an unknown dataset or split, a missing folder or file, or a split without images.
    """
    require_dataset(config)
    entry = DATASETS[config.dataset]
    if split not in SPLITS and not (entry.opens_whole and split == "all"):
        raise InputError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    fields = {name: getattr(config, name) for name in (*entry.own_fields, *entry.shared_fields)}
    reader = entry.load_reader()
    if not entry.in_folder:
        return reader(split, **fields)
    if entry.leaves_out_classes:
        fields["class_names"] = class_names
    dataset = reader(config.root, split, check=check, **fields)
    limit = {"train": config.train_size, "val": config.val_size}.get(split)
    return dataset if limit is None else Subset(dataset, limit)


def require_dataset(config: DataConfig) -> None:
    """Makes sure that the dataset has a reader and that its folder exists.

    Raises:
        InputError: if not, if fields are set that belong to another dataset, if a generated dataset has a folder, or if
            the seed is negative.
    """
    if config.dataset not in DATASETS:
        raise InputError(f"dataset must be one of {', '.join(DATASETS)}. Received: {config.dataset!r}")
    if config.seed < 0:
        raise InputError(f"seed must be 0 or more. Received: seed={config.seed}")
    own = DATASETS[config.dataset]
    for entry in DATASETS.values():
        _refuse([field for field in entry.own_fields if field not in own.own_fields], config)
    if not own.in_folder:
        if config.root is not None:
            raise InputError(
                f"expected --dataset with a folder; {config.dataset!r} is generated and reads none. "
                f"Received: --data {config.root}"
            )
        return
    if config.annotations is not None or config.val_annotations is not None:
        if config.root is None:
            return
    elif config.root is None:
        raise InputError(_no_folder(config.dataset))
    require_folder(config.root, f"the folder of a {config.dataset} dataset")


def _no_folder(dataset: str) -> str:
    """Returns the message about a dataset without a folder, for the command line and for Python."""
    expected = f"--data FOLDER, the folder of a {dataset} dataset"
    if "annotations" in DATASETS[dataset].own_fields:
        return f"expected {expected}, or --annotations FILE (in Python: root, annotations). Received: root=None"
    return f"expected {expected} (in Python: root). Received: root=None"


def _refuse(fields: list[str], config: DataConfig) -> None:
    """Raises an error if a field of other datasets is set."""
    given = [name for name in fields if getattr(config, name) not in (None, "auto")]
    if given:
        option = given[0].replace("_", "-")
        *others, last = (name for name, entry in DATASETS.items() if given[0] in entry.own_fields)
        owners = f"{', '.join(others)} and {last}" if others else last
        raise InputError(f"--{option} is for --dataset {owners}. Received: --dataset {config.dataset}")
