"""Datasets in COCO's format: one JSON file of annotations per split, and a folder of pictures."""

import itertools
import json
import pathlib
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from rsis_tf.data.files import MissingSplitError, check_files, find, list_images, require_folder
from rsis_tf.data.labels import every, relabel
from rsis_tf.data.sample import VOID, Sample
from rsis_tf.errors import InputError
from rsis_tf.images import read_reduced


class CocoDataset:
    """A split of a dataset in COCO's format.

    Layouts: `annotations/{split}.json` or `annotations/instances_{split}.json`, pictures in `{split}/`,
    `images/{split}/` or `images/`; `{split}2017` is taken where there is no `{split}`. Segmentations may be polygons,
    compressed or uncompressed run lengths. Categories are numbered 1 … K−1 in the order of their ids. Where instances
    overlap, the smaller lies on top; crowds (`iscrowd`) are void. Pictures without annotation are kept; they come in
    the order of the file.

    Args:
        root: the dataset's folder.
        split: name of the split, for example "train".
        check: make sure at once that every picture exists; False leaves that to the reading.

    Raises:
        InputError: when a folder or file is missing or the annotations are not in COCO's format.
    """

    def __init__(self, root: str | pathlib.Path, split: str, *, check: bool = True):
        root = require_folder(root, "a folder with a dataset in COCO's format")
        names = (split, f"{split}2017")
        self.annotation_file = find(
            [root / "annotations" / f"{prefix}{name}.json" for name in names for prefix in ("", "instances_")],
            f"COCO annotations of split {split!r}",
            error=MissingSplitError,
        )
        folders = [root / name for name in names] + [root / "images" / name for name in names] + [root / "images"]
        self.image_folder = find(folders, f"a folder with the pictures of split {split!r}")
        content = self._load()
        self._images = content["images"]
        if not self._images:
            raise InputError(f"expected at least one picture. Received: none in {self.annotation_file}")
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self._class_of = {category["id"]: number for number, category in enumerate(categories, start=1)}
        self.class_names: tuple[str, ...] = ("background", *(str(category["name"]) for category in categories))
        self._annotations: dict[Any, list[dict]] = {image["id"]: [] for image in self._images}
        for annotation in content["annotations"]:
            for key, known in (("image_id", self._annotations), ("category_id", self._class_of)):
                if annotation[key] not in known:
                    raise InputError(
                        f"expected the {key} of a listed {key.removesuffix('_id')}. "
                        f"Received: {annotation[key]!r} in annotation {annotation['id']!r} of {self.annotation_file}"
                    )
            self._annotations[annotation["image_id"]].append(annotation)
        self.image_files = [self.image_folder / image["file_name"] for image in self._images]
        if check:
            check_files(self.image_files, self.annotation_file)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        return self.read(index)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample; a large JPEG file reduced to (h, w) or more, its labels with it."""
        entry = self._images[index]
        image = read_reduced(self.image_files[index], at_least)
        if image.size != (entry["height"], entry["width"]):
            raise InputError(
                f"expected {entry['width']}x{entry['height']} pixels as annotated. "
                f"Received: {image.size[1]}x{image.size[0]} in {self.image_files[index]}"
            )
        label_map, classes = self._labels(entry, image.reduction)
        return Sample(image=image.pixels, label_map=label_map, classes=classes, image_id=str(entry["id"]))

    def files(self, index: int) -> list[pathlib.Path]:
        """Files that a sample is made of."""
        return [self.image_files[index], self.annotation_file]

    def unlisted_files(self) -> list[pathlib.Path]:
        """Image files in the split's own folder that the annotations do not list, sorted."""
        if self.image_folder.name == "images":  # shared by all splits
            return []
        listed = set(self.image_files)
        return [path for path in list_images(self.image_folder) if path not in listed]

    def _labels(self, entry: dict, reduction: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (entry["height"], entry["width"])
        # COCO's run lengths go down the columns: painted into the transposed map, each run is one slice.
        columns = np.zeros(shape[0] * shape[1], np.int32)
        objects, classes = [], []
        for annotation in self._annotations[entry["id"]]:
            runs = self._run_lengths(annotation, shape)
            if annotation.get("iscrowd", 0):
                _paint(columns, runs, VOID)
            else:
                objects.append(runs)
                classes.append(self._class_of[annotation["category_id"]])
        areas = [sum(runs[1::2]) for runs in objects]
        for position in sorted(range(len(objects)), key=lambda position: -areas[position]):
            _paint(columns, objects[position], position + 1)
        label_map = np.ascontiguousarray(every(columns.reshape(shape[::-1]), reduction).T)  # (H, W), reduced
        return relabel(label_map, np.array(classes, np.int32))

    def _run_lengths(self, annotation: dict, shape: tuple[int, int]) -> list[int]:
        """The annotation's mask as lengths of runs of 0 and 1 in turn, down the columns."""
        segmentation = annotation.get("segmentation")
        where = f"annotation {annotation['id']!r} of {self.annotation_file}"
        if not segmentation or not isinstance(segmentation, list | dict):
            raise InputError(f"expected polygons or run lengths. Received: segmentation {segmentation!r} in {where}")
        if isinstance(segmentation, list):
            if not all(isinstance(ring, list) and len(ring) % 2 == 0 and _are_numbers(ring) for ring in segmentation):
                raise InputError(f"expected polygons as lists of x, y pairs. Received: something else in {where}")
            # Under three corners a ring has no area, and pycocotools would take four numbers for a box.
            rings = [ring for ring in segmentation if len(ring) >= 6]
            if not rings:
                return [shape[0] * shape[1]]
            return _decompress(rle_tools.merge(rle_tools.frPyObjects(rings, *shape))["counts"])
        if segmentation.get("size") != list(shape):
            raise InputError(
                f"expected run lengths of size {list(shape)} (height, width). "
                f"Received: {segmentation.get('size')!r} in {where}"
            )
        counts = segmentation.get("counts")
        runs = _decompress(counts.encode()) if isinstance(counts, str) else counts
        pixels = shape[0] * shape[1]
        if not (isinstance(runs, list) and _are_numbers(runs) and min(runs, default=-1) >= 0 and sum(runs) == pixels):
            raise InputError(f"expected run lengths that sum to {pixels} pixels. Received: other counts in {where}")
        return runs

    def _load(self) -> dict:
        """The JSON file's content, its lists and their required fields checked."""
        required = {
            "images": ("id", "file_name", "height", "width"),
            "annotations": ("id", "image_id", "category_id"),
            "categories": ("id", "name"),
        }
        try:
            content = json.loads(self.annotation_file.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"expected COCO annotations in JSON. Received: {self.annotation_file} ({error})") from None
        for name, fields in required.items():
            entries = content.get(name) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                raise InputError(f"expected a list {name!r}. Received: none in {self.annotation_file}")
            for position, entry in enumerate(entries):
                missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
                if missing:
                    raise InputError(
                        f"expected the fields {', '.join(fields)} in every entry of {name!r}. "
                        f"Received: no {missing[0]} in entry {position} of {self.annotation_file}"
                    )
        return content


def _are_numbers(values: list) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _paint(columns: np.ndarray, runs: list[int], value: int) -> None:
    """Sets the pixels that the runs mark, in a label map that goes down the columns."""
    edges = list(itertools.accumulate(runs))
    for start, end in zip(edges[0::2], edges[1::2], strict=False):
        columns[start:end] = value


def _decompress(counts: bytes) -> list[int]:
    """COCO's compressed run lengths as numbers; empty if they are not in that format.

    A number is a chain of characters of 5 bits, lowest first, on '0'; bit 32 says that the chain goes on, bit 16 of the
    last is the sign. From the fourth number on, the difference to the last but one is stored.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48
        if not 0 <= bits < 64:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return [] if shift else runs
