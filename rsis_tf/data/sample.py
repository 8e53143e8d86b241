"""One picture with its objects: what every reader returns and the pipeline turns into batches."""

import dataclasses
from typing import Protocol

import numpy as np

VOID = -1
"""Value in a label map for pixels that belong to nothing known and are ignored in evaluation."""

PADDING = -2
"""Value in a batch's label map for pixels beside an image that keeps its shape: void, and left out of every loss."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture and its instances.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label_map: (H, W) int32: 0 background, i = the i-th instance (1 … n), `VOID` = ignored.
        classes: (n,) int32, class of each instance, 1 … K−1.
        image_id: what the dataset calls the picture; unique in it.
    """

    image: np.ndarray
    label_map: np.ndarray
    classes: np.ndarray
    image_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the annotation of one image and the header of its file say, without decoding its pixels.

    Attributes:
        objects: how many there are; those that others hide are among them where only painting would tell.
        empty: annotations without a pixel in the image, which are left out.
        crowds: annotations of regions that are ignored.
        note: what a user should know of how the image is read, one of the keys of `rsis_tf.data.preflight.NOTES`.
    """

    objects: int
    empty: int = 0
    crowds: int = 0
    note: str = ""


class Dataset(Protocol):
    """A sequence of samples that are read when asked for.

    Readers of files also have `image_files` and `annotation_files`, lists of paths, and three methods:
    `inspect(index)`, which returns an `Inspection` or raises the `InputError` that reading the sample would raise;
    `read(index, at_least)`, which may give a sample of a large JPEG file reduced to (h, w) or more; and
    `files(index)`, the paths that a sample is made of (`rsis_tf.data.working`).
    """

    class_names: tuple[str, ...]
    """K names, the first of them "background"."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
