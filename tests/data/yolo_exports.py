"""Datasets in YOLO's segmentation format as tools write them: their files, folders, quirks and numbers of digits.

Every function writes the folder that a user has after unpacking an export, and returns it. The images and objects are
those of `label_tools`. The sources:

- Ultralytics, docs.ultralytics.com/datasets/segment: `data.yaml` with `path`, folders of images and a mapping of names.
- Roboflow, "YOLOv8": exported files in public repositories: `train: ../train/images` although the folder is beside the
  file, a list of names, file names NAME_jpg.rf.HASH.jpg, coordinates with all digits, no line end behind the last row.
- CVAT, docs.cvat.ai, "Ultralytics YOLO Segmentation": text files that list the images of a subset; older versions put
  a folder `data/` before them that the archive does not have.
- Label Studio, `label_studio_sdk/converter/converter.py`, `convert_to_yolo`: `classes.txt`, `notes.json`, `images/` and
  `labels/`, without splits.
- FiftyOne, `YOLOv5DatasetExporter`: `dataset.yaml` with folders that end in a slash.
"""

import pathlib

from label_tools import HEIGHT, LARGE, SMALL, WIDTH, write_image

NAMES = ("cell", "debris")


def rows(digits: int | None = None, *, closed: bool = False) -> list[str]:
    """Returns the rows of a label file: a large cell and a small piece of debris."""
    lines = []
    for number, ring in enumerate((LARGE, SMALL)):
        corners = [*ring, *ring[:2]] if closed else ring
        shares = [value / (HEIGHT if place % 2 else WIDTH) for place, value in enumerate(corners)]
        lines.append(" ".join([str(number), *(str(s) if digits is None else f"{s:.{digits}f}" for s in shares)]))
    return lines


def write_text(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def ultralytics(root: pathlib.Path, count: int = 3) -> pathlib.Path:
    for split in ("train", "val"):
        for number in range(count):
            write_image(root / "images" / split / f"{split}{number}.png", seed=number)
            write_text(root / "labels" / split / f"{split}{number}.txt", "\n".join(rows(5)) + "\n")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    write_text(
        root / "data.yaml",
        "# a comment\n"
        "path: coco8-seg # dataset root dir\n"
        "train: images/train # train images (relative to 'path')\n"
        "val: images/val\n"
        "test: # test images (optional)\n\n"
        f"names:\n{names}",
    )
    return root


def roboflow(root: pathlib.Path, splits: tuple[str, ...] = ("train", "valid"), count: int = 3) -> pathlib.Path:
    for split in splits:
        for number in range(count):
            name = f"{split}-{number}_jpg.rf.{number:032x}"
            write_image(root / split / "images" / f"{name}.jpg", seed=number)
            write_text(root / split / "labels" / f"{name}.txt", "\n".join(rows(closed=True)))
    write_text(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cell', 'debris']\n\n"
        "roboflow:\n  workspace: lab\n  project: cells\n  version: 1\n  license: CC BY 4.0\n",
    )
    return root


def cvat(root: pathlib.Path, *, prefix: str = "", count: int = 3) -> pathlib.Path:
    listed = []
    for number in range(count):
        write_image(root / "images" / "train" / f"frame_{number}.png", seed=number)
        write_text(root / "labels" / "train" / f"frame_{number}.txt", "".join(f"{row}\n" for row in rows(6)))
        listed.append(f"{prefix}images/train/frame_{number}.png\n")
    write_text(root / "train.txt", "".join(listed))
    write_text(root / "data.yaml", "names:\n  0: cell\n  1: debris\npath: .\ntrain: train.txt\n")
    return root


def label_studio(root: pathlib.Path, count: int = 3) -> pathlib.Path:
    for number in range(count):
        write_image(root / "images" / f"{number:08x}-photo.png", seed=number)
        write_text(root / "labels" / f"{number:08x}-photo.txt", "".join(f"{row}\n" for row in rows()))
    write_text(root / "classes.txt", "cell\ndebris\n")
    write_text(root / "notes.json", '{"categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "debris"}]}')
    return root


def fiftyone(root: pathlib.Path, count: int = 3) -> pathlib.Path:
    ultralytics(root, count)
    (root / "data.yaml").unlink()
    write_text(
        root / "dataset.yaml",
        f"names:\n  0: cell\n  1: debris\npath: {root.absolute()}\ntrain: ./images/train/\nval: ./images/val/\n",
    )
    return root
