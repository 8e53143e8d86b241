"""Small files in the formats of the datasets, for the tests of the readers."""

import pathlib

import numpy as np
from PIL import Image

from rsis_tf.data.sample import Sample


def save(path: pathlib.Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    """Writes an image, making its folder; with `palette`, the values become indices of arbitrary colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    picture.save(path)


def photo(height: int = 4, width: int = 6, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def made_sample(label_map: list[list[int]] | np.ndarray, classes: list[int], image: np.ndarray | None = None) -> Sample:
    """A sample with the given labels; the picture is noise unless given."""
    label_map = np.asarray(label_map, np.int32)
    image = photo(*label_map.shape) if image is None else image
    return Sample(image=image, label_map=label_map, classes=np.array(classes, np.int32), image_id="made")


class MadeDataset:
    """Pictures of one colour each, their index, with one object in the upper left corner."""

    class_names = ("background", "thing")

    def __init__(self, length: int, side: int = 8):
        self.length = length
        self.side = side

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        label_map = np.zeros((self.side, self.side), np.int32)
        label_map[:4, :4] = 1
        return made_sample(label_map, [1], np.full((self.side, self.side, 3), index, np.uint8))
