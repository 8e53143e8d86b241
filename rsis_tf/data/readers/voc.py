"""Pascal VOC 2012, segmentation task, and every dataset in its layout, such as the merge with SBD (`sbd`)."""

import pathlib

import numpy as np

from rsis_tf.data.labels import from_ids, ids_in
from rsis_tf.data.paths import MissingSplitError, check_files, find, outside_remarks, read_names, require_folder
from rsis_tf.data.readers.label_images import LabelImageDataset, read_labels_of
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError, OptionError

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

VOID_ID = 255
"""Palette index of void in both label images: outlines of objects, and regions too unclear to label."""


class VocDataset(LabelImageDataset):
    """A split of Pascal VOC 2012's segmentation task.

    Layout: `ImageSets/Segmentation/{split}.txt` lists names; `JPEGImages/{name}.jpg` is the image,
    `SegmentationObject/{name}.png` numbers its objects by palette index and `SegmentationClass/{name}.png` holds the
    class of every pixel. The class of an object is the class of most of its pixels.

    Args:
        root: the folder VOC2012, or one that holds it as `VOC2012` or `VOCdevkit/VOC2012`.
        split: name of the split: "train" or "val", or "test" if its list exists.
        check: see `FileDataset`.

    Raises:
        InputError: if a folder or file is missing or the list is empty.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, root: str | pathlib.Path, split: str, *, check: bool = True):
        root = locate(root)
        names_file = find(
            [root / "ImageSets" / "Segmentation" / f"{split}.txt"],
            f"the list of split {split!r}",
            error=MissingSplitError,
        )
        self.names = read_names(names_file)
        if not self.names:
            raise InputError(f"expected at least one name. Received: none in {names_file}")
        self.image_files = [root / "JPEGImages" / f"{name}.jpg" for name in self.names]
        self._object_files = [root / "SegmentationObject" / f"{name}.png" for name in self.names]
        self._class_files = [root / "SegmentationClass" / f"{name}.png" for name in self.names]
        self.annotation_files = [*self._object_files, *self._class_files]
        self.remarks = outside_remarks(self.names, self.image_files, [root / "JPEGImages"], names_file)
        if check:
            check_files([*self.image_files, *self.annotation_files], names_file)

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        return [self.image_files[index], self._object_files[index], self._class_files[index]]

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        objects = read_labels_of(self._object_files[index], self.image_files[index], shape)
        classes = read_labels_of(self._class_files[index], self.image_files[index], shape)
        class_of = {}
        for number in ids_in(objects):
            if number in (0, VOID_ID):
                continue
            inside = classes[objects == number]
            inside = inside[(inside > 0) & (inside != VOID_ID)]
            if inside.size == 0 or inside.max() >= len(self.class_names):
                raise InputError(
                    f"expected a class 1 … {len(self.class_names) - 1} for every object. "
                    f"Received: object {number} with classes {np.unique(inside).tolist()} in {self._class_files[index]}"
                )
            class_of[number] = int(np.bincount(inside).argmax())
        label_map, class_ids = from_ids(objects, class_of, void_ids=(VOID_ID,))
        # A few pixels are void in VOC's class images and background in its object images.
        label_map[(label_map == 0) & (classes == VOID_ID)] = VOID
        return label_map, class_ids


def locate(root: str | pathlib.Path) -> pathlib.Path:
    """Finds the folder that holds `ImageSets/Segmentation`: `root` or a known folder under it.

    Raises:
        OptionError: if there is none.
    """
    root = require_folder(root, "the folder of Pascal VOC 2012")
    candidates = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"]
    return find(
        [path / "ImageSets" / "Segmentation" for path in candidates],
        "Pascal VOC's lists in ImageSets/Segmentation",
        error=OptionError,
    ).parent.parent
