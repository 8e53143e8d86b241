"""JPEG files decoded at reduced scale."""

import pathlib

import numpy as np
import pytest
from dataset_files import ORIENTATION, save, scene, write_coco
from PIL import Image, ImageDraw, ImageOps

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.prepare import prepare
from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.readers.voc import VocDataset
from rsis_tf.data.reduced_samples import needed_size, reduced_samples
from rsis_tf.errors import InputError
from rsis_tf.images import read_image, read_reduced


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("size", [(800, 1200), (801, 1203), (613, 1999), (257, 259)])
@pytest.mark.parametrize("at_least", [(64, 64), (200, 300), (100, 150), (800, 1200)])
def test_a_jpeg_is_reduced_as_far_as_the_size_allows(tmp_path, size, at_least):
    scene(*size)[0].save(tmp_path / "scene.jpg", quality=95)
    got = read_reduced(tmp_path / "scene.jpg", at_least)
    assert got.size == size
    possible = [f for f in (1, 2, 4, 8) if size[0] // f >= at_least[0] and size[1] // f >= at_least[1]]
    assert got.reduction == max(possible, default=1)
    assert got.pixels.shape == (-(-size[0] // got.reduction), -(-size[1] // got.reduction), 3)
    if got.reduction > 1:
        assert got.pixels.shape[0] >= at_least[0]
        assert got.pixels.shape[1] >= at_least[1]
    with Image.open(tmp_path / "scene.jpg") as image:
        wanted = np.asarray(image.reduce(got.reduction)).astype(int)  # block means of the whole image
    assert np.abs(got.pixels - wanted).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(480, 640), (481, 642)])
def test_a_turned_jpeg_is_reduced_and_upright(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    scene(*size)[0].save(tmp_path / "scene.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "scene.jpg") as image:
        upright = ImageOps.exif_transpose(image)
    # `at_least` is the size of the upright image.
    at_least = (60, 80) if upright.width > upright.height else (80, 60)
    got = read_reduced(tmp_path / "scene.jpg", at_least)
    assert got.size == (upright.height, upright.width)
    divides = size == (480, 640)
    assert got.reduction == (8 if divides or orientation == 1 else 1)
    wanted = np.asarray(upright.reduce(got.reduction)).astype(int)
    assert got.pixels.shape == wanted.shape
    assert np.abs(got.pixels - wanted).mean() < 2
    np.testing.assert_array_equal(read_image(tmp_path / "scene.jpg"), np.asarray(upright))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_greyscale_and_cmyk_jpegs_are_reduced(tmp_path, mode):
    scene(400, 600)[0].convert(mode).save(tmp_path / "scene.jpg", quality=95)
    got = read_reduced(tmp_path / "scene.jpg", (100, 100))
    assert got.reduction == 4
    with Image.open(tmp_path / "scene.jpg") as image:
        wanted = np.asarray(image.convert("RGB").reduce(4)).astype(int)
    assert np.abs(got.pixels - wanted).mean() < 2


def test_the_first_image_of_an_mpo_file_is_reduced(tmp_path):
    first, second = scene(400, 600)[0], Image.new("RGB", (150, 100), "green")
    first.save(tmp_path / "scene.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    got = read_reduced(tmp_path / "scene.jpg", (100, 100))
    assert (got.reduction, got.size, got.pixels.shape) == (4, (400, 600), (100, 150, 3))
    assert np.abs(got.pixels - np.asarray(first.reduce(4)).astype(int)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_tiff_is_the_size_of_its_pixels(tmp_path, orientation):
    scene(40, 60)[0].save(tmp_path / "scene.tif", tiffinfo={ORIENTATION: orientation})
    got = read_reduced(tmp_path / "scene.tif", (10, 10))
    assert got.reduction == 1
    assert got.size == got.pixels.shape[:2] == read_image(tmp_path / "scene.tif").shape[:2]
    assert got.size == ((40, 60) if orientation < 5 else (60, 40))


def test_other_formats_are_read_whole(tmp_path):
    scene(400, 600)[0].save(tmp_path / "scene.png")
    assert read_reduced(tmp_path / "scene.png", (10, 10)).reduction == 1


def test_a_truncated_jpeg_is_refused_at_every_scale(tmp_path):
    scene(400, 600)[0].save(tmp_path / "whole.jpg", quality=95)
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    for at_least in (None, (100, 100), (50, 50)):
        with pytest.raises(InputError, match=r"Received: .*cut\.jpg"):
            read_reduced(tmp_path / "cut.jpg", at_least)


@pytest.mark.parametrize(("size", "orientation"), [((960, 1280), None), ((963, 1285), None), ((960, 1280), 6),
                                                   ((1280, 960), 8), ((960, 1280), 3)])  # fmt: skip
@pytest.mark.parametrize("side", [96, 113])
def test_reduced_samples_give_nearly_the_batches_of_whole_ones(tmp_path, size, orientation, side):
    dataset = CocoDataset(write_coco(tmp_path, size, orientation=orientation), "train")
    config = DataConfig(dataset="coco", image_size=(side, side), draft=True)
    small = reduced_samples(dataset, config, training=False)[0]
    assert small.image.shape[:2] == small.label_map.shape == (-(-size[0] // 8), -(-size[1] // 8))
    assert dataset[0].label_map.shape == size  # evaluation reads the whole image
    image, label_map, classes, _ = prepare(small, config, None)
    whole_image, whole_map, whole_classes, _ = prepare(dataset[0], config, None)
    assert classes[:2].tolist() == whole_classes[:2].tolist()
    for number in (1, 2):
        assert iou(label_map == number, whole_map == number) > 0.97
        colour = image[label_map == number].mean(axis=0)
        assert (colour[0] > 200) == (classes[number - 1] == 1)  # the label is on its own polygon
    assert np.abs(image.astype(int) - whole_image).mean() < 2.5


def test_the_message_about_a_wrong_size_has_the_size_of_the_whole_image(tmp_path):
    root = write_coco(tmp_path, (800, 1200))
    scene(400, 1200)[0].save(root / "train" / "scene.jpg")
    dataset = CocoDataset(root, "train")
    config = DataConfig(dataset="coco", image_size=(64, 64), draft=True)
    with pytest.raises(InputError, match=r"expected 1200x800 pixels as annotated\. Received: 1200x400"):
        reduced_samples(dataset, config, training=False)[0]


def write_folder(root: pathlib.Path, size: tuple[int, int], *, ending: str = "jpg") -> pathlib.Path:
    """Writes a dataset of one image and its label map, values 1000 and 2000."""
    image, polygons = scene(*size)
    labels = Image.new("I;16", size[::-1])
    for number, polygon in enumerate(polygons, start=1):
        ImageDraw.Draw(labels).polygon(polygon, fill=1000 * number)
    save(root / "train" / "labels" / "scene.png", np.asarray(labels))
    (root / "train" / "images").mkdir(parents=True)
    image.save(root / "train" / "images" / f"scene.{ending}", **({"quality": 95} if ending == "jpg" else {}))
    (root / "classes.txt").write_text("red\nblue\n", encoding="utf-8")
    return root


def test_label_images_are_reduced_with_their_image(tmp_path):
    config = DataConfig(dataset="folder", root=str(write_folder(tmp_path, (801, 1203))), image_size=(96, 96))
    dataset = load_dataset(config, "train")
    sample = dataset.read(0, (96, 96))
    assert sample.image.shape[:2] == sample.label_map.shape == (101, 151)
    assert sample.classes.tolist() == [1, 2]
    middles = np.minimum(np.arange(0, 801, 8) + 4, 800), np.minimum(np.arange(0, 1203, 8) + 4, 1202)
    np.testing.assert_array_equal(sample.label_map, dataset[0].label_map[np.ix_(*middles)])


def test_a_voc_image_is_reduced(tmp_path):
    image, polygons = scene(400, 600)
    objects, classes = Image.new("L", (600, 400)), Image.new("L", (600, 400))
    for number, polygon in enumerate(polygons, start=1):
        ImageDraw.Draw(objects).polygon(polygon, fill=number, outline=255)
        ImageDraw.Draw(classes).polygon(polygon, fill=10 * number, outline=255)
    save(tmp_path / "SegmentationObject" / "a.png", np.asarray(objects), palette=True)
    save(tmp_path / "SegmentationClass" / "a.png", np.asarray(classes), palette=True)
    (tmp_path / "JPEGImages").mkdir()
    image.save(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    sample = VocDataset(tmp_path, "train").read(0, (90, 90))
    assert sample.image.shape == (100, 150, 3)
    assert sample.label_map.shape == (100, 150)
    assert sample.classes.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("changes", "training", "size"),
    [
        ({}, True, (60, 90)),
        ({"augment": True}, True, (86, 129)),  # the visible part is at least 0.7 of a side
        ({"augment": True}, False, (60, 90)),
        ({"augment": True, "augmentation": "strong"}, True, (100, 150)),
        ({"augment": True, "zoom": (1.2, 1.4)}, True, (60, 90)),
    ],
)
def test_images_that_the_augmentation_enlarges_are_read_larger(changes, training, size):
    assert needed_size(DataConfig(image_size=(60, 90), **changes), training=training) == size


def test_by_default_samples_are_not_reduced():
    dataset = SyntheticDataset(size=(32, 32), length=2)
    assert reduced_samples(dataset, DataConfig(), training=True) is dataset
    assert reduced_samples(dataset, DataConfig(draft=True), training=True)[1].image.shape == (32, 32, 3)
