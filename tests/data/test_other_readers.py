"""Cityscapes, CVPPP and folders of images and label maps."""

import pathlib

import numpy as np
import pytest
from dataset_files import noise, save

from rsis_tf.data.readers.cityscapes import CityscapesDataset
from rsis_tf.data.readers.cvppp import CvpppDataset
from rsis_tf.data.readers.folder import FolderDataset
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError


def write_city(root: pathlib.Path, split: str, city: str, frame: str, ids: list[list[int]] | None) -> None:
    name = f"{city}_{frame}"
    shape = np.shape(ids) if ids is not None else (2, 3)
    save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", noise(*shape))
    if ids is not None:
        save(root / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png", np.array(ids, np.uint16))


def test_cityscapes_instances_groups_and_ignored_labels(tmp_path):
    # road, person 0, person 1, car 0; ego vehicle, group of cars, caravan 0, bicycle 12; trailer group, building, train
    ids = [[7, 24000, 24001, 26000], [1, 26, 29000, 33012], [30, 11, 31000, 31000]]
    write_city(tmp_path, "train", "aachen", "000000_000019", ids)
    dataset = CityscapesDataset(tmp_path, "train")
    sample = dataset[0]
    names = [dataset.class_names[number] for number in sample.classes]
    assert names == ["person", "person", "car", "train", "bicycle"]
    assert sample.classes.tolist() == [1, 1, 3, 6, 8]
    assert sample.label_map.tolist() == [[0, 1, 2, 3], [VOID, VOID, 0, 5], [VOID, 0, 4, 4]]
    assert sample.image_id == "aachen_000000_000019"


def test_cityscapes_images_are_sorted_by_city_and_name(tmp_path):
    for city, frame in (("ulm", "000000_000001"), ("bonn", "000002_000001"), ("bonn", "000001_000001")):
        write_city(tmp_path, "val", city, frame, [[7, 26001, 26000]])
    dataset = CityscapesDataset(tmp_path, "val")
    assert [dataset[index].image_id for index in range(3)] == [
        "bonn_000001_000001",
        "bonn_000002_000001",
        "ulm_000000_000001",
    ]


def test_cityscapes_test_images_are_void(tmp_path):
    write_city(tmp_path, "test", "berlin", "000000_000001", None)
    sample = CityscapesDataset(tmp_path, "test")[0]
    assert np.all(sample.label_map == VOID)
    assert sample.classes.shape == (0,)


def test_missing_files_of_cityscapes_are_named(tmp_path):
    with pytest.raises(InputError, match="leftImg8bit/train"):
        CityscapesDataset(tmp_path, "train")
    write_city(tmp_path, "train", "bonn", "1_1", [[7]])
    write_city(tmp_path, "train", "bonn", "2_2", None)
    with pytest.raises(InputError, match=r"bonn_2_2_gtFine_instanceIds\.png \(no such file; 1 missing"):
        CityscapesDataset(tmp_path, "train")
    (tmp_path / "leftImg8bit" / "val").mkdir()
    with pytest.raises(InputError, match=r"none in .*leftImg8bit/val"):
        CityscapesDataset(tmp_path, "val")


def write_plants(folder: pathlib.Path, count: int, labels: bool = True) -> None:
    for number in range(1, count + 1):
        alpha = np.full((3, 4, 1), 255, np.uint8)
        save(folder / f"plant{number:03}_rgb.png", np.concatenate([noise(3, 4, seed=number), alpha], -1))
        if labels:
            leaves = np.array([[0, 5, 5, 9], [0, 5, 9, 9], [0, 0, 0, number + 20]], np.uint8)
            save(folder / f"plant{number:03}_label.png", leaves, palette=True)


def plants(dataset: CvpppDataset) -> list[int]:
    return [int(dataset[index].image_id.removeprefix("plant")) for index in range(len(dataset))]


def test_cvppp_leaves(tmp_path):
    write_plants(tmp_path, 4)
    sample = CvpppDataset(tmp_path, "train")[2]
    assert sample.image_id == "plant003"
    np.testing.assert_array_equal(sample.image, noise(3, 4, seed=3))
    assert sample.label_map.tolist() == [[0, 1, 1, 2], [0, 1, 2, 2], [0, 0, 0, 3]]
    assert sample.classes.tolist() == [1, 1, 1]
    assert CvpppDataset.class_names == ("background", "leaf")


def test_cvppp_a1_is_split_into_96_and_32(tmp_path):
    write_plants(tmp_path / "A1", 128)
    assert plants(CvpppDataset(tmp_path / "A1", "train")) == list(range(1, 97))
    assert plants(CvpppDataset(tmp_path, "val")) == list(range(97, 129))


def test_every_plant_is_in_one_validation_fold_of_cvppp(tmp_path):
    write_plants(tmp_path, 10)
    seen = []
    for fold in range(3):
        val = plants(CvpppDataset(tmp_path, "val", fold=fold, num_folds=3))
        train = plants(CvpppDataset(tmp_path, "train", fold=fold, num_folds=3))
        assert sorted(train + val) == list(range(1, 11))
        seen += val
    assert sorted(seen) == list(range(1, 11))
    with pytest.raises(InputError, match="fold=3"):
        CvpppDataset(tmp_path, "val", fold=3, num_folds=3)


def test_cvppp_archive_layout_and_subsets(tmp_path):
    write_plants(tmp_path / "training" / "A1", 4)
    write_plants(tmp_path / "training" / "A4", 8)
    write_plants(tmp_path / "testing" / "A1", 3, labels=False)
    assert len(CvpppDataset(tmp_path, "train")) == 3
    assert len(CvpppDataset(tmp_path, "train", subset="A4")) == 6
    test = CvpppDataset(tmp_path, "test")
    assert len(test) == 3
    assert np.all(test[0].label_map == VOID)
    assert len(CvpppDataset(tmp_path / "testing" / "A1", "test")) == 3


def test_cvppp_training_images_are_not_read_as_test_images(tmp_path):
    write_plants(tmp_path, 4)
    with pytest.raises(InputError, match="without labels"):
        CvpppDataset(tmp_path, "test")


def test_missing_files_of_cvppp_are_named(tmp_path):
    with pytest.raises(InputError, match=r"_rgb\.png.*none"):
        CvpppDataset(tmp_path, "train")
    write_plants(tmp_path, 4)
    (tmp_path / "plant002_label.png").unlink()
    with pytest.raises(InputError, match=r"plant002_label\.png \(no such file"):
        CvpppDataset(tmp_path, "train")


def write_pair(root: pathlib.Path, name: str, ids: list[list[int]], *, nested: bool = True) -> None:
    images, labels = ("train/images", "train/labels") if nested else ("images/train", "labels/train")
    save(root / images / f"{name}.jpg", noise(*np.shape(ids)))
    save(root / labels / f"{name}.png", np.array(ids, np.uint16))


@pytest.mark.parametrize("nested", [True, False])
def test_folder_of_one_class(tmp_path, nested):
    write_pair(tmp_path, "b", [[0, 300, 300], [2, 2, 2]], nested=nested)
    write_pair(tmp_path, "a", [[0, 0, 0]], nested=nested)
    dataset = FolderDataset(tmp_path, "train")
    assert dataset.class_names == ("background", "object")
    assert [dataset[index].image_id for index in (0, 1)] == ["a", "b"]
    assert dataset[0].classes.shape == (0,)
    assert dataset[1].label_map.tolist() == [[0, 2, 2], [1, 1, 1]]
    assert dataset[1].classes.tolist() == [1, 1]


def test_folder_with_classes(tmp_path):
    (tmp_path / "classes.txt").write_text("cell\nfibre\n\n")
    write_pair(tmp_path, "a", [[0, 1000, 1001, 2007, 1, 255]])
    dataset = FolderDataset(tmp_path, "train")
    assert dataset.class_names == ("background", "cell", "fibre")
    assert dataset[0].label_map.tolist() == [[0, 1, 2, 3, VOID, VOID]]
    assert dataset[0].classes.tolist() == [1, 1, 2]
    write_pair(tmp_path, "a", [[0, 3000]])
    with pytest.raises(InputError, match=r"3000 in .*a\.png"):
        dataset[0]


@pytest.mark.parametrize("names", ["cup\ncup\n", "cup\nbackground\n"])
def test_classes_of_a_folder_have_different_names(tmp_path, names):
    (tmp_path / "classes.txt").write_text(names)
    write_pair(tmp_path, "a", [[0, 1000]])
    with pytest.raises(InputError, match=rf"different name for every class.*'{names.split()[-1]}' in .*classes\.txt"):
        FolderDataset(tmp_path, "train")


def test_missing_files_of_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="train/images"):
        FolderDataset(tmp_path, "train")
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match="train/labels"):
        FolderDataset(tmp_path, "train")
    (tmp_path / "train" / "labels").mkdir()
    with pytest.raises(InputError, match="none in"):
        FolderDataset(tmp_path, "train")
    write_pair(tmp_path, "a", [[1]])
    save(tmp_path / "train" / "labels" / "b.png", np.ones((1, 1), np.uint8))
    with pytest.raises(InputError, match=r"images/b\.png \(no such file"):
        FolderDataset(tmp_path, "train")
    save(tmp_path / "train" / "images" / "b.png", noise(1, 1))
    save(tmp_path / "train" / "images" / "c.png", noise(1, 1))
    with pytest.raises(InputError, match=r"labels/c\.png \(no such file"):
        FolderDataset(tmp_path, "train")
    save(tmp_path / "train" / "images" / "a.bmp", noise(1, 1))
    with pytest.raises(InputError, match=r"a\.bmp and a\.jpg"):
        FolderDataset(tmp_path, "train")
