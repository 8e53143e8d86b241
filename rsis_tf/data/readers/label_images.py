"""Base of the readers whose datasets store objects as label images: files whose pixel values are ids."""

import pathlib

import numpy as np

from rsis_tf.data.labels import reduced_labels
from rsis_tf.data.sample import VOID, FileDataset, Inspection, Sample
from rsis_tf.errors import InputError
from rsis_tf.images import read_header, read_label_image, read_reduced


class LabelImageDataset(FileDataset):
    """Reads images and their labels; `inspect` decodes the label image only.

    A subclass sets `class_names`, `image_files`, `annotation_files` and `names`, and implements `_labels`. Without
    annotation files, as in test splits, all pixels are void.

    Attributes:
        names: name of each image, its `image_id`.
    """

    names: list[str]

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample, see `FileDataset.read`."""
        image = read_reduced(self.image_files[index], at_least)
        label_map, classes = reduced_labels(*self._labels_or_void(index, image.size), image.reduction)
        return Sample(image=image.pixels, label_map=label_map, classes=classes, image_id=self.names[index])

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        return [files[index] for files in (self.image_files, self.annotation_files) if files]

    def inspect(self, index: int) -> Inspection:
        """Reads the label image and the header of the image."""
        header = read_header(self.image_files[index])
        _, classes = self._labels_or_void(index, header.size)
        unclear = header.orientation != 1 and header.stored_size == header.size
        return Inspection(objects=len(classes), note="exif_unclear" if unclear else "")

    def _labels_or_void(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        if not self.annotation_files:
            return np.full(shape, VOID, np.int32), np.zeros(0, np.int32)
        return self._labels(index, shape)

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the label map (H, W) int32 and the classes (n,) int32 of an image of shape (H, W)."""
        raise NotImplementedError


def read_labels_of(path: pathlib.Path, image_file: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads the label image of an image.

    Args:
        path: the label image.
        image_file: the image.
        shape: (H, W) of the whole image.

    Returns:
        (H, W) int32.

    Raises:
        InputError: if the file cannot be read or its size is not that of the image.
    """
    ids = read_label_image(path)
    if ids.shape != shape:
        header = read_header(image_file)
        exif = ""
        if header.orientation != 1:
            height, width = header.stored_size
            exif = f" (the image's EXIF orientation {header.orientation} turns the stored {width}x{height})"
        raise InputError(
            f"expected {shape[1]}x{shape[0]} pixels as in the image{exif}. "
            f"Received: {ids.shape[1]}x{ids.shape[0]} in {path}"
        )
    return ids
