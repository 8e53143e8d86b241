"""Your own data in two folders: images, and label maps of the same names."""

import pathlib

import numpy as np

from rsis_tf.data.class_names import with_background
from rsis_tf.data.labels import from_ids, ids_in
from rsis_tf.data.paths import MissingSplitError, check_files, find, read_names, require_folder
from rsis_tf.data.readers.label_images import LabelImageDataset, read_labels_of
from rsis_tf.errors import InputError
from rsis_tf.images import LABEL_SUFFIXES, list_images

_PER_CLASS = 1000
"""A label map with classes holds class · 1000 + number, as Cityscapes' instance ids do."""

"""Lossless formats."""


class FolderDataset(LabelImageDataset):
    """A split in two folders.

    Layout: `{split}/images/NAME.*` and `{split}/labels/NAME.png` (or .tif, .bmp); or `images/{split}/…` and
    `labels/{split}/…`. A label map is a palette or greyscale image of 8 or 16 bits. Images are sorted by name.

    Without `classes.txt` in `root`, all objects have one class, "object": 0 is background and every other value is one
    object. `classes.txt` has one class name per line, without the background. With it, a value is
    class · 1000 + number, classes counted from 1; the values 1 … 999 are void.

    Args:
        root: the dataset's folder.
        split: name of the split, for example "train".
        check: see `FileDataset`; every image needs its label map, and every label map its image.

    Raises:
        InputError: if a folder or file is missing, there are no images, or two classes have the same name.
    """

    def __init__(self, root: str | pathlib.Path, split: str, *, check: bool = True):
        root = require_folder(root, "a folder with images and label maps")
        image_folder = find(
            [root / split / "images", root / "images" / split],
            f"a folder with the images of split {split!r}",
            error=MissingSplitError,
        )
        label_folder = find([root / split / "labels", root / "labels" / split], f"the label maps of split {split!r}")
        images = _by_name(image_folder, list_images(image_folder))
        label_maps = _by_name(
            label_folder, [path for path in list_images(label_folder) if path.suffix.lower() in LABEL_SUFFIXES]
        )
        self.names = sorted(images.keys() | label_maps.keys())
        if not self.names:
            raise InputError(f"expected at least one image. Received: none in {image_folder}")
        # The path of a missing file is made up, so that checking or reading it reports the file as missing.
        self.image_files = [images.get(name, image_folder / f"{name}.png") for name in self.names]
        self.annotation_files = [label_maps.get(name, label_folder / f"{name}.png") for name in self.names]
        if check:
            check_files(self.image_files, label_folder)
            check_files(self.annotation_files, image_folder)
        classes_file = root / "classes.txt"
        self._with_classes = classes_file.is_file()
        self.class_files = [classes_file] if self._with_classes else []
        names_of_classes = read_names(classes_file) if self._with_classes else ["object"]
        if not names_of_classes:
            raise InputError(f"expected one class name per line. Received: an empty {classes_file}")
        self.class_names = with_background(names_of_classes, classes_file)

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        path = self.annotation_files[index]
        ids = read_labels_of(path, self.image_files[index], shape)
        values = [value for value in ids_in(ids) if value != 0]
        if not self._with_classes:
            return from_ids(ids, dict.fromkeys(values, 1))
        class_of = {value: value // _PER_CLASS for value in values if value >= _PER_CLASS}
        unknown = [value for value, number in class_of.items() if number >= len(self.class_names)]
        if unknown:
            raise InputError(
                f"expected values under {len(self.class_names) * _PER_CLASS} with the classes of classes.txt. "
                f"Received: {unknown[0]} in {path}"
            )
        return from_ids(ids, class_of, void_ids=tuple(value for value in values if value < _PER_CLASS))

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        return [*super().files(index), *self.class_files]


def _by_name(folder: pathlib.Path, paths: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns the files by their names without suffix.

    Raises:
        InputError: if two files differ in the suffix only.
    """
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        if path.stem in files:
            raise InputError(
                f"expected one file per name in {folder}. Received: {files[path.stem].name} and {path.name}"
            )
        files[path.stem] = path
    return files
