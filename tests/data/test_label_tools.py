"""Exports of label tools are read without any change to the files."""

import json
import os
import shutil

import label_tools as tools
import numpy as np
import pytest

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.preflight import check_training
from rsis_tf.errors import InputError

NAMES = ("background", "cell", "debris")


def load(root, split, **fields):
    return load_dataset(DataConfig(dataset="coco", root=str(root), **fields), split)


def assert_whole(dataset, count):
    """Asserts that every image has its large cell and its small debris in the right place."""
    assert dataset.class_names == NAMES
    assert len(dataset) == count
    for index in range(count):
        sample = dataset[index]
        assert sample.classes.tolist() == [1, 2]
        assert sample.label_map.shape == (tools.HEIGHT, tools.WIDTH)
        expected = np.zeros((tools.HEIGHT, tools.WIDTH), int)
        expected[3:23, 2:22], expected[5:15, 30:40] = 1, 2
        np.testing.assert_array_equal(sample.label_map, expected)


def refused(root, split, **fields):
    with pytest.raises(InputError) as caught:
        load(root, split, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_roboflows_project_category_is_not_a_class(tmp_path):
    tools.roboflow(tmp_path)
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        assert_whole(load(tmp_path, split), count)
    dataset = load(tmp_path, "train")
    assert dataset.category_ids == (0, 1, 2)
    assert dataset.dropped_categories == ("cells",)
    assert dataset.unlisted_files() == []


def test_a_roboflow_project_may_have_the_name_of_a_class(tmp_path):
    tools.roboflow(tmp_path, root_category="cell")
    assert_whole(load(tmp_path, "val"), 2)


def test_a_parent_category_that_one_split_uses_is_a_class_in_all_splits(tmp_path):
    tools.roboflow(tmp_path)
    tools.change(tmp_path / "train/_annotations.coco.json", lambda c: c["annotations"][0].update(category_id=0))
    for split in ("train", "val"):
        assert load(tmp_path, split).class_names == ("background", "cells", "cell", "debris")


def test_cvat_task_with_a_share_for_validation(tmp_path):
    tools.cvat(tmp_path)
    train, val = (load(tmp_path, split, val_share=0.4) for split in ("train", "val"))
    assert_whole(train, 3)
    assert_whole(val, 2)
    assert not {path.name for path in train.image_files} & {path.name for path in val.image_files}
    message = refused(tmp_path, "train")
    assert "--val-share 0.2" in message
    assert "instances_default.json" in message


def test_cvat_project_with_subsets(tmp_path):
    tools.cvat(tmp_path, ("Train", "Validation", "Test"), count=2)
    for split in ("train", "val", "test"):
        assert_whole(load(tmp_path, split), 2)


def test_cvat_with_all_images_in_one_folder(tmp_path):
    tools.cvat(tmp_path, merged=True)
    assert_whole(load(tmp_path, "all"), 5)


def test_cvat_tasks_in_a_folder_per_split(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        tools.cvat(tmp_path / split, count=2)
        assert_whole(load(tmp_path, split), 2)


def test_brush_masks_of_cvat_are_objects(tmp_path):
    (tmp_path / "polygons").mkdir()
    tools.cvat(tmp_path / "polygons")
    assert not load(tmp_path / "polygons", "all").masks_marked_as_crowds
    tools.cvat(tmp_path, brush=True)
    dataset = load(tmp_path, "all")
    assert dataset.masks_marked_as_crowds
    assert_whole(dataset, 5)
    sample = load(tmp_path, "all", crowds="ignore")[0]
    assert sample.classes.tolist() == [1]
    assert (sample.label_map == -1).sum() == tools.SMALL_AREA
    # In a file that CVAT did not write, they are crowds.
    tools.change(tmp_path / "annotations/instances_default.json", lambda c: c.update(licenses=[]))
    assert load(tmp_path, "all")[0].classes.tolist() == [1]
    assert_whole(load(tmp_path, "all", crowds="objects"), 5)


@pytest.mark.parametrize(
    ("windows", "prefix"),
    [
        (False, "images/"),
        (True, "images/"),
        (True, "images\\1/"),
        (True, "..\\..\\label-studio\\label-studio\\media\\upload\\4\\"),
    ],
)
def test_label_studio(tmp_path, windows, prefix):
    tools.label_studio(tmp_path, windows=windows, prefix=prefix)
    dataset = load(tmp_path, "all")
    assert_whole(dataset, 5)
    assert dataset.category_ids == (0, 0, 1)
    assert len(load(tmp_path, "train", val_share=0.2)) == 4


def test_labelmes_background_label_is_not_a_class(tmp_path):
    tools.labelme(tmp_path)
    dataset = load(tmp_path, "all")
    assert_whole(dataset, 5)
    assert dataset.dropped_categories == ("_background_",)


@pytest.mark.parametrize("write", [tools.labelme2coco, tools.via])
def test_an_annotation_file_beside_the_images(tmp_path, write):
    write(tmp_path)
    assert_whole(load(tmp_path, "all"), 5)
    assert load(tmp_path, "all").unlisted_files() == []


def test_labelme2coco_with_two_files_in_one_folder(tmp_path):
    tools.labelme2coco(tmp_path)
    shutil.copy(tmp_path / "dataset.json", tmp_path / "val.json")
    os.replace(tmp_path / "dataset.json", tmp_path / "train.json")
    for split in ("train", "val"):
        assert_whole(load(tmp_path, split), 5)


def test_named_files_and_folders(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        tools.via(tmp_path / name, count=2)
        os.replace(tmp_path / name / "via_export_coco.json", tmp_path / f"{name}.json")
    fields = {"annotations": str(tmp_path / "first.json"), "images": str(tmp_path / "first")}
    both = {**fields, "val_annotations": str(tmp_path / "second.json"), "val_images": str(tmp_path / "second")}
    for split in ("train", "val"):
        assert_whole(load_dataset(DataConfig(dataset="coco", **both), split), 2)
    assert load_dataset(DataConfig(dataset="coco", **both), "val").image_files[0].parent.name == "second"
    for split in ("train", "val"):
        assert_whole(load_dataset(DataConfig(dataset="coco", **fields, val_share=0.5), split), 1)
    with pytest.raises(InputError, match="--val-images needs --val-annotations"):
        load_dataset(DataConfig(dataset="coco", **fields, val_images="x", val_share=0.5), "train")
    with pytest.raises(InputError, match="--val-annotations or --val-share"):
        load_dataset(DataConfig(dataset="coco", **fields), "val")
    with pytest.raises(InputError, match=r"nothing\.json"):
        load_dataset(DataConfig(dataset="coco", annotations=str(tmp_path / "nothing.json")), "train")
    with pytest.raises(InputError, match="is for --dataset coco"):
        load_dataset(DataConfig(dataset="voc", **fields), "train")


def test_a_byte_order_mark_and_non_latin_names(tmp_path):
    tools.cvat(tmp_path)
    file = tmp_path / "annotations/instances_default.json"
    os.replace(tmp_path / "images/default/default_1.png", tmp_path / "images/default/Größe 猫.png")

    def rename(content):
        content["images"][0]["file_name"] = "Größe 猫.png"
        content["categories"][0]["name"] = "猫"

    tools.change(file, rename)
    text = json.dumps(json.loads(file.read_text(encoding="utf-8")), ensure_ascii=False)
    file.write_text(text, encoding="utf-8-sig")
    dataset = load(tmp_path, "all")
    assert dataset.class_names == ("background", "猫", "debris")
    assert dataset[0].classes.tolist() == [1, 2]


def test_the_message_about_an_unknown_layout_lists_the_known_ones(tmp_path):
    message = refused(tmp_path, "train")
    for name in (
        *("annotations/instances_train.json", "train/_annotations.coco.json", "annotations/instances_default.json"),
        *("result.json", "annotations.json", "dataset.json", "via_export_coco.json"),
    ):
        assert name in message


def test_a_validation_share_beside_a_validation_split_is_refused(tmp_path):
    tools.roboflow(tmp_path)
    assert "valid/_annotations.coco.json" in refused(tmp_path, "train", val_share=0.2)
    shutil.rmtree(tmp_path / "valid")
    assert "--val-share 0.2" in refused(tmp_path, "val")
    assert len(load(tmp_path, "train", val_share=0.3)) == 2
    assert_whole(load(tmp_path, "test", val_share=0.3), 1)


def test_a_validation_share_depends_only_on_names_and_keeps_copies_together(tmp_path):
    tools.cvat(tmp_path, count=20)
    chosen = [path.name for path in load(tmp_path, "val", val_share=0.25).image_files]
    assert len(chosen) == 5

    def renumber(content):
        content["images"].reverse()
        for image in content["images"]:
            image["id"] += 100
        for annotation in content["annotations"]:
            annotation["image_id"] += 100

    tools.change(tmp_path / "annotations/instances_default.json", renumber)
    assert sorted(path.name for path in load(tmp_path, "val", val_share=0.25, seed=7).image_files) == sorted(chosen)

    augmented = tmp_path / "augmented"
    tools.roboflow(augmented, {"train": 12})

    def copies(content):
        for number, image in enumerate(content["images"]):
            old = augmented / "train" / image["file_name"]
            image["file_name"] = f"cell{number // 3}_jpg.rf.{number:032x}.jpg"
            os.replace(old, augmented / "train" / image["file_name"])

    tools.change(augmented / "train/_annotations.coco.json", copies)
    sources = [
        {path.name.split(".rf.")[0] for path in load(augmented, split, val_share=0.5).image_files}
        for split in ("train", "val")
    ]
    assert [len(names) for names in sources] == [2, 2]
    assert not sources[0] & sources[1]


def test_images_with_two_annotators_are_read_and_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tools.label_studio(tmp_path, count=4)

    def second(content):
        content["images"].append({**content["images"][0], "id": 4})
        content["annotations"].append({**content["annotations"][0], "id": 90, "image_id": 4})

    tools.change(tmp_path / "result.json", second)
    datasets = {split: load(tmp_path, split, val_share=0.5) for split in ("train", "val")}
    sides = [[path.name for path in dataset.image_files] for dataset in datasets.values()]
    assert not set(sides[0]) & set(sides[1])
    assert sorted(map(len, sides)) == [2, 3]
    lines = check_training(datasets, max_objects=9, num_steps=9)
    assert "train: 1 entries are probably mistakes (rsis check lists them)" in lines


def test_fiftyone(tmp_path):
    tools.labelme2coco(tmp_path / "data")
    os.replace(tmp_path / "data/dataset.json", tmp_path / "labels.json")
    assert_whole(load(tmp_path, "all"), 5)


def test_boxes_without_a_mask_are_refused_by_id(tmp_path):
    tools.cvat(tmp_path)
    file = tmp_path / "annotations/instances_default.json"
    tools.change(file, lambda content: content["annotations"][3].update(segmentation=[]))
    with pytest.raises(InputError, match=r"a box is not a mask.*annotation 4 of .*instances_default\.json"):
        load(tmp_path, "all")[1]
