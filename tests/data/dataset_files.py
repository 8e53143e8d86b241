"""Small files and samples for the tests of datasets."""

import json
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.data.sample import Sample

ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""


def save(path: pathlib.Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    """Writes an image and creates its folder; with `palette`, the values become indices of arbitrary colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)


def noise(height: int = 4, width: int = 6, seed: int = 0) -> np.ndarray:
    """Returns (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def sample_of(label_map: list[list[int]] | np.ndarray, classes: list[int], image: np.ndarray | None = None) -> Sample:
    """Returns a sample with the given labels; the image is noise unless given."""
    label_map = np.asarray(label_map, np.int32)
    image = noise(*label_map.shape) if image is None else image
    return Sample(image=image, label_map=label_map, classes=np.array(classes, np.int32), image_id="made")


class NumberedDataset:
    """Images of one grey value each, their index, with one object in the upper left corner."""

    class_names = ("background", "thing")

    def __init__(self, length: int, side: int = 8):
        self.length = length
        self.side = side

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        label_map = np.zeros((self.side, self.side), np.int32)
        label_map[:4, :4] = 1
        return sample_of(label_map, [1], np.full((self.side, self.side, 3), index, np.uint8))


def scene(height: int, width: int) -> tuple[Image.Image, list[list[float]]]:
    """Returns a smooth image with two polygons of other colours, and the polygons in COCO's form."""
    y, x = np.mgrid[:height, :width]
    waves = [90 + 30 * np.sin(7 * x / width + channel) * np.cos(5 * y / height) for channel in range(3)]
    image = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    shares = [(0.1, 0.1, 0.45, 0.15, 0.4, 0.7, 0.15, 0.6), (0.55, 0.4, 0.9, 0.35, 0.95, 0.9, 0.6, 0.85)]
    polygons = [[share * (width, height)[i % 2] for i, share in enumerate(corners)] for corners in shares]
    for polygon, colour in zip(polygons, [(240, 60, 60), (60, 60, 240)], strict=True):
        ImageDraw.Draw(image).polygon(polygon, fill=colour)
    return image, polygons


def write_coco(
    root: pathlib.Path, size: tuple[int, int], *, ending: str = "jpg", orientation: int | None = None
) -> pathlib.Path:
    """Writes a dataset of one image in COCO's format; with an EXIF orientation, its pixels are stored turned."""
    height, width = size
    image, polygons = scene(height, width)
    (root / "train").mkdir(parents=True, exist_ok=True)
    options = {"quality": 95} if ending == "jpg" else {}
    if orientation:
        # The inverse of the turn that a viewer applies for this orientation.
        undo = {3: 3, 6: 2, 8: 4}[orientation]
        image = image.transpose(Image.Transpose(undo))
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    image.save(root / "train" / f"scene.{ending}", **options)
    content = {
        "images": [{"id": 7, "file_name": f"scene.{ending}", "height": height, "width": width}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": 3 + i, "segmentation": [polygon], "iscrowd": 0}
            for i, polygon in enumerate(polygons)
        ],
        "categories": [{"id": 3, "name": "red"}, {"id": 4, "name": "blue"}],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "train.json").write_text(json.dumps(content), encoding="utf-8")
    return root
