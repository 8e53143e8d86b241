"""What datasets of generated images share: their arguments, their splits, and smooth noise."""

import abc
from typing import Any, ClassVar

import numpy as np

from rsis_tf.data.sample import SPLITS, Sample


class GeneratedDataset(abc.ABC):
    """Samples that depend only on `size`, `seed`, `max_objects` and their index, so that nothing is stored.

    Args:
        size: (H, W) of the images in pixels, at least `min_side` each.
        length: number of samples.
        seed: 0 or more; different seeds give different samples.
        max_objects: largest number of objects in an image.

    Raises:
        ValueError: for a value out of range.
    """

    class_names: tuple[str, ...]
    min_side: ClassVar[int]

    def __init__(self, *, size: tuple[int, int], length: int, seed: int, max_objects: int) -> None:
        if min(size) < self.min_side:
            raise ValueError(f"size must be at least {self.min_side} pixels on each side. Received: size={size}")
        if length < 1 or max_objects < 1 or seed < 0:
            raise ValueError(
                "length and max_objects must be at least 1, seed at least 0. "
                f"Received: length={length}, max_objects={max_objects}, seed={seed}"
            )
        self.size = size
        self.seed = seed
        self.max_objects = max_objects
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0 … {self._length - 1}. Received: {index}")
        return self.draw(index, np.random.default_rng((self.seed, index)))

    @abc.abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Draws a sample with the random numbers that belong to its index."""


def split_arguments(split: str, *, train_size: int | None, val_size: int | None, seed: int) -> dict[str, Any]:
    """Returns `length` and `seed` of a split: `train_size` (default: 4096) for "train", else `val_size` (default: 128).

    Args:
        split: one of `SPLITS`.
        train_size, val_size: numbers of samples.
        seed: of the run.
    """
    # Each seed of a run has its own three seeds, so no two splits of any two runs have an image in common.
    length = (train_size or 4096) if split == "train" else (val_size or 128)
    return {"length": length, "seed": len(SPLITS) * seed + SPLITS.index(split)}


def interpolation(nodes: int, length: int) -> np.ndarray:
    """Returns (length, nodes) float32: weights that interpolate `nodes` values smoothly over `length` pixels."""
    position = np.linspace(0, nodes - 1, length)[:, None]
    linear = np.clip(1 - np.abs(position - np.arange(nodes)), 0, 1)
    return (linear * linear * (3 - 2 * linear)).astype(np.float32)
