"""Pascal VOC and its merge with SBD."""

import pathlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from dataset_files import noise, save
from PIL import Image

from rsis_tf.cli.sbd import main
from rsis_tf.data.readers import sbd
from rsis_tf.data.readers.voc import VocDataset
from rsis_tf.data.sample import VOID
from rsis_tf.errors import InputError

CAT, DOG, PERSON = 8, 12, 15


def write_voc(root: pathlib.Path, splits: dict[str, list[str]], labels: dict[str, tuple] | None = None) -> None:
    """Writes VOC's layout; unless labels are given, an image has a cat of 6 pixels and a dog of 2, and void between."""
    for split, names in splits.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            objects = np.array([[1, 1, 255, 2, 0, 0], [1, 1, 255, 2, 0, 0], [1, 1, 255, 0, 0, 0], [0] * 6], np.uint8)
            classes = np.select([objects == 1, objects == 2, objects == 255], [CAT, DOG, 255]).astype(np.uint8)
            objects, classes = (labels or {}).get(name, (objects, classes))
            # PNG files under the official name, so that pixels can be compared exactly.
            save(root / "JPEGImages" / f"{name}.png", noise(*objects.shape, seed=len(name)))
            (root / "JPEGImages" / f"{name}.png").rename(root / "JPEGImages" / f"{name}.jpg")
            save(root / "SegmentationObject" / f"{name}.png", objects, palette=True)
            save(root / "SegmentationClass" / f"{name}.png", classes, palette=True)


def write_sbd(root: pathlib.Path, splits: dict[str, list[str]], objects: np.ndarray, categories: list[int]) -> None:
    """Writes SBD's layout: a struct GTinst per image, with sparse boundaries that the merge does not need."""
    for split, names in splits.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            boundaries = np.empty((len(categories), 1), object)
            for row in range(len(categories)):
                boundaries[row, 0] = scipy.sparse.csc_array(objects.shape, dtype=np.uint8)
            content = {
                "Segmentation": objects,
                "Categories": np.array(categories, np.uint8)[:, None],
                "Boundaries": boundaries,
            }
            (root / "inst").mkdir(exist_ok=True)
            scipy.io.savemat(root / "inst" / f"{name}.mat", {"GTinst": content})
            save(root / "img" / f"{name}.png", noise(*objects.shape))
            (root / "img" / f"{name}.png").rename(root / "img" / f"{name}.jpg")


def read_list(root: pathlib.Path, split: str) -> list[str]:
    return (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def test_objects_classes_and_void(tmp_path):
    write_voc(tmp_path, {"train": ["2007_000032"]})
    dataset = VocDataset(tmp_path, "train")
    sample = dataset[0]
    assert len(dataset) == 1
    assert len(dataset.class_names) == 21
    assert [dataset.class_names[number] for number in sample.classes] == ["cat", "dog"]
    assert [(sample.label_map == value).sum() for value in (1, 2, VOID, 0)] == [6, 2, 3, 13]
    np.testing.assert_array_equal(sample.image, noise(4, 6, seed=11))
    assert sample.image_id == "2007_000032"


def test_the_class_of_an_object_is_that_of_most_of_its_pixels(tmp_path):
    objects = np.array([[3, 3, 3, 3, 0]], np.uint8)
    classes = np.array([[PERSON, PERSON, DOG, 255, 255]], np.uint8)
    write_voc(tmp_path, {"val": ["a"]}, {"a": (objects, classes)})
    sample = VocDataset(tmp_path, "val")[0]
    assert sample.classes.tolist() == [PERSON]
    assert sample.label_map.tolist() == [[1, 1, 1, 1, VOID]]


@pytest.mark.parametrize("place", [".", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_folder_is_found(tmp_path, place):
    write_voc(tmp_path / place, {"train": ["a", "b"]})
    assert [VocDataset(tmp_path, "train")[index].image_id for index in (0, 1)] == ["a", "b"]


def test_missing_and_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match="ImageSets"):
        VocDataset(tmp_path, "train")
    no_class = np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    write_voc(tmp_path, {"train": ["a", "b"], "val": ["c"]}, {"c": no_class})
    with pytest.raises(InputError, match=r"test\.txt"):
        VocDataset(tmp_path, "test")
    with pytest.raises(InputError, match=r"object 1 .*c\.png"):
        VocDataset(tmp_path, "val")[0]
    save(tmp_path / "SegmentationClass" / "a.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"6x4.*9x9.*a\.png"):
        VocDataset(tmp_path, "train")[0]
    (tmp_path / "SegmentationObject" / "b.png").unlink()
    with pytest.raises(InputError, match=r"SegmentationObject/b\.png \(no such file; 1 missing"):
        VocDataset(tmp_path, "train")
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    with pytest.raises(InputError, match=r"none in .*train\.txt"):
        VocDataset(tmp_path, "train")


@pytest.fixture
def both(tmp_path) -> pathlib.Path:
    """VOC with 4 training and 3 validation images; SBD with 30 images of 25 people, 3 of which VOC has, too."""
    write_voc(tmp_path / "VOC2012", {"train": list("abcd"), "val": list("xyz")})
    people = np.repeat(np.arange(26, dtype=np.uint8)[None], 2, 0)  # a column each, the first is background
    names = [f"s{number:02}" for number in range(27)]
    write_sbd(tmp_path / "sbd", {"train": [*names[:15], "a", "x"], "val": [*names[15:], "b"]}, people, [PERSON] * 25)
    return tmp_path


def test_the_merge_is_the_union_without_vocs_validation_set(both):
    sizes = sbd.merge(voc_root=both / "VOC2012", sbd_root=both / "sbd", out=both / "plus")
    train, val, test = (read_list(both / "plus", split) for split in ("train", "val", "test"))
    assert sizes == {"train": 28, "val": 3, "test": 3}
    assert [len(train), len(val)] == [28, 3]
    assert sorted(train + val) == sorted([*"abcd", *(f"s{number:02}" for number in range(27))])
    assert test == ["x", "y", "z"]


def test_merged_images_are_read_as_voc_and_may_have_more_than_twenty_objects(both):
    main(["--voc", str(both), "--sbd", str(both / "sbd"), "--out", str(both / "plus"), "--val-share", "0.5"])
    samples = {}
    for split in ("train", "val", "test"):
        dataset = VocDataset(both / "plus", split)
        samples |= {dataset[index].image_id: dataset[index] for index in range(len(dataset))}
    assert len(samples) == 34
    assert samples["s05"].classes.tolist() == [PERSON] * 25
    assert samples["s05"].label_map.tolist() == [list(range(26))] * 2
    assert samples["a"].classes.tolist() == [CAT, DOG]  # both annotate it: VOC's annotation is used
    assert (both / "plus" / "JPEGImages" / "s05.jpg").is_symlink()
    colours = Image.open(both / "plus" / "SegmentationClass" / "s05.png").convert("RGB")
    assert colours.getpixel((1, 0)) == (192, 128, 128)  # VOC's colour of a person


def test_links_are_valid_after_all_folders_are_moved_together(both):
    sbd.merge(voc_root=both / "VOC2012", sbd_root=both / "sbd", out=both / "plus")
    both.rename(both.parent / "elsewhere")
    assert len(VocDataset(both.parent / "elsewhere" / "plus", "train")) == 28


def test_the_split_depends_only_on_names_and_seed(both, tmp_path):
    splits = []
    for number, seed in enumerate((0, 0, 1)):
        out = both / f"plus{number}"
        sbd.merge(voc_root=both / "VOC2012", sbd_root=both / "sbd", out=out, val_share=0.5, seed=seed)
        splits.append(read_list(out, "val"))
    assert splits[0] == splits[1] != splits[2]


def test_a_failed_merge_leaves_nothing_behind(both, capsys):
    (both / "sbd" / "inst" / "s26.mat").write_bytes(b"MATLAB 5.0")
    before = sorted(both.iterdir())
    arguments = ["--voc", str(both / "VOC2012"), "--sbd", str(both / "sbd"), "--out", str(both / "plus")]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "s26.mat" in error
    assert sorted(both.iterdir()) == before
    (both / "sbd" / "inst" / "s26.mat").unlink()
    with pytest.raises(SystemExit):
        main(arguments)
    assert "s26.mat (no such file" in capsys.readouterr().err
    (both / "plus").mkdir()
    with pytest.raises(SystemExit):
        main(arguments)
    assert "does not exist yet" in capsys.readouterr().err


def test_annotations_in_another_format_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"GTcls": 1})
    with pytest.raises(InputError, match=r"GTinst.*a\.mat"):
        sbd.read_annotation(tmp_path / "a.mat")
    objects = np.array([[0, 1, 2]], np.uint8)
    write_sbd(tmp_path / "short", {"train": ["a"]}, objects, [PERSON])
    with pytest.raises(InputError, match="objects 0 … 2 of 1 categories"):
        sbd.read_annotation(tmp_path / "short" / "inst" / "a.mat")
    write_sbd(tmp_path / "class", {"train": ["a"]}, objects, [PERSON, 21])
    with pytest.raises(InputError, match="21"):
        sbd.read_annotation(tmp_path / "class" / "inst" / "a.mat")


def test_broken_annotations_are_refused_wherever_they_are_broken(tmp_path):
    objects = np.array([[0, 1, 2]], np.uint8)
    write_sbd(tmp_path, {"train": ["a"]}, objects, [CAT, PERSON])
    path = tmp_path / "inst" / "a.mat"
    whole = path.read_bytes()
    read_objects, read_classes = sbd.read_annotation(path)
    np.testing.assert_array_equal(read_objects, objects)
    np.testing.assert_array_equal(read_classes, [[0, CAT, PERSON]])
    for size in (0, 3, 100, 130, 200, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"GTinst.*a\.mat"):
            sbd.read_annotation(path)
    damaged = bytearray(whole)
    damaged[140:160] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.mat"):
        sbd.read_annotation(path)


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "a/../../escaped", "x" * 300, "bad\0name"])
@pytest.mark.parametrize("file", ["VOC2012/ImageSets/Segmentation/train.txt", "sbd/val.txt"])
def test_a_listed_name_that_leads_outside_is_refused_before_anything_is_written(both, name, file):
    (both / file).write_text(f"{name}\n")
    # The file that the name leads to is there and correct, so nothing but the name is wrong.
    annotation = (both / "sbd" / "inst" / "s00.mat").read_bytes()
    (both.parent / "escaped.mat").write_bytes(annotation)
    before = sorted(both.rglob("*")), sorted(both.parent.iterdir())
    with pytest.raises(InputError, match="expected the name of a file inside"):
        sbd.merge(voc_root=both / "VOC2012", sbd_root=both / "sbd", out=both / "plus")
    assert (sorted(both.rglob("*")), sorted(both.parent.iterdir())) == before


def test_listed_names_may_have_a_folder(both):
    for path in ("JPEGImages/a.jpg", "SegmentationObject/a.png", "SegmentationClass/a.png"):
        target = both / "VOC2012" / path
        (target.parent / "own").mkdir()
        target.rename(target.parent / "own" / target.name)
    (both / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt").write_text("own/a\nb\nc\nd\n")
    sbd.merge(voc_root=both / "VOC2012", sbd_root=both / "sbd", out=both / "plus")
    dataset = VocDataset(both / "plus", "train")
    assert dataset[dataset.names.index("own/a")].image.shape[2] == 3
    assert dataset.remarks == []


def test_the_reader_remarks_on_names_that_lead_outside(both):
    (both / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt").write_text("../../elsewhere/a\nb\n")
    (remark,) = VocDataset(both / "VOC2012", "train", check=False).remarks
    assert "'../../elsewhere/a', which leads outside (1 such names in" in remark


@pytest.mark.parametrize(
    "content",
    [
        {"Segmentation": np.array([[0.5, 1.0]]), "Categories": np.array([[3]])},
        {"Segmentation": np.array([[np.nan, 1.0]]), "Categories": np.array([[3]])},
        {"Segmentation": np.array([[0, -1]], np.int8), "Categories": np.array([[3]])},
        {"Segmentation": np.array([[0, 1]]), "Categories": np.array([[np.nan]])},
        {"Segmentation": np.array([[0, 1]]), "Categories": np.array([[3 + 1j]])},
        {"Segmentation": "text", "Categories": np.array([[3]])},
        {"Segmentation": np.array([[0, 1]])},
        {"Segmentation": scipy.sparse.csc_array([[0, 1]]), "Categories": np.array([[3]])},
        {"Segmentation": np.zeros((2, 2, 2), np.uint8), "Categories": np.array([[3]])},
        np.zeros(3),
        "text",
    ],
)
def test_annotations_of_other_types_are_refused(tmp_path, content):
    scipy.io.savemat(tmp_path / "a.mat", {"GTinst": content})
    with pytest.raises(InputError, match=r"a\.mat"):
        sbd.read_annotation(tmp_path / "a.mat")


def test_whole_numbers_may_be_stored_as_floating_point(tmp_path):
    content = {"Segmentation": np.array([[0.0, 1.0]]), "Categories": np.array([[3.0]])}
    scipy.io.savemat(tmp_path / "a.mat", {"GTinst": content})
    objects, classes = sbd.read_annotation(tmp_path / "a.mat")
    assert (objects.tolist(), classes.tolist()) == ([[0, 1]], [[0, 3]])
    assert (objects.dtype, classes.dtype) == (np.uint8, np.uint8)
