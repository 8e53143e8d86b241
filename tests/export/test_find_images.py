"""The folder of images that exporters compare on, calibrate with, and measure with."""

import pathlib

import pytest
from PIL import Image

from export import benchmark
from export.comparison_images import candidates
from export.images import find_images
from rsis_tf.errors import InputError


@pytest.fixture
def dataset(tmp_path: pathlib.Path) -> pathlib.Path:
    """A dataset in COCO's layout: images in subfolders only."""
    for value, split in ((10, "train"), (20, "val")):
        (tmp_path / split).mkdir()
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / split / "1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_images_of_subfolders(dataset):
    assert find_images(dataset) == [dataset / "train/1.png", dataset / "val/1.png"]
    assert [image[0, 0, 0] for image in candidates(dataset, dataset, (8, 8))] == [10, 20]


def test_a_folder_without_images(dataset):
    with pytest.raises(InputError, match="annotations, which contains none"):
        find_images(dataset / "annotations")


def test_the_benchmark_reads_subfolders(toy_model, dataset, capsys):
    benchmark.main([str(toy_model()), "--images", str(dataset), "--repeat", "1", "--out", str(dataset / "result")])
    assert "fastest here" in capsys.readouterr().out
