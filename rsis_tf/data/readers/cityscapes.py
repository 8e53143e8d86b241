"""Cityscapes, fine annotations: the eight classes whose single objects are annotated and evaluated."""

import pathlib

import numpy as np

from rsis_tf.data.labels import from_ids, ids_in
from rsis_tf.data.paths import MissingSplitError, check_files, find, require_folder
from rsis_tf.data.readers.label_images import LabelImageDataset, read_labels_of
from rsis_tf.errors import InputError

CLASS_IDS = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}
"""Cityscapes' ids of the classes with instances, in the order of the classes 1 … 8 of this reader."""

VOID_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""Label ids that the official evaluation ignores (`ignoreInEval` in cityscapesScripts' labels)."""


class CityscapesDataset(LabelImageDataset):
    """A split of Cityscapes.

    Layout: `leftImg8bit/{split}/{city}/{name}_leftImg8bit.png` and
    `gtFine/{split}/{city}/{name}_gtFine_instanceIds.png`. A label image has 16 bits: id·1000 + n for the n-th object of
    a class with instances, and the id alone for other classes and for groups whose members cannot be told apart. Groups
    of the eight classes and ignored labels are void, as in the official evaluation; single caravans and trailers are
    background. Images are sorted by city and name.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test". Where "test" has no annotations, all its pixels are void.
        check: see `FileDataset`.

    Raises:
        InputError: if a folder or file is missing or there are no images.
    """

    class_names: tuple[str, ...] = ("background", *CLASS_IDS.values())

    def __init__(self, root: str | pathlib.Path, split: str, *, check: bool = True):
        root = require_folder(root, "the folder of Cityscapes")
        folder = find(
            [root / "leftImg8bit" / split], f"the images of Cityscapes' split {split!r}", error=MissingSplitError
        )
        self.image_files = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not self.image_files:
            raise InputError(f"expected images named CITY/…_leftImg8bit.png. Received: none in {folder}")
        self.names = [path.name.removesuffix("_leftImg8bit.png") for path in self.image_files]
        self.annotation_files = [
            root / "gtFine" / split / path.parent.name / f"{name}_gtFine_instanceIds.png"
            for path, name in zip(self.image_files, self.names, strict=True)
        ]
        if split == "test" and not any(path.exists() for path in self.annotation_files):
            self.annotation_files = []
        elif check:
            check_files(self.annotation_files, folder)

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return decode(read_labels_of(self.annotation_files[index], self.image_files[index], shape))


def decode(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns an image of Cityscapes' instance ids into a label map.

    Args:
        ids: (H, W) int32, as in `*_instanceIds.png`.

    Returns:
        (H, W) int32 label map and (n,) int32 classes 1 … 8.
    """
    numbers = {label: number for number, label in enumerate(CLASS_IDS, start=1)}
    class_of = {value: numbers[value // 1000] for value in ids_in(ids) if value // 1000 in numbers}
    return from_ids(ids, class_of, void_ids=(*VOID_IDS, *CLASS_IDS))
