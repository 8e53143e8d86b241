"""A dataset of one's own as two folders: pictures, and label maps of the same names."""

import pathlib

import numpy as np

from rsis_tf.data.files import MissingSplitError, check_files, find, list_images, read_names, require_folder
from rsis_tf.data.labels import LabelImageReader, from_ids, ids_in, read_label_image_of
from rsis_tf.errors import InputError

_PER_CLASS = 1000
"""A label map with classes holds class · 1000 + number, as Cityscapes' instance ids do."""

_LABEL_SUFFIXES = (".bmp", ".png", ".tif", ".tiff")
"""Formats that keep every value as it is."""


class FolderDataset(LabelImageReader):
    """A split in two folders.

    Layout: `{split}/images/NAME.*` and `{split}/labels/NAME.png` (or .tif, .bmp); or `images/{split}/…` and
    `labels/{split}/…`. A label map is a palette or greyscale image of 8 or 16 bits. Without `classes.txt` in `root` all
    objects are of one class, "object": 0 is background and every other value one object. With it (one name per line,
    background not among them) the value is class · 1000 + number, with classes counted from 1; the other values below
    1000 are void. The pictures come sorted by name.

    Args:
        root: the dataset's folder.
        split: name of the split, for example "train".
        check: make sure at once that every picture has its label map and the other way round; False leaves that to the
            reading.

    Raises:
        InputError: when a folder or file is missing or there are no pictures.
    """

    def __init__(self, root: str | pathlib.Path, split: str, *, check: bool = True):
        root = require_folder(root, "a folder with pictures and label maps")
        images = find(
            [root / split / "images", root / "images" / split],
            f"a folder with the pictures of split {split!r}",
            error=MissingSplitError,
        )
        labels = find([root / split / "labels", root / "labels" / split], f"the label maps of split {split!r}")
        pictures = _by_name(images, list_images(images))
        label_maps = _by_name(labels, [path for path in list_images(labels) if path.suffix.lower() in _LABEL_SUFFIXES])
        self._names = sorted(pictures.keys() | label_maps.keys())
        if not self._names:
            raise InputError(f"expected at least one picture. Received: none in {images}")
        # Where one of the two lacks, a name that does not exist stands for it: checking or reading it reports the lack.
        self.image_files = [pictures.get(name, images / f"{name}.png") for name in self._names]
        self.annotation_files = [label_maps.get(name, labels / f"{name}.png") for name in self._names]
        if check:
            check_files(self.image_files, labels)
            check_files(self.annotation_files, images)
        classes_file = root / "classes.txt"
        self._with_classes = classes_file.is_file()
        self._class_files = [classes_file] if self._with_classes else []
        names_of_classes = read_names(classes_file) if self._with_classes else ["object"]
        if not names_of_classes:
            raise InputError(f"expected one class name per line. Received: an empty {classes_file}")
        self.class_names: tuple[str, ...] = ("background", *names_of_classes)

    def _image_id(self, index: int) -> str:
        return self._names[index]

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        path = self.annotation_files[index]
        ids = read_label_image_of(path, self.image_files[index], shape)
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
        """Files that a sample is made of."""
        return [*super().files(index), *self._class_files]


def _by_name(folder: pathlib.Path, paths: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """The files by their name without ending.

    Raises:
        InputError: when two differ in the ending alone.
    """
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        if path.stem in files:
            raise InputError(
                f"expected one file per name in {folder}. Received: {files[path.stem].name} and {path.name}"
            )
        files[path.stem] = path
    return files
