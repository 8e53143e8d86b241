"""Reading, renumbering and ordering label maps: what readers and pipeline share."""

import pathlib

import numpy as np

from rsis_tf.data.sample import VOID, Inspection, Sample
from rsis_tf.errors import InputError
from rsis_tf.images import read_header, read_label_image, read_reduced


def read_label_image_of(path: pathlib.Path, image_file: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads the label image that belongs to an image.

    Args:
        path: of the label image.
        image_file: of the image.
        shape: (H, W) of the whole image.

    Returns:
        (H, W) int32.

    Raises:
        InputError: when the file cannot be read or has another size than the image.
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


def every(ids: np.ndarray, factor: int) -> np.ndarray:
    """Reduces (H, W) labels by a whole factor: of each block the pixel in its middle.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉) labels; blocks cut off by the edge have their middle moved inside.
    """
    if factor == 1:
        return ids
    rows, columns = (np.minimum(np.arange(0, side, factor) + factor // 2, side - 1) for side in ids.shape)
    return ids[np.ix_(rows, columns)]


class LabelImageReader:
    """What readers of label images share: a sample, and its inspection, which decodes the label image only.

    A reader has `image_files` and `annotation_files`, and `_labels` and `_image_id` by index.
    """

    image_files: list[pathlib.Path]
    annotation_files: list[pathlib.Path]
    """Empty where a split has no truth."""

    def __len__(self) -> int:
        return len(self.image_files)

    def __getitem__(self, index: int) -> Sample:
        return self.read(index)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample; a large JPEG file reduced to (h, w) or more, its labels with it."""
        image = read_reduced(self.image_files[index], at_least)
        label_map, classes = reduced_labels(*self._labels(index, image.size), image.reduction)
        return Sample(image=image.pixels, label_map=label_map, classes=classes, image_id=self._image_id(index))

    def files(self, index: int) -> list[pathlib.Path]:
        """Files that a sample is made of."""
        return [files[index] for files in (self.image_files, self.annotation_files) if files]

    def inspect(self, index: int) -> Inspection:
        """Reads the annotation of an image, and of the image the header."""
        header = read_header(self.image_files[index])
        _, classes = self._labels(index, header.size)
        unclear = header.orientation != 1 and header.stored_size == header.size
        return Inspection(objects=len(classes), note="exif_unclear" if unclear else "")

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Label map (H, W) int32 and classes (n,) int32 of an image of a shape (H, W)."""
        raise NotImplementedError

    def _image_id(self, index: int) -> str:
        raise NotImplementedError


def reduced_labels(label_map: np.ndarray, classes: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduces (H, W) labels by a whole factor (`every`); objects that lose all their pixels are dropped."""
    return (label_map, classes) if factor == 1 else relabel(every(label_map, factor), classes)


def relabel(
    label_map: np.ndarray, classes: np.ndarray, *, by_area: bool = False, keep: int | None = None, rest: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the instances that have pixels 1 … n without gaps.

    Args:
        label_map: (H, W) int32: 0 background, i = the i-th instance, `VOID` = ignored.
        classes: (m,) int32, class of instance i at i − 1.
        by_area: largest first (equal areas in the given order) instead of the given order.
        keep: the largest number of instances kept, the first ones.
        rest: what the others become: background, or `VOID`.

    Returns:
        (H, W) int32 label map with `VOID` where it was, and (n,) int32 classes.
    """
    areas = np.bincount(np.maximum(label_map, 0).ravel(), minlength=len(classes) + 1)[1:]  # (m,)
    order = np.argsort(-areas, kind="stable") if by_area else np.arange(len(areas))
    order = order[areas[order] > 0][:keep]
    # One entry per old value; a label map's VOID (−1) indexes the last.
    table = np.full(len(classes) + 2, rest, np.int32)
    table[0] = 0
    table[order + 1] = np.arange(1, len(order) + 1)
    table[VOID] = VOID
    return table[label_map], classes[order].astype(np.int32)


def ids_in(ids: np.ndarray) -> list[int]:
    """The values of an integer image of ids, 0 or more each, in rising order."""
    return np.flatnonzero(np.bincount(ids.ravel())).tolist()


def from_ids(
    ids: np.ndarray, class_of: dict[int, int], void_ids: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Turns an image of ids into a label map, instances in the order of their ids.

    Args:
        ids: (H, W) integer image, values 0 or more.
        class_of: class of each id that is an instance and occurs; other ids become background.
        void_ids: ids whose pixels are ignored.

    Returns:
        (H, W) int32 label map and (n,) int32 classes.
    """
    table = np.zeros(max(int(ids.max()), *class_of, *void_ids, 0) + 1, np.int32)
    table[list(void_ids)] = VOID
    table[sorted(class_of)] = np.arange(1, len(class_of) + 1)
    return table[ids], np.array([class_of[value] for value in sorted(class_of)], np.int32)
