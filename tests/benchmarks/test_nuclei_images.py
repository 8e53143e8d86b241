"""The folder of nuclei: a download in the Bowl's layout becomes a dataset in COCO's format with the same objects."""

import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools")
ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import nuclei_images  # noqa: E402

from rsis_tf.data.readers.coco import CocoDataset  # noqa: E402
from rsis_tf.data.readers.dsb2018 import Dsb2018Dataset  # noqa: E402


def write_bowl(folder: pathlib.Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        for part in ("images", "masks"):
            (folder / "stage1_train" / name / part).mkdir(parents=True)
        image = folder / "stage1_train" / name
        Image.fromarray(rng.integers(0, 256, (20, 24, 4), np.uint8)).save(image / "images" / f"{name}.png")
        for row in (2, 9):
            mask = np.zeros((20, 24), np.uint8)
            mask[row : row + 5, 3 : rng.integers(8, 20)] = 255
            Image.fromarray(mask).save(image / "masks" / f"{row:064x}.png")


def test_the_same_images_and_objects(tmp_path):
    names = [digit * 64 for digit in "abc"]
    write_bowl(tmp_path / "clone", names)
    (tmp_path / "train.txt").write_text("\n".join(names[:2]), encoding="utf-8")
    (tmp_path / "val.txt").write_text(names[2], encoding="utf-8")
    written = nuclei_images.make(tmp_path / "clone", tmp_path / "nuclei", lists=tmp_path)
    assert written == {"train": (2, 4), "val": (1, 2)}
    bowl = Dsb2018Dataset(tmp_path / "clone", "all")
    coco = [*CocoDataset(tmp_path / "nuclei", "train"), *CocoDataset(tmp_path / "nuclei", "val")]
    for before, after in zip(bowl, coco, strict=True):
        assert np.array_equal(before.image, after.image)
        assert np.array_equal(before.label_map, after.label_map)


def test_a_wrong_folder_is_one_line(tmp_path, capsys, monkeypatch):
    write_bowl(tmp_path / "clone", ["a" * 64])
    for out, expected in ((tmp_path, "expected a new folder"), (tmp_path / "nuclei", "153 missing")):
        monkeypatch.setattr(sys, "argv", ["nuclei_images.py", str(tmp_path / "clone"), str(out)])
        assert nuclei_images.main() == 2
        message = capsys.readouterr().err.splitlines()
        assert len(message) == 1
        assert expected in message[0]
    assert not (tmp_path / "nuclei").exists()


def test_the_lists_name_each_image_once():
    lists = [ROOT / "benchmarks" / "nuclei" / f"{split}.txt" for split in ("train", "val")]
    names = [name for path in lists for name in path.read_text(encoding="utf-8").split()]
    assert len(names) == len(set(names)) == 188
    assert len({name[:16] for name in names}) == 188
