"""Wrong annotations are refused by the reader and listed by `rsis check`, with file and id."""

import json
import subprocess
import sys

import label_tools as tools
import numpy as np
import pytest
from PIL import Image

from rsis_tf.cli.check import main
from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.errors import InputError

FILE = "annotations/instances_train.json"


@pytest.fixture
def export(tmp_path):
    return tools.cvat(tmp_path, ("train",), count=2)


def edit(root, change):
    tools.change(root / FILE, change)


def with_ring(ring):
    return lambda content: content["annotations"][1].update(segmentation=[ring])


def read_all(root):
    dataset = load_dataset(DataConfig(dataset="coco", root=str(root)), "train")
    return [dataset[index] for index in range(len(dataset))]


def problems(root, capsys):
    """Returns the exit code of `rsis check` and the problems that it lists."""
    code = main(["--dataset", "coco", "--data", str(root), "--json", str(root / "report.json")])
    capsys.readouterr()
    (report,) = json.loads((root / "report.json").read_text(encoding="utf-8")).values()
    return code, report["problems"]


def test_annotation_ids_that_begin_anew_with_every_image_are_a_remark(export, capsys):
    def renumber(content):
        for position, annotation in enumerate(content["annotations"]):
            annotation["id"] = 1 + position % 2

    edit(export, renumber)
    assert [len(sample.classes) for sample in read_all(export)] == [2, 2]
    code, (line,) = problems(export, capsys)
    assert code == 1
    assert "a different id for every annotation. Received: id 1 in image 1 and again in image 2 of" in line
    assert str(export / FILE) in line
    assert "(2 annotations have the id of an earlier one)" in line


@pytest.mark.parametrize(
    ("ring", "received"),
    [
        ([1, 1, float("nan"), 1, 9, 9], "nan"),
        ([1, 1, float("inf"), 1, 9, 9], "inf"),
        ([1, 1, 9, float("-inf"), 9, 9], "-inf"),
        ([1, 1, 1e12, 1, 9, 9], "1e+12"),
        ([1, 1, 9, -4e9, 9, 9], "-4e+09"),
        ([1, 1, 10**400, 1, 9, 9], "1000000"),
        ([1, 1, True, 1, 9, 9], "something else"),
        ([1, 1, "9", 1, 9, 9], "something else"),
        ([0, 0, 48, 32] * 2000, "4000 points"),
        ([0, 0, 48, 32] * 400, "pixels in annotation"),
        ([1e8, 0, 1e8, 1e8, 0, 1e8], "1e+08"),
        ([1.5] * 4_000_000, "2000000 points"),
    ],
)
def test_coordinates_that_would_exhaust_memory_are_refused(export, ring, received):
    """Runs in a separate process with little memory, because without the check the process would be killed."""
    edit(export, with_ring(ring))
    program = (
        "import resource, sys\n"
        "from rsis_tf.config import DataConfig\n"
        "from rsis_tf.data import load_dataset\n"
        "from rsis_tf.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "dataset = load_dataset(DataConfig(dataset='coco', root=sys.argv[1]), 'train')\n"
        "for read in (lambda: dataset[0], lambda: dataset.inspect(0)):\n"
        "    try:\n"
        "        read()\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(export)], capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert received in line
        assert f"annotation 2 of {export / FILE}" in line


def test_the_check_lists_them_too(export, capsys):
    edit(export, with_ring([1, 1, float("nan"), 1, 9, 9]))
    code, lines = problems(export, capsys)
    assert code == 1
    assert len(lines) == 1
    assert "nan" in lines[0]
    assert f"annotation 2 of {export / FILE}" in lines[0]


@pytest.mark.parametrize("ring", [[-40, 5, 12, 5, 12, 15], [30, -3.5, 47.6, -3.5, 51, 40.2, 30, 33]])
def test_polygons_are_cut_off_at_the_border_of_the_image(export, ring):
    edit(export, with_ring(ring))
    assert read_all(export)[0].classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    "segmentation", [[[0, 0, 47, 0, 47, 31, 0, 31]] * 200, [[1, 1, 2, 1, 2, 2]] * 300_000, [[]] * 300_000]
)
def test_many_polygons_of_one_object_are_refused(export, segmentation):
    edit(export, lambda content: content["annotations"][1].update(segmentation=segmentation))
    with pytest.raises(InputError, match=r"annotation 2 of"):
        read_all(export)


@pytest.mark.parametrize(
    "counts",
    [
        "0" * 50 + "~" * 100_000,
        "o" * 1_000_000,
        "0" * 1_000_000,
        "\udcff\ud800",
        [1e300, -1e300],
        [float("nan")],
        [0.5] * 3072,
        [0] * 1_000_000 + [1536],
        [10**4000],
    ],
)
def test_invalid_run_lengths_are_refused(export, counts):
    edit(export, lambda c: c["annotations"][1].update(segmentation={"size": [32, 48], "counts": counts}))
    with pytest.raises(InputError, match=r"run lengths that sum to 1536.*annotation 2 of"):
        read_all(export)


DEFECTS = {
    "two points": (with_ring([1, 1, 9, 9]), ["at least 3 points", "one of 2", "annotation 2 of"]),
    "outside": (with_ring([60, 5, 70, 5, 70, 15]), ["outside", "annotation 2 of"]),
    "hidden": (
        lambda c: c["annotations"].append({**c["annotations"][1], "id": 77, "image_id": 1}),
        ["others hide completely", "annotation 2 of"],
    ),
    "category id": (
        lambda c: c["categories"].append({"id": 2, "name": "cell again"}),
        ["different id for every category", "id 2 for 'debris' and again for 'cell again'"],
    ),
    "category name": (
        lambda c: c["categories"].append({"id": 3, "name": "cell"}),
        ["different name for every category", "'cell' for id 1 and again for id 3"],
    ),
    "image id": (
        lambda c: c["images"].append({**c["images"][0], "file_name": "train_2.png"}),
        ["different id for every image", "id 1 for 'train_1.png' and again for 'train_2.png'"],
    ),
    "image twice": (
        lambda c: c["images"].append({**c["images"][0], "id": 9}),
        ["every file once", "train_1.png for image 1 and again for image 9"],
    ),
    "crowd text": (lambda c: c["annotations"][1].update(iscrowd="0"), ["0 or 1 as iscrowd", "'0'", "annotation 2 of"]),
    "unknown image": (lambda c: c["annotations"][1].update(image_id=99), ["image_id", "99", "annotation 2 of"]),
    "unknown category": (lambda c: c["annotations"][1].update(category_id=99), ["category_id", "annotation 2 of"]),
    "no size": (lambda c: c["images"][0].update(width=None), ["height and width", "None", "image 1 of"]),
    "huge size": (lambda c: c["images"][0].update(width=1e30), ["height and width", "1e+30", "image 1 of"]),
    "list as id": (lambda c: c["images"][0].update(id=[1]), ["a number or text as id", "[1]"]),
    "number as name": (lambda c: c["images"][0].update(file_name=3), ["a file name", "image 1 of"]),
    "no file name": (lambda c: c["images"][0].update(file_name=" "), ["a file name", "image 1 of"]),
    "entry of text": (lambda c: c["annotations"].append("text"), ["every entry of 'annotations'", "'text' as entry"]),
    "no image id": (lambda c: c["annotations"][1].pop("image_id"), ["no image_id in entry 1 of 'annotations'"]),
    "list as class": (lambda c: c["categories"][0].update(name=["a"]), ["a name for every", "['a'] in category 1 of"]),
    "control characters": (
        lambda c: c["categories"][0].update(name="\x1b[31mred"),
        ["without control characters", r"\x1b[31mred", "for category 1 of"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_the_check_lists_each_defect_with_file_and_id(export, capsys, name):
    change, words = DEFECTS[name]
    assert problems(export, capsys) == (0, [])
    edit(export, change)
    code, lines = problems(export, capsys)
    assert code == 1
    for word in (*words, str(export / FILE)):
        assert any(word in line for line in lines), (word, lines)


def test_all_defects_of_a_file_are_listed_at_once(export, capsys):
    for name in ("two points", "category name", "image id"):
        edit(export, DEFECTS[name][0])
    edit(export, lambda c: c["annotations"][2].update(iscrowd="0"))
    edit(export, lambda c: c["annotations"][3].update(segmentation=[[60, 5, 70, 5, 70, 15]]))
    _, lines = problems(export, capsys)
    assert len(lines) == 5
    assert all(str(export / FILE) in line for line in lines)


@pytest.mark.parametrize("name", ["category id", "category name", "image id", "crowd text", "no size", "list as id"])
def test_the_reader_refuses_entries_that_would_be_misread(export, name):
    edit(export, DEFECTS[name][0])
    with pytest.raises(InputError, match=r"instances_train\.json") as caught:
        read_all(export)
    assert "\n" not in str(caught.value)


def test_a_contact_sheet_shows_images_with_their_objects(export, capsys):
    path = export / "sheet.png"
    assert main(["--dataset", "coco", "--data", str(export), "--sheet", str(path)]) == 0
    assert f"{path}: 2 images" in capsys.readouterr().out
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[0] > 288
    assert sheet.shape[1] > 2 * 288
    from rsis_tf.visualization import colour

    for step in (0, 1):  # the outlines of both objects
        assert (sheet == colour(step)).all(axis=-1).sum() > 100
    with pytest.raises(SystemExit) as caught:
        main(["--dataset", "coco", "--data", str(export), "--sheet", str(export / "no/sheet.png")])
    assert caught.value.code == 2


def test_numbers_of_thousands_of_digits_are_refused(export):
    text = (export / FILE).read_text(encoding="utf-8").replace('"image_id": 1', f'"image_id": {"9" * 5000}', 1)
    (export / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"instances_train\.json \(a number with more than 4300 digits\)"):
        read_all(export)
    edit_text = text.replace("9" * 5000, "9" * 4000)
    (export / FILE).write_text(edit_text, encoding="utf-8")
    with pytest.raises(InputError, match=r"image_id of a listed image.*annotation 1 of") as caught:
        read_all(export)
    assert len(str(caught.value)) < 400


def test_values_nested_a_hundred_thousand_deep_are_refused(export):
    text = (export / FILE).read_text(encoding="utf-8")
    for depth in (500, 100_000):
        nested = "[" * depth + "]" * depth
        (export / FILE).write_text(text.replace('"image_id": 1', f'"image_id": {nested}', 1), encoding="utf-8")
        with pytest.raises(InputError, match=r"instances_train\.json") as caught:
            read_all(export)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("absolute", [False, True])
def test_an_image_outside_is_read_and_reported(export, capsys, absolute):
    inside = next((export / "images").rglob("*_1.png"))
    outside = export.parent / "outside.png"
    inside.rename(outside)
    name = str(outside) if absolute else "../../../outside.png"
    edit(export, lambda content: content["images"][0].update(file_name=name))
    assert len(read_all(export)) == 2
    _, lines = problems(export, capsys)
    assert len(lines) == 1
    assert "which leads outside (1 such names in" in lines[0]
    assert "outside.png" in lines[0]
    outside.unlink()


def test_a_name_with_dots_that_stays_inside_is_not_reported(export, capsys):
    name = next((export / "images").rglob("*_1.png")).relative_to(export / "images")
    edit(export, lambda content: content["images"][0].update(file_name=f"../images/{name}"))
    assert problems(export, capsys) == (0, [])
    edit(export, lambda content: content["images"][0].update(file_name=str(export.resolve() / "images" / name)))
    assert problems(export, capsys) == (0, [])


@pytest.mark.parametrize("name", ["\x1b[31mred", "two\nlines", "\ud800", "\u202egnp"])
def test_control_characters_reach_neither_terminal_nor_class_names(export, capsys, name):
    def change(content):
        content["categories"][0]["name"] = name
        content["images"][1]["file_name"] = f"{name}.png"

    edit(export, change)
    (export / "images" / "train" / "extra\x1b[31m.png").write_bytes(b"")
    main(["--dataset", "coco", "--data", str(export), "--json", str(export / "report.json")])
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))
    assert "\\u" in printed.out or "\\x" in printed.out or "\\n" in printed.out
    dataset = load_dataset(DataConfig(dataset="coco", root=str(export)), "train", check=False)
    assert all(name.isprintable() for name in dataset.class_names)
