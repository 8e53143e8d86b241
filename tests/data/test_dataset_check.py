"""Opening a dataset by name, and `rsis check`."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from dataset_files import noise, save

from rsis_tf.cli.check import main
from rsis_tf.config import DataConfig
from rsis_tf.data import DATASETS, DatasetEntry, FileDataset, Sample, load_dataset
from rsis_tf.errors import InputError


@pytest.fixture
def dataset(tmp_path):
    """A COCO dataset with 3 images per split, one of them without objects, and 4 annotations, one of them a crowd."""
    images = [{"id": number, "file_name": f"{number}.png", "height": 4, "width": 8} for number in (1, 2, 3)]
    category = [{"id": 4, "name": "cat"}, {"id": 2, "name": "dog"}]
    annotations = []
    for number, (image, kind, crowd) in enumerate([(1, 4, 0), (1, 2, 0), (1, 2, 1), (3, 2, 0)]):
        before = 4 * number
        counts = [before, 4, 28 - before]
        annotations.append(
            {
                "id": number,
                "image_id": image,
                "category_id": kind,
                "iscrowd": crowd,
                "segmentation": {"size": [4, 8], "counts": counts},
            }
        )
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        content = {"images": images, "annotations": annotations, "categories": category}
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
        for image in images:
            save(tmp_path / split / image["file_name"], noise(4, 8))
    return tmp_path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_a_clean_dataset(dataset, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run("--dataset", "coco", "--data", dataset, "--json", report) == 0
    found = json.loads(report.read_text())
    assert list(found) == ["train", "val"]
    train = found["train"]
    assert [train[key] for key in ("images", "objects", "largest_count")] == [3, 3, 2]
    assert train["objects_per_class"] == {"dog": 2, "cat": 1}
    assert train["void_share"] == pytest.approx(4 / (3 * 32))
    assert train["sizes"] == [[4, 8], [4, 8]]
    assert train["without_objects"] == [str(dataset / "train" / "2.png")]
    assert train["unlisted"] == train["problems"] == []
    out = capsys.readouterr().out
    assert str(dataset / "train" / "2.png") in out
    assert "cat" in out
    assert not list(tmp_path.glob("*partial*"))


def test_every_problem_is_reported_with_its_path(dataset, capsys):
    (dataset / "train" / "1.png").unlink()
    (dataset / "train" / "3.png").write_bytes(b"broken")
    save(dataset / "train" / "extra.png", noise(4, 8))
    assert run("--dataset", "coco", "--data", dataset, "--json", dataset / "report.json") == 1
    train = json.loads((dataset / "report.json").read_text())["train"]
    assert len(train["problems"]) == 2
    assert str(dataset / "train" / "1.png") in train["problems"][0]
    assert str(dataset / "train" / "3.png") in train["problems"][1]
    assert train["unlisted"] == [str(dataset / "train" / "extra.png")]
    assert str(dataset / "train" / "3.png") in capsys.readouterr().out
    assert run("--dataset", "coco", "--data", dataset, "--split", "val") == 0


def test_unreadable_annotations_are_a_problem_of_their_split(dataset, capsys):
    (dataset / "annotations" / "val.json").write_text("{")
    assert run("--dataset", "coco", "--data", dataset, "--json", dataset / "report.json") == 1
    report = json.loads((dataset / "report.json").read_text())
    assert report["train"]["images"] == 3
    assert list(report["val"]) == ["problems"]
    assert str(dataset / "annotations" / "val.json") in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dataset", "nothing", "--data", "."),
        ("--dataset", "coco"),
        ("--dataset", "coco", "--data", "missing"),
        ("--dataset", "coco", "--data", "."),
        ("--dataset", "coco", "--data", ".", "--split", "test"),
        ("--dataset", "coco", "--data", ".", "--unknown"),
        ("--data", "."),
    ],
)
def test_wrong_arguments_end_with_code_2_and_no_traceback(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "error: " in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset coco --data {data} --val-share 0.2", "--val-share with a dataset that has no validation split"),
        ("--dataset coco --data {data} --images {data}", "--images needs --annotations"),
        ("--dataset coco --annotations nosuch.json", "Received: nosuch.json (no such file)"),
        ("--dataset coco --annotations {file} --images nowhere", "Received: nowhere (no such folder)"),
        ("--dataset coco --annotations {file} --val-images {data}", "--val-images needs --val-annotations"),
        ("--dataset coco --annotations {file} --val-annotations {file} --val-share 0.2", "not both"),
        ("--dataset voc --data {data}", "Pascal VOC's lists"),
        ("--dataset yolo --data {data}", "data.yaml"),
        ("--dataset dsb2018 --data {data}", "NAME/images and NAME/masks"),
        ("--dataset cityscapes --data {data}", "the images of Cityscapes' split"),
        ("--dataset cvppp --data {data}", "_rgb.png"),
        ("--dataset folder --data {data}", "the images of split"),
    ],
)
def test_options_that_do_not_fit_the_dataset_are_one_line(arguments, message, dataset, capsys):
    places = {"data": dataset, "file": dataset / "annotations" / "train.json"}
    with pytest.raises(SystemExit) as caught:
        run(*arguments.format(**places).split())
    assert caught.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert message in error
    assert "Received: " in error


def test_files_with_names_beside_a_share_are_wrong_arguments(tmp_path, capsys):
    save(tmp_path / "a/images/a.png", noise(4, 8))
    save(tmp_path / "b/images/b.png", noise(4, 8))
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "dsb2018", "--data", tmp_path, "--val-share", "0.5")
    assert caught.value.code == 2
    (tmp_path / "val.txt").unlink()
    (tmp_path / "data.yaml").write_text("names: [cell]\nval: images\n")
    save(tmp_path / "images/a.png", noise(4, 8))
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "yolo", "--data", tmp_path, "--val-share", "0.5")
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_unreadable_annotations_of_a_dataset_without_splits_are_its_problem(tmp_path, capsys):
    (tmp_path / "annotations.json").write_text("{")
    assert run("--dataset", "coco", "--data", tmp_path, "--json", tmp_path / "report.json") == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report) == ["all"]
    assert str(tmp_path / "annotations.json") in report["all"]["problems"][0]
    assert "annotations.json" in capsys.readouterr().out


def test_the_suffix_of_the_sheet_is_checked_before_the_work(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rsis_tf.cli.check.check", lambda *arguments: pytest.fail("checked"))
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "coco", "--data", dataset, "--sheet", str(tmp_path / "s.txt"))
    assert caught.value.code == 2
    assert f"expected a name that ends in .png, .jpg, .jpeg, .webp. Received: {tmp_path / 's.txt'}" in (
        capsys.readouterr().err
    )


def test_the_report_is_written_even_if_there_is_no_image_to_draw(dataset, tmp_path, capsys):
    for path in dataset.glob("*/*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(SystemExit):
        run("--dataset", "coco", "--data", dataset, "--sheet", tmp_path / "s.png", "--json", tmp_path / "r.json")
    assert "--sheet" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "r.json").read_text())["train"]["problems"]) == 3


def test_a_missing_folder_is_named_by_its_option(capsys):
    for name, more in (
        ("coco", ", or --annotations FILE (in Python: root, annotations)"),
        ("voc", " (in Python: root)"),
    ):
        with pytest.raises(SystemExit) as caught:
            run("--dataset", name)
        assert caught.value.code == 2
        assert capsys.readouterr().err == (
            f"error: expected --data FOLDER, the folder of a {name} dataset{more}. Received: root=None\n"
        )


@pytest.mark.parametrize("option", ["--sheet", "--json"])
def test_a_result_that_cannot_be_written_is_found_before_the_work(option, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rsis_tf.cli.check.check", lambda *arguments: pytest.fail("checked"))
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "coco", "--data", dataset, option, str(tmp_path / "nowhere/result.png"))
    assert caught.value.code == 2
    assert f"expected {option} to be in an existing folder" in capsys.readouterr().err


def test_a_named_split_must_exist(dataset, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--dataset", "coco", "--data", dataset, "--split", "test")
    assert caught.value.code == 2
    assert "test.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_of_the_table_has_a_reader(name):
    entry = DATASETS[name]
    reader = entry.load_reader()
    assert not entry.in_folder or issubclass(reader, FileDataset)
    assert {*entry.own_fields, *entry.shared_fields} <= {field.name for field in dataclasses.fields(DataConfig)}
    assert entry.description


def test_a_new_dataset_is_one_module_and_one_row(tmp_path, monkeypatch):
    class Stripes(FileDataset):
        class_names = ("background", "stripe")
        annotation_files = ()

        def __init__(self, root, split, *, check, val_share):
            self.image_files = [root, split, val_share]

        def read(self, index, at_least=None):
            labels = np.eye(4, dtype=np.int32)
            return Sample(image=noise(4, 4), label_map=labels, classes=np.array([1]), image_id=str(index))

    monkeypatch.setitem(sys.modules, "rsis_tf.data.readers.stripes", types.SimpleNamespace(Stripes=Stripes))
    row = DatasetEntry(reader="stripes:Stripes", description="diagonals", own_fields=("val_share",))
    monkeypatch.setitem(DATASETS, "stripes", row)
    opened = load_dataset(DataConfig(dataset="stripes", root=str(tmp_path), val_share=0.5), "train")
    assert opened.image_files == [str(tmp_path), "train", 0.5]
    assert [sample.label_map.sum() for sample in opened] == [4, 4, 4]


def test_load_dataset_opens_by_name(dataset):
    config = DataConfig(dataset="coco", root=str(dataset), train_size=2)
    assert len(load_dataset(config, "train")) == 2
    assert len(load_dataset(config, "val")) == 3
    assert len(list(load_dataset(config, "train"))) == 2
    assert load_dataset(config, "train").class_names == ("background", "dog", "cat")
    for name in DATASETS:
        if name not in ("leaves", "shapes"):
            with pytest.raises(InputError, match="missing"):
                load_dataset(DataConfig(dataset=name, root="missing"), "train")


def test_the_sizes_of_the_splits_of_shapes():
    assert [len(load_dataset(DataConfig(), split)) for split in ("train", "val", "test")] == [4096, 128, 128]
    dataset = load_dataset(DataConfig(image_size=(32, 48), train_size=7), "train")
    assert len(dataset) == 7
    assert dataset[0].image.shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        (
            {"dataset": "coca"},
            "train",
            "cityscapes, coco, cvppp, dsb2018, folder, leaves, shapes, voc, yolo. Received: 'coca'",
        ),
        ({"dataset": "voc"}, "train", "root=None"),
        ({}, "training", "train, val, test. Received: 'training'"),
        ({"seed": -1}, "train", "seed=-1"),
        ({"image_size": (16, 64)}, "train", "image_size=\\(16, 64\\)"),
    ],
)
def test_wrong_settings_are_refused(changes, split, message):
    with pytest.raises(InputError, match=message):
        load_dataset(DataConfig(**changes), split)


def test_an_image_of_void_pixels_has_no_objects(tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("cell\n")
    save(tmp_path / "train" / "images" / "a.png", noise(2, 2))
    save(tmp_path / "train" / "labels" / "a.png", np.full((2, 2), 9, np.uint8))
    assert run("--dataset", "folder", "--data", tmp_path, "--json", tmp_path / "r.json") == 0
    train = json.loads((tmp_path / "r.json").read_text())["train"]
    assert train["void_share"] == 1
    assert train["without_objects"] == [str(tmp_path / "train" / "images" / "a.png")]
    assert "100.0%" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "size", "most"), [("leaves", "96x96", 10), ("shapes", "64x64", 4)])
def test_generated_images_are_those_of_the_training(name, size, most, capsys):
    assert main(["--dataset", name, "--split", "val"]) == 0
    rows = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert rows["largest size"].strip() == size
    assert int(rows["most in an image"]) == most
