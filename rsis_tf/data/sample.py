"""What a dataset is: a sequence of samples, and the interface that a reader of files implements.

To add a dataset, write a reader in `rsis_tf/data/readers/` (a subclass of `FileDataset`, or of
`rsis_tf.data.readers.label_images.LabelImageDataset` if the objects are stored as label images) and add one row to
`rsis_tf.data.DATASETS`.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Protocol, TypeGuard

import numpy as np

SPLITS = ("train", "val", "test")

VOID = -1
"""Value in a label map for pixels that are ignored in training and evaluation."""

PADDING = -2
"""Value in a batch's label map for pixels beside an image that keeps its shape. They are left out of every loss."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """An image and its objects.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label_map: (H, W) int32: 0 background, i = the i-th object (1 … n), `VOID` = ignored.
        classes: (n,) int32, class of each object, 1 … K−1.
        image_id: the dataset's name for the image, unique in the dataset.
    """

    image: np.ndarray
    label_map: np.ndarray
    classes: np.ndarray
    image_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the annotations of one image and the header of its file say; no pixel of the image is decoded.

    Attributes:
        objects: number of objects. Readers that would have to paint the objects to find hidden ones count those too.
        empty: number of annotations without a pixel in the image; they are left out.
        crowds: number of annotations that mark an ignored region.
        note: how the image is read, if a user should know: a key of `rsis_tf.data.preflight.NOTES`, or "".
    """

    objects: int
    empty: int = 0
    crowds: int = 0
    note: str = ""


class Dataset(Protocol):
    """A sequence of samples, each read or generated when it is indexed."""

    class_names: tuple[str, ...]
    """K names, the first of them "background"."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class FileDataset:
    """Base class of the readers of files: everything that the rest of the package asks of a reader.

    A reader is constructed as `Reader(root, split, check=check)`: the dataset's folder, the name of the split, and
    whether the reader makes sure at once that every file exists (True) or leaves that to the reading (False). It raises
    an `InputError` that names the missing folder or file, and a `MissingSplitError` (`rsis_tf.data.paths`) if the
    dataset has no such split.

    A reader sets `class_names`, `image_files` and `annotation_files` and implements `read`, `files` and `inspect`. The
    other attributes and methods have defaults.
    """

    class_names: tuple[str, ...]
    """K names, the first of them "background"."""

    image_files: list[pathlib.Path]
    """One file per sample."""

    annotation_files: list[pathlib.Path]
    """All files that hold annotations; empty if the split has none."""

    class_files: Sequence[pathlib.Path] = ()
    """Files that say what the classes are, if they are not among `annotation_files`."""

    category_ids: tuple[int | str, ...] = ()
    """The K ids that the dataset's files use for the classes, 0 for background; empty if the files have no ids."""

    crowds: str | None = None
    """How crowd annotations are read (`DataConfig.crowds`); None if the dataset has none."""

    problems: Sequence[str] = ()
    """What is wrong with the annotations, one line each with the file and the entry's id."""

    remarks: Sequence[str] = ()
    """Entries that can be read but are probably a mistake, one line each."""

    dropped_categories: Sequence[str] = ()
    """Categories that are not classes because no object has them."""

    masks_marked_as_crowds: bool = False
    """Whether masks that are marked as crowds are read as objects."""

    def __len__(self) -> int:
        return len(self.image_files)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0 … {len(self) - 1}. Received: {index}")
        return self.read(index)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample.

        Args:
            index: 0 … len − 1.
            at_least: (h, w); a large JPEG file may be reduced to this size or more, and its labels with it. None for
                the whole image.

        Raises:
            InputError: if a file cannot be read or its annotations are wrong.
        """
        raise NotImplementedError

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from; a cached sample is valid while none of them changes."""
        raise NotImplementedError

    def inspect(self, index: int) -> Inspection:
        """Reads the annotations of an image and the header of its file.

        Raises:
            InputError: the error that `read` would raise, as far as it can be found without decoding the image.
        """
        raise NotImplementedError

    def findings(self, index: int) -> list[str]:
        """Returns what is wrong with the annotations of one image, one line each; for `rsis check`."""
        return []

    def unlisted_files(self) -> list[pathlib.Path]:
        """Returns the image files of the split that the annotations do not list."""
        return []


def reads_files(dataset: Dataset) -> TypeGuard[FileDataset]:
    """Whether the dataset has the interface of `FileDataset`; generated samples do not."""
    return hasattr(dataset, "annotation_files")


def category_ids(dataset: Dataset) -> tuple[int, ...]:
    """Returns the K ids that the dataset's files use for the classes, 0 for background.

    Empty if the files have no ids, or ids that are not integers.
    """
    numbers = tuple(getattr(dataset, "category_ids", ()))
    return numbers if all(type(number) is int for number in numbers) else ()
