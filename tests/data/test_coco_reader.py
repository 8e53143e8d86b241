"""The reader of COCO's format."""

import json
import unicodedata

import numpy as np
import pytest
from dataset_files import noise, save
from pycocotools import mask as rle_tools

from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.data.readers.coco.reader import _has_pixels as has_pixels
from rsis_tf.data.readers.coco.segmentation import run_lengths
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError

CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]  # with gaps and not in order: cat is class 1, dog 2


def square(x: int, y: int, side: int) -> list[float]:
    """Returns a polygon that covers side x side pixels from column x and row y."""
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(number: int, segmentation, *, image: int = 1, category: int = 7, **fields) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **fields}


def write(root, annotations, *, images=None, categories=CATEGORIES, name="train.json", folder="train") -> None:
    images = images or [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}]
    for image in images:
        save(root / folder / image["file_name"], noise(image["height"], image["width"]))
    (root / "annotations").mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / name).write_text(json.dumps(content))


def read(root, index: int = 0):
    return CocoDataset(root, "train")[index]


def assert_refused(root, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(root)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("expected", "Received", str(root), *words):
        assert word in message


def test_polygons(tmp_path):
    write(tmp_path, [annotation(1, [square(0, 0, 2), square(6, 4, 3)]), annotation(2, [square(3, 1, 2)], category=90)])
    sample = read(tmp_path)
    assert CocoDataset(tmp_path, "train").class_names == ("background", "cat", "dog")
    assert sample.classes.tolist() == [1, 2]
    assert (sample.label_map == 1).sum() == 4 + 9
    assert (sample.label_map == 2).sum() == 4
    assert sample.label_map[1:3, 3:5].tolist() == [[2, 2], [2, 2]]
    np.testing.assert_array_equal(sample.image, noise(8, 10))
    assert sample.image_id == "1"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_compressed_and_uncompressed_run_lengths_agree(tmp_path, share):
    height, width = 40, 30
    mask = (np.random.default_rng(0).uniform(size=(height, width)) < share).astype(np.uint8)
    mask[5:35, 10:12] = share > 0  # a long run, which is several characters in compressed form
    columns = mask.T.ravel()
    counts = np.diff([0, *(np.flatnonzero(np.diff(columns)) + 1), columns.size]).tolist()
    counts = [0, *counts] if columns[0] else counts
    compressed = rle_tools.encode(np.asfortranarray(mask))["counts"].decode()
    image = {"id": 1, "file_name": "a.png", "height": height, "width": width}
    for form in (counts, compressed):
        write(tmp_path, [annotation(1, {"size": [height, width], "counts": form})], images=[image])
        np.testing.assert_array_equal(read(tmp_path).label_map, mask)


@pytest.mark.parametrize(
    "rings",
    [
        [[10.1, 10.1, 10.3, 10.1, 10.3, 10.3]],
        [[2, 3, 20, 21, 30, 31]],
        [[1, 1, 30, 1.2, 30, 1.3]],
        [[-20, 4, -3, 4, -3, 30]],
        [[5, 5, 5.2, 5, 5.2, 5.2], [8, 8, 8, 20, 8, 8]],
        [[2, 2, 4, 2, 4, 4, 2, 4]],
        [[1.6, 1.6, 2.4, 1.6, 2.4, 2.4, 1.6, 2.4]],
        [[-20, -20, 60, -20, 60, 60, -20, 60]],
        [[5, 5, 5.2, 5, 5.2, 5.2], [8, 8, 20, 8, 20, 20]],
    ],
)
def test_inspection_counts_the_objects_that_have_pixels(tmp_path, rings):
    image = {"id": 1, "file_name": "a.png", "height": 32, "width": 40}
    write(tmp_path, [annotation(1, rings), annotation(2, [square(30, 20, 8)])], images=[image])
    dataset = CocoDataset(tmp_path, "train")
    objects = len(dataset[0].classes)
    found = dataset.inspect(0)
    assert (found.objects, found.empty) == (objects, 2 - objects)


def test_polygons_that_are_counted_without_painting_have_pixels():
    rng = np.random.default_rng(0)
    counted = 0
    for _ in range(3000):
        width, length, angle = rng.uniform(1.5, 4), rng.uniform(2, 30), rng.uniform(0, np.pi)
        corners = np.array([[-width, -length], [width, -length], [width, length], [-width, length]]) / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        ring = (corners[: rng.integers(3, 5)] @ turn + rng.uniform(18, 22, 2)).ravel().tolist()
        if has_pixels(ring, (40, 40)):
            counted += 1
            assert sum(run_lengths([ring], (40, 40), "here")[1::2]) > 0
    assert counted > 500


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("folder", ["", "fotos/"])
def test_names_with_accents_are_found_in_the_other_form_of_unicode(tmp_path, written, stored, folder):
    # An archive from macOS holds "u" and a diaeresis where the annotation file has "ü".
    name = folder + "Grünfläche é.png"
    entry = {"id": 1, "file_name": unicodedata.normalize(written, name), "height": 8, "width": 10}
    write(tmp_path, [annotation(1, [square(0, 0, 2)])], images=[entry])
    file = tmp_path / "train" / entry["file_name"]
    other = tmp_path / "train" / unicodedata.normalize(stored, name.removeprefix("fotos/"))
    file.rename(other)
    dataset = CocoDataset(tmp_path, "train")
    assert dataset.image_files == [other]
    assert len(dataset[0].classes) == 1
    assert dataset.unlisted_files() == []
    assert not dataset.remarks


def test_names_of_classes_keep_categories_that_no_object_has(tmp_path):
    categories = [
        {"id": 0, "name": "cell", "supercategory": "none"},
        {"id": 1, "name": "cell", "supercategory": "cell"},
        {"id": 2, "name": "debris", "supercategory": "cell"},
    ]
    known = ("background", "cell", "debris")
    for used, ids in (([1, 2], (0, 1, 2)), ([2], (0, 1, 2))):
        write(tmp_path, [annotation(k, [square(0, 0, 2)], category=k) for k in used], categories=categories)
        dataset = CocoDataset(tmp_path, "train", class_names=known[1:])
        assert (dataset.class_names, dataset.category_ids) == (known, ids)
        assert dataset.dropped_categories == ("cell",)
    assert CocoDataset(tmp_path, "train").class_names == ("background", "debris")


def test_crowds_are_void_and_below_objects(tmp_path):
    crowd = {"size": [8, 10], "counts": [0, 32, 48]}  # the first four columns
    write(tmp_path, [annotation(1, [square(3, 0, 2)]), annotation(2, crowd, category=90, iscrowd=1)])
    sample = read(tmp_path)
    assert sample.classes.tolist() == [1]
    assert (sample.label_map == 1).sum() == 4
    assert (sample.label_map == VOID).sum() == 32 - 2


def test_the_smaller_of_overlapping_objects_is_on_top_and_hidden_ones_are_dropped(tmp_path):
    small, large = [square(1, 1, 2)], [square(0, 0, 6)]
    write(tmp_path, [annotation(1, small, category=90), annotation(2, large), annotation(3, small, category=90)])
    sample = read(tmp_path)
    assert sample.classes.tolist() == [1, 2]
    assert (sample.label_map == 1).sum() == 36 - 4
    assert (sample.label_map == 2).sum() == 4


def test_image_ids_that_were_written_as_fractions_are_whole_numbers(tmp_path):
    write(
        tmp_path,
        [annotation(1, [square(0, 0, 2)], image=3.0)],
        images=[{"id": 3.0, "file_name": "a.png", "height": 4, "width": 4}],
    )
    assert read(tmp_path).image_id == "3"


def test_images_without_annotations_are_kept_in_the_order_of_the_file(tmp_path):
    images = [{"id": number, "file_name": f"{number}.png", "height": 4, "width": 4} for number in (30, 10, 20)]
    write(tmp_path, [annotation(1, [square(0, 0, 2)], image=10)], images=images)
    dataset = CocoDataset(tmp_path, "train")
    assert [dataset[index].image_id for index in range(3)] == ["30", "10", "20"]
    assert [len(dataset[index].classes) for index in range(3)] == [0, 1, 0]


def test_the_official_layouts_are_found(tmp_path):
    for root, name, folder in (
        ("one", "instances_train2017.json", "train2017"),
        ("two", "instances_train.json", "images/train"),
        ("three", "train.json", "images"),
    ):
        (tmp_path / root).mkdir()
        write(tmp_path / root, [annotation(1, [square(0, 0, 3)])], name=name, folder=folder)
        assert (read(tmp_path / root).label_map == 1).sum() == 9


def test_a_polygon_of_two_points_is_not_read_as_a_box(tmp_path):
    write(tmp_path, [annotation(1, [[0, 0, 5, 5]]), annotation(2, [square(0, 0, 2)])])
    sample = read(tmp_path)
    assert sample.classes.tolist() == [1]
    assert (sample.label_map == 1).sum() == 4


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        None,
        [[0, 0, 4, 4, 4]],
        [["a", "b", "c", "d", "e", "f"]],
        {"size": [10, 8], "counts": [80]},
        {"size": [8, 10], "counts": [0, 79]},
        {"size": [8, 10], "counts": [81, -1]},
        {"size": [8, 10], "counts": ""},
        {"size": [8, 10], "counts": "0"},
        {"size": [8, 10], "counts": "~~~"},
        {"size": [8, 10]},
    ],
)
def test_invalid_segmentations_are_refused(tmp_path, segmentation):
    write(tmp_path, [annotation(41, segmentation)])
    assert_refused(tmp_path, "41", "train.json")


def test_missing_files_are_refused(tmp_path):
    assert_refused(tmp_path / "nothing", "nothing")
    assert_refused(tmp_path, "train.json")
    write(tmp_path, [annotation(1, [square(0, 0, 2)])])
    (tmp_path / "train" / "a.png").unlink()
    assert_refused(tmp_path, "a.png", "no such file")
    assert len(CocoDataset(tmp_path, "train", check=False)) == 1
    (tmp_path / "train").rmdir()
    assert_refused(tmp_path, "a.png", "1 of 1 missing")


def test_wrong_annotations_are_refused(tmp_path):
    write(tmp_path, [annotation(5, [square(0, 0, 2)], image=99)])
    assert_refused(tmp_path, "image_id", "99", "annotation 5")
    write(tmp_path, [annotation(5, [square(0, 0, 2)], category=8)])
    assert_refused(tmp_path, "category_id", "8")
    write(tmp_path, [])
    save(tmp_path / "train" / "a.png", noise(8, 9))
    assert_refused(tmp_path, "10x8", "9x8")
    for text in ("{", "[]", '{"images": []}', '{"images": [], "annotations": [], "categories": []}', '{"images": [1]}'):
        (tmp_path / "annotations" / "train.json").write_text(text)
        assert_refused(tmp_path, "train.json")
