"""One picture with its objects: what every reader returns and the pipeline turns into batches."""

import dataclasses
from typing import Protocol

import numpy as np

VOID = -1
"""Value in a label map for pixels that belong to nothing known and are ignored in evaluation."""


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


class Dataset(Protocol):
    """A sequence of samples that are read when asked for."""

    class_names: tuple[str, ...]
    """K names, the first of them "background"."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
