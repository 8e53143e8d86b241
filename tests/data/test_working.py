"""JPEG files decoded at reduced scale, and the cache of samples."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
from dataset_files import save
from PIL import Image, ImageDraw, ImageOps

from rsis_tf.config import DataConfig
from rsis_tf.data import Subset, load_dataset
from rsis_tf.data.pipeline import prepare
from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.readers.voc import VocDataset
from rsis_tf.data.working import WorkingSamples, needed_size, reduced, working_samples
from rsis_tf.errors import InputError
from rsis_tf.images import read_image, read_reduced

ORIENTATION = 0x0112


def scene(height: int, width: int) -> tuple[Image.Image, list[list[float]]]:
    """A smooth image with two polygons of other colours, and their corners as COCO has them."""
    y, x = np.mgrid[:height, :width]
    waves = [90 + 30 * np.sin(7 * x / width + channel) * np.cos(5 * y / height) for channel in range(3)]
    picture = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    shares = [(0.1, 0.1, 0.45, 0.15, 0.4, 0.7, 0.15, 0.6), (0.55, 0.4, 0.9, 0.35, 0.95, 0.9, 0.6, 0.85)]
    polygons = [[share * (width, height)[i % 2] for i, share in enumerate(corners)] for corners in shares]
    for polygon, colour in zip(polygons, [(240, 60, 60), (60, 60, 240)], strict=True):
        ImageDraw.Draw(picture).polygon(polygon, fill=colour)
    return picture, polygons


def write_coco(
    root: pathlib.Path, size: tuple[int, int], *, ending: str = "jpg", orientation: int | None = None
) -> pathlib.Path:
    """A dataset of one image in COCO's format; with an orientation, the pixels are stored turned by it."""
    height, width = size
    picture, polygons = scene(height, width)
    (root / "train").mkdir(parents=True, exist_ok=True)
    options = {"quality": 95} if ending == "jpg" else {}
    if orientation:
        # The turn that undoes what a viewer does for this orientation.
        undo = {3: 3, 6: 2, 8: 4}[orientation]
        picture = picture.transpose(Image.Transpose(undo))
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    picture.save(root / "train" / f"scene.{ending}", **options)
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


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("size", [(800, 1200), (801, 1203), (613, 1999), (257, 259)])
@pytest.mark.parametrize("at_least", [(64, 64), (200, 300), (100, 150), (800, 1200)])
def test_a_jpeg_is_reduced_as_far_as_it_stays_large_enough(tmp_path, size, at_least):
    scene(*size)[0].save(tmp_path / "scene.jpg", quality=95)
    got = read_reduced(tmp_path / "scene.jpg", at_least)
    assert got.size == size
    possible = [f for f in (1, 2, 4, 8) if size[0] // f >= at_least[0] and size[1] // f >= at_least[1]]
    assert got.reduction == max(possible, default=1)
    assert got.pixels.shape == (-(-size[0] // got.reduction), -(-size[1] // got.reduction), 3)
    if got.reduction > 1:
        assert got.pixels.shape[0] >= at_least[0]
        assert got.pixels.shape[1] >= at_least[1]
    with Image.open(tmp_path / "scene.jpg") as picture:
        wanted = np.asarray(picture.reduce(got.reduction)).astype(int)  # block means of the whole image
    assert np.abs(got.pixels - wanted).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(480, 640), (481, 642)])
def test_a_turned_jpeg_is_reduced_and_upright(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    scene(*size)[0].save(tmp_path / "scene.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "scene.jpg") as picture:
        upright = ImageOps.exif_transpose(picture)
    # What the viewer sees is wide or tall; the request is for what it sees.
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
def test_other_colours_of_jpeg_are_reduced_too(tmp_path, mode):
    scene(400, 600)[0].convert(mode).save(tmp_path / "scene.jpg", quality=95)
    got = read_reduced(tmp_path / "scene.jpg", (100, 100))
    assert got.reduction == 4
    with Image.open(tmp_path / "scene.jpg") as picture:
        wanted = np.asarray(picture.convert("RGB").reduce(4)).astype(int)
    assert np.abs(got.pixels - wanted).mean() < 2


def test_the_first_of_several_images_in_a_phones_file_is_reduced(tmp_path):
    first, second = scene(400, 600)[0], Image.new("RGB", (150, 100), "green")
    first.save(tmp_path / "scene.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    got = read_reduced(tmp_path / "scene.jpg", (100, 100))
    assert (got.reduction, got.size, got.pixels.shape) == (4, (400, 600), (100, 150, 3))
    assert np.abs(got.pixels - np.asarray(first.reduce(4)).astype(int)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_tiff_is_that_of_its_pixels(tmp_path, orientation):
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
def test_batches_of_reduced_samples_are_those_of_whole_ones(tmp_path, size, orientation, side):
    dataset = CocoDataset(write_coco(tmp_path, size, orientation=orientation), "train")
    config = DataConfig(dataset="coco", image_size=(side, side), draft=True)
    small = working_samples(dataset, config, training=False)[0]
    assert small.image.shape[:2] == small.label_map.shape == (-(-size[0] // 8), -(-size[1] // 8))
    assert dataset[0].label_map.shape == size  # what evaluation reads
    image, label_map, classes, _ = prepare(small, config, None)
    whole_image, whole_map, whole_classes, _ = prepare(dataset[0], config, None)
    assert classes[:2].tolist() == whole_classes[:2].tolist()
    for number in (1, 2):
        assert iou(label_map == number, whole_map == number) > 0.97
        colour = image[label_map == number].mean(axis=0)
        assert (colour[0] > 200) == (classes[number - 1] == 1)  # the label lies on its own polygon
    assert np.abs(image.astype(int) - whole_image).mean() < 2.5


def test_an_image_of_another_size_than_annotated_is_named_at_its_own_size(tmp_path):
    root = write_coco(tmp_path, (800, 1200))
    scene(400, 1200)[0].save(root / "train" / "scene.jpg")
    dataset = CocoDataset(root, "train")
    config = DataConfig(dataset="coco", image_size=(64, 64), draft=True)
    with pytest.raises(InputError, match=r"expected 1200x800 pixels as annotated\. Received: 1200x400"):
        working_samples(dataset, config, training=False)[0]


def write_folder(root: pathlib.Path, size: tuple[int, int], *, ending: str = "jpg") -> pathlib.Path:
    """A dataset of one image and its label map, values 1000 and 2000."""
    picture, polygons = scene(*size)
    labels = Image.new("I;16", size[::-1])
    for number, polygon in enumerate(polygons, start=1):
        ImageDraw.Draw(labels).polygon(polygon, fill=1000 * number)
    save(root / "train" / "labels" / "scene.png", np.asarray(labels))
    (root / "train" / "images").mkdir(parents=True)
    picture.save(root / "train" / "images" / f"scene.{ending}", **({"quality": 95} if ending == "jpg" else {}))
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
    picture, polygons = scene(400, 600)
    objects, classes = Image.new("L", (600, 400)), Image.new("L", (600, 400))
    for number, polygon in enumerate(polygons, start=1):
        ImageDraw.Draw(objects).polygon(polygon, fill=number, outline=255)
        ImageDraw.Draw(classes).polygon(polygon, fill=10 * number, outline=255)
    save(tmp_path / "SegmentationObject" / "a.png", np.asarray(objects), palette=True)
    save(tmp_path / "SegmentationClass" / "a.png", np.asarray(classes), palette=True)
    (tmp_path / "JPEGImages").mkdir()
    picture.save(tmp_path / "JPEGImages" / "a.jpg")
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
        ({"augment": True}, True, (86, 129)),  # shown parts are no smaller than 0.7 of a side
        ({"augment": True}, False, (60, 90)),
        ({"augment": True, "augmentation": "strong"}, True, (100, 150)),
        ({"augment": True, "zoom": (1.2, 1.4)}, True, (60, 90)),
    ],
)
def test_what_is_enlarged_is_read_larger(changes, training, size):
    assert needed_size(DataConfig(image_size=(60, 90), **changes), training=training) == size


def test_by_default_samples_are_the_datasets_own():
    dataset = SyntheticDataset(size=(32, 32), length=2)
    assert working_samples(dataset, DataConfig(), training=True) is dataset
    assert working_samples(dataset, DataConfig(draft=True), training=True)[1].image.shape == (32, 32, 3)


# ---- The cache ----


class Counted:
    """Counts what is read of a dataset."""

    def __init__(self, dataset):
        self.dataset, self.reads = dataset, 0
        self.class_names, self.files = dataset.class_names, dataset.files

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.reads += 1
        return self.dataset[index]

    def read(self, index, at_least):
        self.reads += 1
        return self.dataset.read(index, at_least)


def same(first, second) -> None:
    assert first.image_id == second.image_id
    for name in ("image", "label_map", "classes"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.fixture(params=["jpg", "png"])
def dataset(request, tmp_path) -> Counted:
    return Counted(CocoDataset(write_coco(tmp_path / "data", (403, 605), ending=request.param), "train"))


@pytest.fixture(params=["memory", "folder"])
def config(request, tmp_path) -> DataConfig:
    cache = "memory" if request.param == "memory" else str(tmp_path / "a" / "cache")
    return DataConfig(dataset="coco", image_size=(48, 48), draft=True, cache=cache)


def test_a_cached_sample_is_read_once_and_small(dataset, config):
    samples = working_samples(dataset, config, training=True)
    first, second = samples[0], samples[0]
    assert dataset.reads == 1
    same(first, second)
    assert first.image.shape == (51, 76, 3)  # 403 and 605 by 8
    assert first.label_map.max() == 2
    same(first, reduced(dataset.read(0, (48, 48)), (48, 48)))


def test_a_folder_serves_other_runs(dataset, tmp_path):
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    first = WorkingSamples(dataset, config, training=True)[0]
    same(first, WorkingSamples(dataset, config, training=True)[0])
    assert dataset.reads == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("change", ["image", "annotations", "image_size", "augment", "draft"])
def test_what_a_sample_is_made_of_makes_another_entry(tmp_path, change):
    root = write_coco(tmp_path / "data", (403, 605))
    dataset = Counted(CocoDataset(root, "train"))
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    WorkingSamples(dataset, config, training=True)[0]
    if change == "image":
        ImageOps.invert(Image.open(root / "train" / "scene.jpg")).save(root / "train" / "scene.jpg", quality=95)
    elif change == "annotations":  # the same text, saved again
        state = (root / "annotations" / "train.json").stat()
        os.utime(root / "annotations" / "train.json", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    else:
        changes = {"image_size": (50, 50), "augment": True, "draft": True}
        config = dataclasses.replace(config, **{change: changes[change]})
    got = WorkingSamples(dataset, config, training=True)[0]
    assert dataset.reads == 2
    if change == "image":
        np.testing.assert_array_equal(got.image, reduced(dataset[0], (48, 48)).image)


@pytest.mark.parametrize("damage", ["emptied", "cut", "one bit", "other"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    dataset = Counted(CocoDataset(write_coco(tmp_path / "data", (403, 605)), "train"))
    config = DataConfig(dataset="coco", image_size=(48, 48), cache=str(tmp_path / "cache"))
    whole = WorkingSamples(dataset, config, training=True)[0]
    (entry,) = (tmp_path / "cache").rglob("*.sample")
    content = entry.read_bytes()
    middle = len(content) // 2
    damaged = {
        "emptied": b"",
        "cut": content[:middle],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "other": b"not a sample at all",
    }[damage]
    entry.write_bytes(damaged)
    same(whole, WorkingSamples(dataset, config, training=True)[0])
    assert dataset.reads == 2
    assert entry.read_bytes() == content
    same(whole, WorkingSamples(dataset, config, training=True)[0])
    assert dataset.reads == 2


def test_threads_may_share_a_cache(dataset, config):
    samples = working_samples(dataset, config, training=True)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: samples[0], range(32)))
    for answer in answers:
        same(answer, answers[0])


def test_a_part_of_a_dataset_is_cached_and_reduced_as_the_whole(dataset, config):
    samples = working_samples(Subset(dataset, 1), config, training=True)
    same(samples[0], working_samples(dataset, config, training=True)[0])
    samples[0]
    assert dataset.reads == (2 if config.cache == "memory" else 1)  # a folder is shared


def test_void_and_many_objects_survive_the_cache(tmp_path, config):
    labels = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    save(tmp_path / "many" / "train" / "labels" / "a.png", labels)
    save(tmp_path / "many" / "train" / "images" / "a.png", np.zeros((64, 64, 3), np.uint8))
    folder = load_dataset(DataConfig(dataset="folder", root=str(tmp_path / "many")), "train")
    samples = working_samples(folder, config, training=True)
    same(samples[0], folder[0])
    same(samples[0], folder[0])
    (tmp_path / "many" / "classes.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    with_void = load_dataset(DataConfig(dataset="folder", root=str(tmp_path / "many")), "train")
    samples = working_samples(with_void, config, training=True)
    assert (samples[0].label_map < 0).any()
    same(samples[0], with_void[0])


def test_a_cache_of_scenes_made_on_the_fly_is_refused():
    dataset = SyntheticDataset(size=(32, 32), length=2)
    with pytest.raises(InputError, match=r"a cache is for datasets of files\. Received: cache='memory'"):
        working_samples(dataset, DataConfig(cache="memory"), training=True)


def test_a_cache_that_is_a_file_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="expected a folder for the cache"):
            working_samples(dataset, DataConfig(cache=str(cache)), training=True)


def test_an_entry_that_cannot_be_written_is_one_clear_error(dataset, tmp_path):
    samples = working_samples(dataset, DataConfig(image_size=(48, 48), cache=str(tmp_path / "cache")), training=True)
    key = samples._fingerprint(0)
    (tmp_path / "cache" / key[:2]).write_text("in the way")
    with pytest.raises(InputError, match=r"expected a cache that can be (read|written)\. Received: "):
        samples[0]


def test_a_file_that_is_gone_is_named(dataset, config):
    samples = working_samples(dataset, config, training=True)
    samples[0]
    dataset.files(0)[0].unlink()
    with pytest.raises(InputError, match=r"Received: .*scene\.(jpg|png)"):
        samples[0]
