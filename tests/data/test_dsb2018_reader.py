"""The Data Science Bowl's layout, as its download has it: RGBA images, and a mask of 0 and 255 per nucleus."""

import pathlib

import numpy as np
import pytest
from dataset_files import noise, save

from rsis_tf.cli.main import main
from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.check import check
from rsis_tf.data.paths import MissingSplitError, UnsplitError
from rsis_tf.data.readers.dsb2018 import Dsb2018Dataset
from rsis_tf.errors import InputError

NAMES = [f"{number:x}" * 64 for number in range(5)]
"""Ids of 64 hexadecimal digits."""


def write_nuclei(folder: pathlib.Path, name: str, masks: list[np.ndarray], size: tuple[int, int] = (6, 8)) -> None:
    alpha = np.full((*size, 1), 255, np.uint8)
    save(folder / name / "images" / f"{name}.png", np.concatenate([noise(*size, seed=int(name[0], 16)), alpha], -1))
    (folder / name / "masks").mkdir()
    for number, mask in enumerate(masks):
        save(folder / name / "masks" / f"{number:064x}.png", np.where(mask, 255, 0).astype(np.uint8))


def box(rows: slice, columns: slice, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def bowl(tmp_path):
    for name in NAMES:
        write_nuclei(tmp_path / "stage1_train", name, [box(slice(0, 2), slice(0, 3)), box(slice(3, 6), slice(4, 8))])
    return tmp_path


def test_masks_become_numbered_objects_and_the_smaller_one_is_on_top(tmp_path):
    large, small = box(slice(0, 4), slice(0, 5)), box(slice(3, 6), slice(4, 7))
    write_nuclei(tmp_path, NAMES[0], [small, large])
    sample = Dsb2018Dataset(tmp_path, "all")[0]
    assert sample.image.shape == (6, 8, 3)
    assert sample.image_id == NAMES[0]
    assert sample.classes.tolist() == [1, 1]
    assert np.array_equal(sample.label_map == 1, small)
    assert np.array_equal(sample.label_map == 2, large & ~small)


def test_an_image_without_masks_has_no_objects(tmp_path):
    write_nuclei(tmp_path, NAMES[0], [])
    sample = Dsb2018Dataset(tmp_path, "all")[0]
    assert sample.classes.shape == (0,)
    assert np.all(sample.label_map == 0)


def test_lists_of_names_make_splits(bowl):
    for split, names in (("train", NAMES[2:]), ("val", NAMES[:2])):
        (bowl / f"{split}.txt").write_text("\r\n".join(reversed(names)), encoding="utf-8-sig")
    opened = {split: Dsb2018Dataset(bowl, split).names for split in ("train", "val", "all")}
    assert opened == {"train": NAMES[2:], "val": NAMES[:2], "all": NAMES}
    with pytest.raises(MissingSplitError, match=r"'test' in .*test\.txt"):
        Dsb2018Dataset(bowl, "test")
    with pytest.raises(InputError, match=r"no files with names. Received: --val-share 0.2 beside .*train\.txt"):
        Dsb2018Dataset(bowl, "val", val_share=0.2)
    (bowl / "val.txt").write_text("../elsewhere\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"Received: '\.\./elsewhere' in .*val\.txt"):
        Dsb2018Dataset(bowl, "val")


def test_a_share_divides_images_without_lists(bowl):
    divided = {
        split: load_dataset(DataConfig(dataset="dsb2018", root=str(bowl), val_share=0.4), split).names
        for split in ("train", "val")
    }
    assert len(divided["val"]) == 2
    assert sorted(divided["train"] + divided["val"]) == NAMES
    with pytest.raises(UnsplitError, match=r"--val-share 0\.2"):
        Dsb2018Dataset(bowl, "train")
    with pytest.raises(InputError, match="--val-share is for --dataset coco, dsb2018 and yolo"):
        load_dataset(DataConfig(dataset="folder", root=str(bowl), val_share=0.2), "train")


def test_the_check_counts_everything_and_names_bad_masks(tmp_path):
    whole = box(slice(0, 6), slice(0, 8))
    write_nuclei(tmp_path, NAMES[0], [whole, box(slice(0, 0), slice(0, 0)), box(slice(1, 3), slice(1, 3))])
    write_nuclei(tmp_path, NAMES[1], [whole[:5]])
    report = check(DataConfig(dataset="dsb2018", root=str(tmp_path)))["all"]
    assert report.content.images == 2
    assert report.content.objects == 2
    empty, size = report.problems
    assert empty == f"expected a mask with pixels. Received: an empty one, {tmp_path / NAMES[0]}/masks/{1:064x}.png"
    assert size.startswith("expected 8x6 pixels as in the image. Received: 8x5 in ")


def test_a_hidden_object_is_named(tmp_path):
    same = box(slice(1, 3), slice(1, 3))
    write_nuclei(tmp_path, NAMES[0], [same, same])
    dataset = Dsb2018Dataset(tmp_path, "all")
    assert [line.partition("Received: ")[2] for line in dataset.findings(0)] == [
        f"one that others hide completely, {tmp_path / NAMES[0]}/masks/{0:064x}.png"
    ]
    assert dataset.inspect(0).objects == len(dataset[0].classes) == 1


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(InputError, match="expected folders NAME/images and NAME/masks"):
        Dsb2018Dataset(tmp_path, "all")
    write_nuclei(tmp_path, NAMES[0], [])
    (tmp_path / NAMES[0] / "masks").rmdir()
    with pytest.raises(InputError, match=r"expected a folder of masks.*/masks$"):
        Dsb2018Dataset(tmp_path, "all")
    save(tmp_path / NAMES[0] / "images" / "second.png", noise())
    with pytest.raises(InputError, match=r"expected one image .* Received: 2 images"):
        Dsb2018Dataset(tmp_path, "all")


def test_the_command_line_says_how_to_divide(bowl, capsys):
    main(["check", "--dataset", "dsb2018", "--data", str(bowl)])
    assert "objects                   10" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "shapes", "--dataset", "dsb2018", "--data", str(bowl)])
    assert end.value.code == 2
    assert "--val-share 0.2" in capsys.readouterr().err.splitlines()[-1]
