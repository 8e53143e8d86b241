"""The checks of a dataset before training and evaluation."""

import os
import sys

import label_tools as tools
import numpy as np
import pytest
from dataset_files import noise, save
from PIL import ImageFile

from rsis_tf.config import DataConfig
from rsis_tf.data import Subset, load_dataset
from rsis_tf.data.preflight import check_evaluation, check_training, inspect_split, require_same_classes
from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.errors import InputError

TRAIN, VALID = "train/_annotations.coco.json", "valid/_annotations.coco.json"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rsis_tf/checked"


@pytest.fixture
def export(tmp_path):
    return tools.roboflow(tmp_path / "export")


def opened(root, splits=("train", "val"), **fields):
    config = DataConfig(**{"dataset": "coco", "root": str(root), **fields})
    return {split: load_dataset(config, split) for split in splits}


def lines_of(root, *, max_objects=20, num_steps=20, **fields):
    return check_training(opened(root, **fields), max_objects=max_objects, num_steps=num_steps)


def refused(root, **fields):
    with pytest.raises(InputError) as caught:
        lines_of(root, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_splits_with_swapped_categories_are_refused(export):
    def swap(content):
        content["categories"][1]["name"], content["categories"][2]["name"] = "debris", "cell"

    tools.change(export / VALID, swap)
    message = refused(export)
    assert "train with 1 cell, 2 debris" in message
    assert "val with 1 debris, 2 cell" in message
    with pytest.raises(InputError, match="the same categories"):
        require_same_classes(opened(export), ids=False)


def test_splits_with_different_category_ids_are_refused(export):
    def renumber(content):
        content["categories"][2]["id"] = 5
        for annotation in content["annotations"]:
            if annotation["category_id"] == 2:
                annotation["category_id"] = 5

    tools.change(export / VALID, renumber)
    assert "val with 1 cell, 5 debris" in refused(export)
    require_same_classes(opened(export), ids=False)


@pytest.mark.parametrize("shortened", [("train",), ("val",), ("train", "val")])
def test_category_ids_that_are_texts_are_the_same_in_a_shortened_split(export, shortened):
    def with_texts(content):
        for category in content["categories"]:
            category["id"] = f"c{category['id']}"
        for annotation in content["annotations"]:
            annotation["category_id"] = f"c{annotation['category_id']}"

    for file in (TRAIN, VALID):
        tools.change(export / file, with_texts)
    splits = opened(export)
    require_same_classes(splits | {name: Subset(splits[name], 1) for name in shortened})


def test_objects_beyond_the_limit_are_counted(export):
    def more(content):
        content["annotations"] += [{**content["annotations"][0], "id": 100 + n} for n in range(3)]  # in image 0

    tools.change(export / TRAIN, more)
    assert [line for line in lines_of(export) if "exceed" in line] == []
    lines = lines_of(export, max_objects=4, num_steps=9)
    assert "train: 1 of 9 objects exceed --max-objects 4; a higher value includes them" in lines
    lines = lines_of(export, max_objects=4, num_steps=3)
    assert "train: 2 of 9 objects exceed --steps 3; a higher value includes them" in lines
    (dataset,) = opened(export, ["train"]).values()
    assert check_evaluation("train", dataset, num_steps=1)[0] == (
        "train: 6 of 9 objects exceed the 1 steps of the model and cannot be found"
    )
    assert check_evaluation("train", dataset, num_steps=9)[0].startswith("train: not classes")


def test_a_dataset_without_objects_is_refused(export):
    tools.change(export / VALID, lambda content: content.update(annotations=[]))
    message = refused(export)
    assert "at least one object in val" in message
    assert str(export / VALID) in message
    dataset = opened(export)["val"]
    assert "val: no object to score" in check_evaluation("val", dataset, num_steps=3)[0]


def test_a_dataset_of_crowds_only_is_refused_and_the_option_is_named(export):
    def crowd(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    tools.change(export / TRAIN, crowd)
    message = refused(export)
    assert "6 ignored regions" in message
    assert "--crowds objects" in message


def test_an_unreadable_image_is_named(export):
    path = next((export / "valid").glob("*.jpg"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in refused(export)
    path.write_bytes(b"broken")
    assert str(path) in refused(export)
    path.write_bytes(whole)
    lines_of(export)


def test_a_wrong_annotation_is_named_with_the_number_of_all(export):
    def break_two(content):
        content["annotations"][0]["segmentation"] = [[0, 0, float("nan"), 1, 2, 2]]
        content["annotations"][2]["segmentation"] = [[0, 0, 1e9, 1, 2, 2]]

    tools.change(export / TRAIN, break_two)
    message = refused(export)
    assert f"annotation 0 of {export / TRAIN}" in message
    assert "the first of 2 images of train" in message


def test_annotations_without_a_pixel_are_counted(export):
    def outside(content):
        content["annotations"][0]["segmentation"] = [[90, 0, 95, 0, 95, 5]]
        content["annotations"][1]["segmentation"] = [[1, 1, 5, 5]]

    tools.change(export / TRAIN, outside)
    assert any(line.startswith("train: 2 annotations without a pixel are left out") for line in lines_of(export))


def test_exif_orientations_are_noted_in_one_line(tmp_path):
    tools.label_studio(tmp_path / "x", orientation=6, suffix=".jpg")
    lines = lines_of(tmp_path / "x", val_share=0.2)
    assert [line for line in lines if line.startswith("train: 4 of 4 images: ") and "EXIF orientation" in line]


def test_unchanged_files_are_checked_once(export, cache, monkeypatch):
    calls = []
    inspect = CocoDataset.inspect
    monkeypatch.setattr(CocoDataset, "inspect", lambda self, index: (calls.append(index), inspect(self, index))[1])
    first = lines_of(export)
    assert len(calls) == 5
    assert len(list(cache.glob("*.json"))) == 2
    assert not list(cache.glob("*partial*"))
    assert lines_of(export) == first
    assert len(calls) == 5
    assert lines_of(export, max_objects=1) != first  # the limits are not part of the stored findings
    assert len(calls) == 5
    os.utime(export / VALID, ns=(1, 1))
    lines_of(export)
    assert len(calls) == 7
    image = next((export / "train").glob("*.jpg"))
    os.utime(image, ns=(1, 1))
    lines_of(export)
    assert len(calls) == 10
    for path in cache.glob("*.json"):
        path.write_text("{", encoding="utf-8")
    lines_of(export)
    assert len(calls) == 15


def test_the_check_runs_without_a_writable_cache(export, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert lines_of(export) == lines_of(export)


def test_only_the_chosen_part_of_a_split_is_checked(export):
    def break_last(content):
        content["annotations"][-1]["segmentation"] = [[0, 0, float("nan"), 1, 2, 2]]

    tools.change(export / TRAIN, break_last)
    lines_of(export, train_size=2)
    refused(export, train_size=3)


def test_no_image_is_decoded(export, monkeypatch):
    datasets = opened(export)
    monkeypatch.setattr("rsis_tf.data.readers.coco.reader.read_image", lambda *a, **k: pytest.fail("decoded"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *a, **k: pytest.fail("decoded"))
    check_training(datasets, max_objects=20, num_steps=20)


def test_thousands_of_annotations_are_counted(tmp_path):
    root = tools.cvat(tmp_path / "many", count=2)
    ring = [float(v) for k in range(60) for v in (24 + 20 * np.cos(k / 9.6), 16 + 12 * np.sin(k / 9.6))]

    def multiply(content):
        one = content["annotations"][0]
        content["annotations"] = [
            {**one, "id": n, "image_id": 1 + n % 2, "segmentation": [ring]} for n in range(20_000)
        ]

    tools.change(root / "annotations/instances_default.json", multiply)
    (dataset,) = opened(root, ["train"], val_share=0.5).values()
    assert inspect_split("train", dataset).objects == (10_000,)


def test_objects_of_label_maps_are_counted_and_broken_label_maps_refused(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            save(tmp_path / split / "images" / f"{name}.png", noise(8, 8))
            labels = np.zeros((8, 8), np.uint8)
            labels[0, :3] = 1, 2, 3
            save(tmp_path / split / "labels" / f"{name}.png", labels)
    lines = lines_of(tmp_path, max_objects=2, dataset="folder")
    assert "train: 2 of 6 objects exceed --max-objects 2; a higher value includes them" in lines
    (tmp_path / "val/labels/b.png").write_bytes(b"broken")
    assert "b.png" in refused(tmp_path, dataset="folder")


def test_a_file_of_classes_that_is_added_changes_the_findings(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / split / "images/a.png", noise(8, 8))
        save(tmp_path / split / "labels/a.png", np.eye(8, dtype=np.uint8))
    assert lines_of(tmp_path, dataset="folder") == []
    (tmp_path / "classes.txt").write_text("object\n", encoding="utf-8")  # now 1 means void
    assert "at least one object in train" in refused(tmp_path, dataset="folder")


def test_generated_images_are_not_checked():
    plants = {split: load_dataset(DataConfig(dataset="leaves"), split) for split in ("train", "val")}
    assert check_training(plants, max_objects=1, num_steps=1) == []
    scenes = Subset(load_dataset(DataConfig(), "val"), 2)
    assert check_evaluation("val", scenes, num_steps=1) == []


def test_no_check_compares_only_the_class_names(export, monkeypatch, capsys):
    import train
    from rsis_tf import run

    def stop():
        raise SystemExit(7)

    monkeypatch.setattr(run, "quiet_start", stop)
    monkeypatch.setattr(run, "check_training", lambda *a, **k: pytest.fail("checked"))
    options = ["--dataset", "coco", "--data", str(export), "--out", str(export / "run"), "--no-check"]
    with pytest.raises(SystemExit) as caught:
        train.main(options)
    assert caught.value.code == 7

    def swap(content):
        content["categories"][1]["name"], content["categories"][2]["name"] = "debris", "cell"

    tools.change(export / VALID, swap)
    with pytest.raises(SystemExit) as caught:
        train.main(options)
    assert caught.value.code == 2
    assert "the same categories" in capsys.readouterr().err


def test_train_checks_the_dataset_before_it_imports_tensorflow(export, capsys):
    import train

    loaded = "tensorflow" in sys.modules
    tools.change(export / TRAIN, lambda content: content["annotations"][0].update(segmentation=[[0, 0, 1e9, 1, 2, 2]]))
    with pytest.raises(SystemExit) as caught:
        train.main(["--dataset", "coco", "--data", str(export), "--out", str(export / "run")])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expected polygons in the image of 48x32 pixels")
    assert not (export / "run").exists()
    assert ("tensorflow" in sys.modules) == loaded
