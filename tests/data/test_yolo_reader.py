"""Exports in YOLO's segmentation format are read unchanged; what is no outline is named with its file and line."""

import label_tools
import numpy as np
import pytest
import yolo_exports as tools
from label_tools import LARGE_AREA, SMALL_AREA

from rsis_tf.cli.main import main
from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.check import check
from rsis_tf.data.paths import MissingSplitError, UnsplitError
from rsis_tf.data.readers.yolo import YoloDataset
from rsis_tf.data.readers.yolo.layout import label_file
from rsis_tf.errors import InputError

EXPORTS = {
    "ultralytics": tools.ultralytics,
    "roboflow": tools.roboflow,
    "cvat": tools.cvat,
    "older cvat": lambda root: tools.cvat(root, prefix="data/"),
    "label studio": tools.label_studio,
    "fiftyone": tools.fiftyone,
}


@pytest.mark.parametrize("tool", EXPORTS)
def test_an_export_is_read_unchanged(tool, tmp_path):
    root = EXPORTS[tool](tmp_path / "größe 1")
    dataset = YoloDataset(root, "all" if tool in ("label studio", "cvat", "older cvat") else "train")
    assert dataset.class_names == ("background", "cell", "debris")
    assert len(dataset) == 3
    for sample in dataset:
        assert sample.image.shape == (32, 48, 3)
        assert sample.classes.tolist() == [1, 2]
        assert [(sample.label_map == number).sum() for number in (1, 2)] == [LARGE_AREA, SMALL_AREA]
    assert len({sample.image_id for sample in dataset}) == 3
    assert not dataset.remarks


def test_the_masks_are_those_of_the_same_objects_in_cocos_format(tmp_path):
    yolo = YoloDataset(tools.roboflow(tmp_path / "yolo"), "train")
    coco = load_dataset(DataConfig(dataset="coco", root=str(label_tools.roboflow(tmp_path / "coco"))), "train")
    for one, other in zip(yolo, coco, strict=True):
        np.testing.assert_array_equal(one.label_map, other.label_map)
        np.testing.assert_array_equal(one.classes, other.classes)


def test_splits(tmp_path):
    both = tools.ultralytics(tmp_path / "both")
    assert [path.name for path in YoloDataset(both, "val").image_files] == ["val0.png", "val1.png", "val2.png"]
    assert len(YoloDataset(both, "all")) == 6
    with pytest.raises(MissingSplitError, match="split 'test'"):
        YoloDataset(both, "test")
    with pytest.raises(InputError, match=r"has no validation split. Received: --val-share 0\.3"):
        YoloDataset(both, "val", val_share=0.3)

    # Roboflow names the splits that a project does not have.
    training = tools.roboflow(tmp_path / "training", splits=("train",), count=4)
    with pytest.raises(MissingSplitError, match=r"--val-share 0\.2 keeps"):
        YoloDataset(training, "val")
    parts = [YoloDataset(training, split, val_share=0.25).image_files for split in ("train", "val")]
    assert [len(part) for part in parts] == [3, 1]
    assert sorted(parts[0] + parts[1]) == YoloDataset(training, "train").image_files

    unsplit = tools.label_studio(tmp_path / "unsplit")
    with pytest.raises(UnsplitError, match=r"--val-share 0\.2"):
        YoloDataset(unsplit, "train")
    assert len(YoloDataset(unsplit, "train", val_share=0.4)) == 2


def test_an_image_without_a_label_file_has_no_objects(tmp_path):
    root = tools.ultralytics(tmp_path)
    (root / "labels/train/train0.txt").unlink()
    (root / "labels/train/train1.txt").write_text("\n")
    dataset = YoloDataset(root, "train")
    assert [len(dataset[index].classes) for index in range(3)] == [0, 0, 2]
    assert [len(dataset.files(index)) for index in range(3)] == [2, 3, 3]


def test_images_in_a_linked_folder_are_read(tmp_path):
    root = tools.ultralytics(tmp_path / "export")
    for kind in ("images", "labels"):
        (root / kind / "train").rename(tmp_path / kind)
        (root / kind / "train").mkdir()
        (root / kind / "train/batch1").symlink_to(tmp_path / kind, target_is_directory=True)
    dataset = YoloDataset(root, "train")
    assert [path.name for path in dataset.image_files] == ["train0.png", "train1.png", "train2.png"]
    assert [len(sample.classes) for sample in dataset] == [2, 2, 2]


def test_label_files_without_an_image_are_named(tmp_path):
    root = tools.ultralytics(tmp_path)
    (root / "images/train/train1.png").unlink()
    (remark,) = YoloDataset(root, "train").remarks
    assert remark.startswith("expected an image for every label file. Received: ")
    assert "train1.txt (1 in" in remark
    # Those of the other part of a divided dataset have one.
    assert not YoloDataset(tools.label_studio(tmp_path / "ls"), "val", val_share=0.4).remarks


@pytest.mark.parametrize(
    ("row", "received"),
    [
        ("0 0.5 0.5 0.2 0.2", "a box, line 3 of .*train0\\.txt"),
        ("0 0.5 0.5 0.2 0.2 0.1", "5 values, line 3 of"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.7", "7 values, line 3"),
        ("0 10 10 40 10 40 30", "10, line 3"),
        ("0 0.1 0.1 nan 0.1 0.4 0.3", "nan, line 3"),
        ("cell 0.1 0.1 0.4 0.1 0.4 0.3", "'cell 0.1 .*, line 3"),
        ("2 0.1 0.1 0.4 0.1 0.4 0.3", r"one of 0, 1\. Received: 2, line 3"),
        ("-1 0.1 0.1 0.4 0.1 0.4 0.3", "-1, line 3"),
    ],
)
def test_what_is_no_outline_is_refused(tmp_path, row, received):
    root = tools.ultralytics(tmp_path)
    (root / "labels/train/train0.txt").write_text("\n".join([*tools.rows(5), row]))
    dataset = YoloDataset(root, "train")
    for read in (dataset.inspect, dataset.read, dataset.findings):
        with pytest.raises(InputError, match=received) as caught:
            read(0)
        assert "\n" not in str(caught.value)
    (problem,) = check(DataConfig(dataset="yolo", root=str(root)))["train"].problems
    assert problem == str(caught.value)


def test_the_check_names_what_has_no_pixel_and_what_is_hidden(tmp_path):
    root = tools.ultralytics(tmp_path)
    small = tools.rows(5)[1]
    (root / "labels/train/train0.txt").write_text("\n".join([small, small, "1 0.5 0.5 0.5 0.5 0.5 0.5"]))
    problems = check(DataConfig(dataset="yolo", root=str(root)))["train"].problems
    assert [problem.partition("Received: ")[2].split(",")[0] for problem in problems] == [
        "one that others hide completely",
        "an empty one",
    ]
    inspected = YoloDataset(root, "train").inspect(0)
    assert (inspected.objects, inspected.empty) == (1, 1)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("names: [cell\n", "expected a YAML file"),
        ("train: images/train\n", "expected data.yaml with the names"),
        ("train: images/train\nnames: 3\n", "names: 3"),
        ("train: images/train\nnames: {cell: 0}\n", "'cell': 0"),
        ("train: images/train\nnames: [cell, cell]\n", "different name"),
        ("train: images/train\nnames: [background]\n", "different name"),
        ("train: 3\nnames: [cell]\n", "train: 3"),
        ("train: [images/train, images/other]\nnames: [cell]\n", "'images/other' of train"),
        ("names: [cell]\n", "split 'train'"),
        ("train: !!python/object/apply:os.system ['true']\nnames: [cell]\n", "expected a YAML file"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path, text, received):
    root = tools.ultralytics(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        YoloDataset(root, "train")
    assert received in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dataset_without_label_files_says_where_they_are_expected(tmp_path):
    root = tools.ultralytics(tmp_path)
    (root / "labels").rename(root / "annotations")
    with pytest.raises(InputError, match=r"folders named labels.*labels/train/train0\.txt"):
        YoloDataset(root, "train")


def test_images_that_a_list_names_must_exist(tmp_path):
    root = tools.cvat(tmp_path)
    (root / "images/train/frame_1.png").unlink()
    with pytest.raises(InputError, match=r"frame_1\.png \(no such file; 1 missing"):
        YoloDataset(root, "train")


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("a/images/train/x.jpg", "a/labels/train/x.txt"),
        ("images/b/images/x.y.png", "images/b/labels/x.y.txt"),
        ("a/photos/x.jpg", "a/photos/x.txt"),
        ("a/images.jpg", "a/images.txt"),
    ],
)
def test_the_label_file_of_an_image(tmp_path, image, labels):
    assert label_file(tmp_path / image) == tmp_path / labels


def test_the_command_line_reads_it(tmp_path, capsys):
    main(["check", "--dataset", "yolo", "--data", str(tools.roboflow(tmp_path))])
    shown = capsys.readouterr().out.split("\n")
    assert shown[0].split() == ["train", "val"]
    assert "objects 6 6".split() in [line.split() for line in shown]
