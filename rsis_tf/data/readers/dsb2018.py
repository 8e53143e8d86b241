"""2018 Data Science Bowl (BBBC038): a folder for each image, which holds the image and one mask file per object."""

import pathlib

import numpy as np

from rsis_tf.data.labels import hidden_objects, ids_in, relabel
from rsis_tf.data.paths import MissingSplitError, UnsplitError, read_names, require_folder
from rsis_tf.data.readers.label_images import LabelImageDataset, read_labels_of
from rsis_tf.data.readers.validation_share import part_of
from rsis_tf.data.sample import Inspection
from rsis_tf.errors import InputError, OptionError, brief
from rsis_tf.images import list_images, read_header

_ARCHIVE = "stage1_train"
"""Folder of the annotated images in the Bowl's download."""


class Dsb2018Dataset(LabelImageDataset):
    """A split of the Bowl's annotated images, or of a dataset in their layout.

    Layout: `NAME/images/*` with one image, and `NAME/masks/*` with one mask per object (every value except 0 belongs to
    the object). All objects have the class "nucleus". Where masks overlap, the smaller one is on top. Images are sorted
    by name.

    The download has no splits. `train.txt`, `val.txt` and `test.txt` in `root` make some: one NAME per line. Without
    these files, `val_share` divides the images.

    Args:
        root: the folder that holds the folders of the images, or its parent (`stage1_train` is found in it).
        split: "train", "val" or "test"; "all" for all images.
        val_share: the share of the images that is "val" if there are no files with names; the rest is "train".
        check: see `FileDataset`.

    Raises:
        UnsplitError: if there are neither files with names nor a `val_share`.
        MissingSplitError: if there are such files, but not for this split.
        OptionError: if there are no such folders, or a `val_share` beside files with names.
        InputError: if a folder is missing, or a folder of an image has no mask folder or not exactly one image.
    """

    class_names: tuple[str, ...] = ("background", "nucleus")

    def __init__(
        self, root: str | pathlib.Path, split: str, *, val_share: float | None = None, check: bool = True
    ) -> None:
        root = require_folder(root, "a folder of images with one mask file per object")
        folder = root / _ARCHIVE if (root / _ARCHIVE).is_dir() else root
        names = sorted(path.name for path in folder.iterdir() if (path / "images").is_dir())
        if not names:
            raise OptionError(f"expected folders NAME/images and NAME/masks. Received: none in {folder}")
        self.names = _divide(root, names, split, val_share)
        self.image_files = [_only_image(folder / name / "images") for name in self.names]
        self._masks = [_masks(folder / name / "masks", check=check) for name in self.names]
        self.annotation_files = [path for paths in self._masks for path in paths]

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        return [self.image_files[index], *self._masks[index]]

    def inspect(self, index: int) -> Inspection:
        """Reads the masks and the header of the image."""
        areas, label_map = self._painted(index, read_header(self.image_files[index]).size)
        return Inspection(objects=len(set(ids_in(label_map)) - {0}), empty=areas.count(0))

    def findings(self, index: int) -> list[str]:
        """Returns the masks without a pixel and those that others hide completely."""
        areas, label_map = self._painted(index, read_header(self.image_files[index]).size)
        paths = self._masks[index]
        empty = [path for path, area in zip(paths, areas, strict=True) if area == 0]
        lines = [f"expected a mask with pixels. Received: an empty one, {path}" for path in empty]
        return lines + hidden_objects(label_map, areas, list(map(str, paths)))

    def _labels_or_void(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        # An image without masks has no objects; it is not an image without annotations.
        areas, label_map = self._painted(index, shape)
        return relabel(label_map, np.ones(len(areas), np.int32))

    def _painted(self, index: int, shape: tuple[int, int]) -> tuple[list[int], np.ndarray]:
        """Returns the area of each mask in pixels, and the label map (H, W) int32 with 1 + the mask's position."""
        masks = [read_labels_of(path, self.image_files[index], shape) > 0 for path in self._masks[index]]
        areas = [int(mask.sum()) for mask in masks]
        label_map = np.zeros(shape, np.int32)
        for position in sorted(range(len(masks)), key=lambda position: -areas[position]):
            label_map[masks[position]] = position + 1
        return areas, label_map


def _divide(root: pathlib.Path, names: list[str], split: str, val_share: float | None) -> list[str]:
    """Returns the names of a split, sorted."""
    lists = {name: root / f"{name}.txt" for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()}
    if lists and val_share is not None:
        raise OptionError(
            "expected --val-share with a dataset that has no files with names. "
            f"Received: --val-share {val_share} beside {next(iter(lists.values()))}"
        )
    if split == "all":
        return names
    if lists:
        if split not in lists:
            raise MissingSplitError(f"expected the names of split {split!r} in {root / split}.txt. Received: no file")
        listed = sorted(set(read_names(lists[split])))
        unknown = sorted(set(listed) - set(names))
        if unknown or not listed:
            raise InputError(
                f"expected names of folders in {root}. "
                f"Received: {brief(unknown[0]) if unknown else 'none'} in {lists[split]}"
            )
        return listed
    if val_share is None:
        raise UnsplitError(
            "expected --val-share 0.2 to keep a fifth of the images for validation, or files train.txt and val.txt "
            f"with names. Received: neither in {root}"
        )
    if split == "test":
        raise MissingSplitError(f"expected split train or val, which --val-share makes. Received: {split!r}")
    return part_of(names, names, split=split, share=val_share)


def _only_image(folder: pathlib.Path) -> pathlib.Path:
    images = list_images(folder)
    if len(images) != 1:
        raise InputError(f"expected one image in {folder}. Received: {len(images)} images")
    return images[0]


def _masks(folder: pathlib.Path, *, check: bool) -> list[pathlib.Path]:
    if not folder.is_dir():
        if check:
            raise InputError(f"expected a folder of masks, empty if there is no object. Received: none at {folder}")
        return []
    return list_images(folder)
