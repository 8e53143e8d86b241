"""Exports as label tools write them: the fields, ids, names and folders of their own exporters, with tiny images.

Every function writes the folder that a user has after unpacking an export, and returns it. Unless a function says
otherwise, images have 48x32 pixels and show a large object of one class and a small one of another. The sources:

- Roboflow, "COCO JSON" / "COCO Segmentation": exported files in public repositories ("Exported from roboflow.com"): a
  first category with the project's name, which no annotation has and all others name as their supercategory; file names
  NAME_jpg.rf.HASH.jpg; `train`, `valid` and `test` with `_annotations.coco.json` beside the images.
- CVAT, "COCO 1.0": `cvat/apps/dataset_manager/formats/coco.py`, which calls datumaro's `coco_instances` exporter
  (`datumaro/plugins/data_formats/coco/exporter.py`): `annotations/instances_{subset}.json`, `images/{subset}/`, the
  subset of a task is `default`, those of a project are Train, Validation and Test; brush masks are uncompressed run
  lengths with iscrowd 1; boxes have an empty segmentation.
- Label Studio, "COCO": `label_studio_sdk/converter/converter.py`, `convert_to_coco`: `result.json` and `images/`, ids
  from 0, the path made by `os.path.relpath` (backslashes on Windows); width and height are Pillow's, which ignores the
  EXIF orientation, and polygons are per cent of the displayed image times these sides (label-studio issue 6608). Older
  versions put the project's number into the path (label-studio-converter issue 139), 1.16 a path outside of the archive
  (label-studio issue 7294).
- labelme's example `labelme2coco.py`: `annotations.json` and `JPEGImages/`, ids from 0, `_background_` among the
  labels.
- The package labelme2coco: `dataset.json` beside the images (sahi's `Coco.json`: ids from 1, categories from 0).
- VGG Image Annotator 2, `export_project_to_coco_format`: one JSON file, supercategory is the attribute's name.
"""

import json
import pathlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32
LARGE = [2.0, 3.0, 22.0, 3.0, 22.0, 23.0, 2.0, 23.0]
SMALL = [30.0, 5.0, 40.0, 5.0, 40.0, 15.0, 30.0, 15.0]
LARGE_AREA, SMALL_AREA = 400, 100


def write_image(
    path: pathlib.Path, *, width: int = WIDTH, height: int = HEIGHT, orientation: int = 1, seed: int = 0
) -> None:
    """Writes an image of noise, with an EXIF orientation unless it is 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, **({"exif": exif.tobytes()} if orientation != 1 else {}))


def roboflow(root: pathlib.Path, splits: dict[str, int] | None = None, *, root_category: str = "cells") -> pathlib.Path:
    """Writes Roboflow's "COCO Segmentation"; `splits` is the number of images by split (default: 3, 2 and 1)."""
    for split, count in (splits or {"train": 3, "valid": 2, "test": 1}).items():
        images, annotations = [], []
        for number in range(count):
            name = f"{split}-{number}_jpg.rf.{number:032x}.jpg"
            write_image(root / split / name, seed=number)
            images.append(
                {
                    "id": number,
                    "license": 1,
                    "file_name": name,
                    "height": HEIGHT,
                    "width": WIDTH,
                    "date_captured": "2024-04-03T14:35:24+00:00",
                    "extra": {"name": f"{split}-{number}.jpg"},
                }
            )
            for category, ring, area in ((1, LARGE, LARGE_AREA), (2, SMALL, SMALL_AREA)):
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": category,
                        "bbox": _box(ring),
                        "area": area,
                        "segmentation": [ring],
                        "iscrowd": 0,
                    }
                )
        content = {
            "info": {
                "year": "2024",
                "version": "1",
                "description": "Exported from roboflow.com",
                "contributor": "",
                "url": "https://public.roboflow.com/object-detection/undefined",
                "date_created": "2024-04-03T14:35:24+00:00",
            },
            "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
            "categories": [
                {"id": 0, "name": root_category, "supercategory": "none"},
                {"id": 1, "name": "cell", "supercategory": root_category},
                {"id": 2, "name": "debris", "supercategory": root_category},
            ],
            "images": images,
            "annotations": annotations,
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "README.roboflow.txt").write_text("exported\n", encoding="utf-8")
    return root


def cvat(
    root: pathlib.Path,
    subsets: tuple[str, ...] = ("default",),
    *,
    brush: bool = False,
    merged: bool = False,
    count: int = 5,
) -> pathlib.Path:
    """Writes CVAT's "COCO 1.0" with images; `brush`: small objects are brush masks; `merged`: the older layout."""
    for subset in subsets:
        images, annotations = [], []
        for number in range(1, count + 1):
            name = f"{subset}_{number}.png"
            write_image(root / "images" / ("" if merged else subset) / name, seed=number)
            images.append(
                {
                    "id": number,
                    "width": WIDTH,
                    "height": HEIGHT,
                    "file_name": name,
                    "license": 0,
                    "flickr_url": "",
                    "coco_url": "",
                    "date_captured": 0,
                }
            )
            for category, ring, area in ((1, LARGE, LARGE_AREA), (2, SMALL, SMALL_AREA)):
                mask = brush and category == 2
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "segmentation": _runs(ring) if mask else [ring],
                        "area": float(area),
                        "bbox": _box(ring),
                        "iscrowd": int(mask),
                        "attributes": {"occluded": False},
                    }
                )
        content = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
            "categories": [
                {"id": 1, "name": "cell", "supercategory": ""},
                {"id": 2, "name": "debris", "supercategory": ""},
            ],
            "images": images,
            "annotations": annotations,
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def label_studio(
    root: pathlib.Path,
    *,
    windows: bool = False,
    prefix: str = "images/",
    orientation: int = 1,
    count: int = 5,
    suffix: str = ".png",
) -> pathlib.Path:
    """Writes Label Studio's "COCO"; an EXIF orientation of 5 or more swaps the sides of the displayed images.

    The objects are `LARGE` and `SMALL` in a displayed image of `WIDTH` and `HEIGHT`.
    """
    turned = orientation >= 5
    stored = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)  # width, height as Pillow opens it
    images, annotations = [], []
    for number in range(count):
        name = f"{number:08x}-bild_{number}{suffix}"
        write_image(root / "images" / name, width=stored[0], height=stored[1], orientation=orientation, seed=number)
        path = prefix + name
        images.append(
            {
                "width": stored[0],
                "height": stored[1],
                "id": number,
                "file_name": path.replace("/", "\\") if windows else path,
            }
        )
        for category, ring in ((0, LARGE), (1, SMALL)):
            percent = [100 * value / (WIDTH, HEIGHT)[position % 2] for position, value in enumerate(ring)]
            points = [value / 100 * stored[position % 2] for position, value in enumerate(percent)]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [points],
                    "bbox": _box(points),
                    "ignore": 0,
                    "iscrowd": 0,
                    "area": 0.0,
                }
            )
    content = {
        "images": images,
        "categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "debris"}],
        "annotations": annotations,
        "info": {
            "year": 2024,
            "version": "1.0",
            "description": "",
            "contributor": "Label Studio",
            "url": "",
            "date_created": "2024-04-11 19:02:12.209886",
        },
    }
    (root / "result.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return root


def labelme(root: pathlib.Path, *, count: int = 5) -> pathlib.Path:
    """Writes what labelme's example script `labelme2coco.py` writes."""
    images, annotations = [], []
    for number in range(count):
        write_image(root / "JPEGImages" / f"{number}.jpg", seed=number)
        images.append(
            {
                "license": 0,
                "url": None,
                "file_name": f"JPEGImages/{number}.jpg",
                "height": HEIGHT,
                "width": WIDTH,
                "date_captured": None,
                "id": number,
            }
        )
        for category, ring in ((1, LARGE), (2, SMALL)):
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [ring],
                    "area": 0.0,
                    "bbox": _box(ring),
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {
            "description": None,
            "url": None,
            "version": None,
            "year": 2024,
            "contributor": None,
            "date_created": "2024-04-11 19:02:12.209886",
        },
        "licenses": [{"url": None, "id": 0, "name": None}],
        "type": "instances",
        "images": images,
        "categories": [
            {"supercategory": None, "id": 0, "name": "_background_"},
            {"supercategory": None, "id": 1, "name": "cell"},
            {"supercategory": None, "id": 2, "name": "debris"},
        ],
        "annotations": annotations,
    }
    (root / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def labelme2coco(root: pathlib.Path, *, count: int = 5) -> pathlib.Path:
    """Writes what the package labelme2coco writes into the folder of the images."""
    images, annotations = [], []
    for number in range(1, count + 1):
        write_image(root / f"{number}.jpg", seed=number)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT})
        for category, ring, area in ((0, LARGE, LARGE_AREA), (1, SMALL, SMALL_AREA)):
            annotations.append(
                {
                    "iscrowd": 0,
                    "image_id": number,
                    "bbox": _box(ring),
                    "segmentation": [ring],
                    "category_id": category,
                    "id": len(annotations) + 1,
                    "area": area,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": 0, "name": "cell", "supercategory": "cell"},
            {"id": 1, "name": "debris", "supercategory": "debris"},
        ],
    }
    (root / "dataset.json").write_text(json.dumps(content, indent=4), encoding="utf-8")
    return root


def via(root: pathlib.Path, *, count: int = 5) -> pathlib.Path:
    """Writes VGG Image Annotator's "Export annotations (COCO format)" beside the images."""
    images, annotations = [], []
    for number in range(1, count + 1):
        write_image(root / f"{number}.jpg", seed=number)
        images.append(
            {
                "id": number,
                "width": WIDTH,
                "height": HEIGHT,
                "file_name": f"{number}.jpg",
                "license": 0,
                "flickr_url": f"{number}.jpg",
                "coco_url": f"{number}.jpg",
                "date_captured": "",
            }
        )
        for category, ring in ((1, LARGE), (2, SMALL)):
            annotations.append(
                {
                    "segmentation": [ring],
                    "area": 400,
                    "bbox": _box(ring),
                    "iscrowd": 0,
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                }
            )
    content = {
        "info": {
            "year": 2024,
            "version": "1.0",
            "description": "VIA project exported to COCO format using VGG Image Annotator "
            "(http://www.robots.ox.ac.uk/~vgg/software/via/)",
            "contributor": "",
            "url": "http://www.robots.ox.ac.uk/~vgg/software/via/",
            "date_created": "Thu Apr 11 2024 19:02:12 GMT+0200",
        },
        "images": images,
        "annotations": annotations,
        "licenses": [{"id": 0, "name": "Unknown License", "url": ""}],
        "categories": [
            {"supercategory": "type", "id": 1, "name": "cell"},
            {"supercategory": "type", "id": 2, "name": "debris"},
        ],
    }
    (root / "via_export_coco.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def change(file: pathlib.Path, edit) -> None:
    """Reads a JSON file, changes its content in place by `edit`, and writes it."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def _box(ring: list[float]) -> list[float]:
    xs, ys = ring[0::2], ring[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _runs(ring: list[float]) -> dict:
    """Returns the uncompressed run lengths of a box, down the columns."""
    left, top, width, height = (int(value) for value in _box(ring))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = 1
    columns = mask.T.ravel()
    edges = np.flatnonzero(np.diff(columns)) + 1
    return {"counts": np.diff([0, *edges, columns.size]).tolist(), "size": [HEIGHT, WIDTH]}
