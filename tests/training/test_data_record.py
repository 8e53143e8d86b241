"""A resumed training has the data and the classes that the run began with."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from test_run import DATASETS, tiny_settings
from tiny import SCENES

from rsis_tf import run
from rsis_tf.config import DataConfig, ModelConfig
from rsis_tf.data import Subset, category_ids, load_dataset
from rsis_tf.errors import InputError
from rsis_tf.training.data_record import recorded, require_same_data
from rsis_tf.training.state import RunState, StateFolder


@pytest.fixture
def coco(tmp_path):
    """A folder with two splits of two images in COCO's format."""
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "data" / split / f"{number}.png")
        write_annotations(tmp_path / "data", split)
    return tmp_path / "data"


def write_annotations(folder, split, categories=((1, "cell"), (2, "leaf")), images=2):
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 8, "height": 8} for number in range(images)],
        "annotations": [
            {"id": number, "image_id": 0, "category_id": id, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
            for number, (id, _) in enumerate(categories)
        ],
        "categories": [{"id": id, "name": name} for id, name in categories],
    }
    (folder / f"{split}.json").write_text(json.dumps(content))


def open_splits(folder):
    files = {"annotations": str(folder / "train.json"), "val_annotations": str(folder / "val.json")}
    images = {"images": str(folder / "train"), "val_images": str(folder / "val")}
    return {split: load_dataset(DataConfig(dataset="coco", **files, **images), split) for split in ("train", "val")}


def compare(before, folder, *, accept_changed=False, **model):
    datasets = open_splits(folder)
    ids = category_ids(datasets["train"])
    require_same_data(before, recorded(datasets), model=ModelConfig(**model), ids=ids, accept_changed=accept_changed)


def test_unchanged_and_moved_data_is_accepted(coco, tmp_path):
    before = recorded(open_splits(coco))
    compare(before, coco)
    shutil.copytree(coco, tmp_path / "elsewhere")  # keeps the times
    compare(before, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("what", "received"),
    [
        ("touch", "changed image files of train"),
        ("grow", "changed image files of train"),
        ("rename", "other image files of val"),
        ("annotate", "changed annotation files of val"),
        ("drop", "1 images of val instead of 2, other image files of val, changed annotation files of val"),
    ],
)
def test_changed_images_and_annotations_are_accepted_on_request_only(coco, what, received):
    before = recorded(open_splits(coco))
    match what:
        case "touch":
            os.utime(coco / "train/1.png", ns=(5, 5))
        case "grow":
            stat = (coco / "train/1.png").stat()
            with (coco / "train/1.png").open("ab") as file:
                file.write(b"x")
            os.utime(coco / "train/1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        case "rename":
            os.rename(coco / "val/1.png", coco / "val/2.png")
            text = (coco / "val.json").read_text()
            stat = (coco / "val.json").stat()
            (coco / "val.json").write_text(text.replace("1.png", "2.png"))
            os.utime(coco / "val.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        case "annotate":
            os.utime(coco / "val.json", ns=(5, 5))
        case "drop":
            write_annotations(coco, "val", images=1)
    with pytest.raises(InputError, match=rf"--accept-changed-data accepts .*\. Received: {received}$"):
        compare(before, coco)
    compare(before, coco, accept_changed=True)


@pytest.mark.parametrize(
    "categories", [((1, "leaf"), (2, "cell")), ((1, "cell"),), ((1, "cell"), (3, "leaf")), ((1, "cell"), (2, "tree"))]
)
def test_other_classes_are_never_accepted(coco, categories):
    before = recorded(open_splits(coco))
    for split in ("train", "val"):
        write_annotations(coco, split, categories)
    with pytest.raises(InputError, match="the classes that the run began with") as caught:
        compare(before, coco, accept_changed=True)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_earlier_version_records_its_classes_only(coco):
    model = {"num_classes": 3, "class_names": ("background", "cell", "leaf"), "category_ids": (0, 1, 2)}
    compare(None, coco, **model)
    for changed in ({"class_names": ("background", "leaf", "cell")}, {"category_ids": (0, 2, 1)}):
        with pytest.raises(InputError, match="the classes that the run began with"):
            compare(None, coco, accept_changed=True, **{**model, **changed})


def test_a_run_is_resumed_with_its_own_data(tmp_path, eager):
    run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS)
    longer = run.resumed_settings(tmp_path / "run", epochs=2)
    other = {**DATASETS, "train": Subset(SCENES, 2)}
    with pytest.raises(InputError, match=r"Received: 2 images of train instead of 4$"):
        run.train(longer, out=tmp_path / "run", resume=True, datasets=other)
    assert run.resumed_settings(tmp_path / "run").train.epochs == 1  # the refused call changed nothing
    run.train(longer, out=tmp_path / "run", resume=True, datasets=other, accept_changed_data=True)
    state = StateFolder(tmp_path / "run/state").read()
    assert (state.epochs_done, state.data["train"].images) == (2, 2)
    assert RunState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
