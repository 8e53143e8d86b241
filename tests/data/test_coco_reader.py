"""The reader of COCO's format."""

import json

import numpy as np
import pytest
from dataset_files import noise, save
from pycocotools import mask as rle_tools

from rsis_tf.data.readers.coco import CocoDataset
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
