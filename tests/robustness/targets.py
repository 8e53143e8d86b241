"""What is damaged and what reads it: one row of `TARGETS` for each kind of file."""

import argparse
import dataclasses
import functools
import io
import json
import pathlib
import pickle
import random
import sys
import tarfile
import tempfile
import types
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from mutation import Mutate, damage_bytes, damage_json, dump, mutate_bytes, mutate_json
from PIL import Image

from rsis_tf.errors import InputError

HERE = pathlib.Path(__file__).resolve().parent
EARLIER = HERE.parent / "earlier" / "files.tar.xz"
OUTSIDE = HERE.parent / "outside"
REFUSALS = (InputError,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of file.

    Attributes:
        make: writes a whole artefact into an empty folder.
        mutate: damages it.
        read: reads it; what it returns is compared if `exact`.
        exact: whether a damaged file must give the answer of the whole one, or be refused.
        share: of the cases of an attack.
        quick: cases in the test suite.
    """

    make: Callable[[pathlib.Path], None]
    mutate: Mutate
    read: Callable[[pathlib.Path], Any]
    exact: bool = False
    share: float = 1.0
    quick: int = 25
    refusals: tuple[type[Exception], ...] = REFUSALS

    def same(self, answer: Any, expected: Any) -> bool:
        """Returns whether two answers are equal."""
        return len(answer) == len(expected) and all(
            np.array_equal(ours, theirs) for ours, theirs in zip(answer, expected, strict=True)
        )


def _noise(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _labels(height: int = 24, width: int = 32) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[2:10, 3:12], labels[12:20, 15:28] = 1, 2
    return labels


# Images


def _make_images(folder: pathlib.Path) -> None:
    image = Image.fromarray(_noise())
    for suffix in ("png", "jpg", "tif", "webp", "bmp", "gif"):
        image.save(folder / f"image.{suffix}")
    Image.fromarray(_labels()).save(folder / "labels.png")


def _read_images(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.images import read_header, read_image, read_label_image

    refused = None
    for path in sorted(folder.glob("image.*")):
        try:
            read_header(path)
            read_image(path)
        except InputError as error:
            refused = error
    read_label_image(folder / "labels.png")
    if refused:
        raise refused
    return []


# Datasets


def _make_coco(folder: pathlib.Path) -> None:
    import pycocotools.mask as mask_api

    (folder / "val").mkdir()
    images, annotations = [], []
    for number in range(3):
        Image.fromarray(_noise(seed=number)).save(folder / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 24, "width": 32})
        square = [2.0, 2.0, 14.0, 2.0, 14.0, 16.0, 2.0, 16.0]
        rle = {"size": [24, 32], "counts": [480, 24, 264]}
        encoded = mask_api.encode(np.asfortranarray(_labels() == 2))
        compressed = {"size": [24, 32], "counts": encoded["counts"].decode("ascii")}
        for index, segmentation in enumerate(([square], rle, compressed)):
            annotations.append(
                {
                    "id": 10 * number + index,
                    "image_id": number,
                    "category_id": 1 + index % 2,
                    "iscrowd": int(index > 0),
                    "area": 100.0,
                    "bbox": [2, 2, 12, 14],
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": 1, "name": "cell", "supercategory": "thing"}, {"id": 2, "name": "leaf"}]
    text = json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val.json").write_text(text, encoding="utf-8")


def _read_dataset(folder: pathlib.Path, *, dataset: str, split: str = "val") -> list[Any]:
    from rsis_tf.config import DataConfig
    from rsis_tf.data import load_dataset

    opened = load_dataset(DataConfig(dataset=dataset, root=str(folder)), split)
    return [opened[index].label_map for index in range(len(opened))]


def _check_coco(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.config import DataConfig
    from rsis_tf.data import load_dataset
    from rsis_tf.data.check import check, table
    from rsis_tf.data.preflight import check_evaluation
    from rsis_tf.errors import printable

    config = DataConfig(dataset="coco", root=str(folder))
    text = table(check(config, ["val"]))
    if printable(text.replace("\n", "")) != text.replace("\n", ""):
        raise AssertionError("the report of rsis check holds control characters")
    check_evaluation("val", load_dataset(config, "val"), num_steps=4)
    return []


def _make_cvppp(folder: pathlib.Path) -> None:
    for number in range(2):
        Image.fromarray(_noise(seed=number)).save(folder / f"plant{number:03}_rgb.png")
        Image.fromarray(_labels()).save(folder / f"plant{number:03}_label.png")


def _make_voc(folder: pathlib.Path) -> None:
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (folder / name).mkdir()
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text(f"{split}_0\n{split}_1\n", encoding="utf-8")
        for number in range(2):
            name = f"{split}_{number}"
            Image.fromarray(_noise(seed=number)).save(folder / "JPEGImages" / f"{name}.jpg")
            for kind in ("SegmentationObject", "SegmentationClass"):
                image = Image.fromarray(_labels())
                image.putpalette(bytes(range(256)) * 3)
                image.save(folder / kind / f"{name}.png")


def _make_folder(folder: pathlib.Path) -> None:
    for kind in ("images", "labels"):
        (folder / "val" / kind).mkdir(parents=True)
    for number, suffix in enumerate(("png", "jpg", "tif")):
        Image.fromarray(_noise(seed=number)).save(folder / "val" / "images" / f"{number}.{suffix}")
        ids = _labels().astype(np.uint16) * 1000
        Image.fromarray(ids).save(folder / "val" / "labels" / f"{number}.png")
    (folder / "classes.txt").write_text("cell\nleaf\n", encoding="utf-8")


def _make_cityscapes(folder: pathlib.Path) -> None:
    images, truth = folder / "leftImg8bit" / "val" / "ulm", folder / "gtFine" / "val" / "ulm"
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    for number in range(2):
        name = f"ulm_{number:06}_000019"
        Image.fromarray(_noise(seed=number)).save(images / f"{name}_leftImg8bit.png")
        Image.fromarray((_labels().astype(np.uint16) + 25) * 1000).save(truth / f"{name}_gtFine_instanceIds.png")


OUTSIDE_NAMES = (
    "../../../outside",
    "/absolute",
    "..",
    "a/../../../../b",
    "..\\outside",
    "x" * 300,
    "\x1b[31mred",
    "two\nlines",
    "bad\x00name",
    "\ud800",
    "\u202egnp.exe",
)
"""Names and ids that lead outside, that no file can have, or that a terminal would obey."""


def _damage_coco(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages values as `damage_json` does, or writes what is meant to exhaust time or memory, or to lead outside."""
    if rng.random() < 0.6:
        damage_json("*.json")(rng, folder)
        return
    path = next(folder.rglob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    image, annotation = rng.choice(content["images"]), rng.choice(content["annotations"])
    many = rng.choice(("1", "1.5,2", "0,0,31,23"))
    match rng.choice(("points", "far", "counts", "runs", "rings", "names", "ids", "size", "deep", "class")):
        case "points":
            annotation["segmentation"] = [["many"]]
        case "far":
            far = rng.choice((1e8, -1e8, 1e6, 2**31, 2**63, 1e300, 60, -30))
            annotation["segmentation"] = [[0, 0, far, 0, far, rng.choice((far, 10)), 0, 10]]
        case "counts":
            text = rng.choice("~oP0@\x7f1n") * rng.choice((10, 10**4, 10**6))
            annotation["segmentation"] = {"size": [24, 32], "counts": rng.choice(("", "PP0")) + text}
        case "runs":
            runs = [rng.choice((0, 1, 768, 2**31, -1, 0.5))] * rng.choice((1, 768, 10**6))
            annotation["segmentation"] = {"size": [24, 32], "counts": runs}
        case "rings":
            ring = rng.choice(([], [1, 1, 2, 1, 2, 2], [0, 0, 31, 0, 31, 23, 0, 23]))
            annotation["segmentation"] = [ring] * rng.choice((100, 5000, 300_000))
        case "names":
            image["file_name"] = rng.choice(OUTSIDE_NAMES)
        case "ids":
            annotation["image_id"] = image["id"] = rng.choice(OUTSIDE_NAMES)
        case "size":
            image["height"] = annotation["segmentation"] = rng.choice((10**6, 10**9, 24.0, 1e6))
        case "deep":
            for _ in range(rng.choice((100, 900, 100_000))):
                many = f"[{many}]"
            annotation["segmentation"] = [["many"]]
        case "class":
            rng.choice(content["categories"])["name"] = rng.choice(OUTSIDE_NAMES)
    # The longest text takes seconds to write and to read, so it is rare.
    text = dump(content)
    if not many.startswith("["):
        many = ",".join([many] * rng.choices((10, 1000, 10**5, 10**7), (10, 10, 10, 0.3))[0])
    path.write_bytes(text.replace('"many"', many).encode("utf-8", "surrogatepass"))


def _damage_ids(rng: random.Random, folder: pathlib.Path) -> None:
    """Gives an image and its annotations a random text of `OUTSIDE_NAMES` as id, or damages the file otherwise."""
    if rng.random() < 0.5:
        _damage_coco(rng, folder)
        return
    path = next(folder.rglob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    old, new = rng.choice(content["images"])["id"], rng.choice(OUTSIDE_NAMES) + rng.choice(("", "1"))
    for entry in content["images"]:
        entry["id"] = new if entry["id"] == old else entry["id"]
    for entry in content["annotations"]:
        entry["image_id"] = new if entry["image_id"] == old else entry["image_id"]
    path.write_bytes(dump(content).encode("utf-8", "surrogatepass"))


def _write_leaves(folder: pathlib.Path) -> list[Any]:
    """Names files after the ids of images, as `rsis leaves` does."""
    from rsis_tf.config import DataConfig
    from rsis_tf.data import load_dataset
    from rsis_tf.evaluation.benchmarks.leaves_submission import SubmissionFolder

    opened = load_dataset(DataConfig(dataset="coco", root=str(folder)), "val")
    write = SubmissionFolder(folder / "submission")
    for index in range(len(opened)):
        write(opened[index], [])
    return []


def _damage_lists(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages an annotation or a list of names, or adds a name that leads outside to a list."""
    if rng.random() < 0.7:
        damage_bytes("*.mat", "*.txt")(rng, folder)
        return
    path = rng.choice(sorted(folder.rglob("*.txt")))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(OUTSIDE_NAMES))
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def _make_sbd(folder: pathlib.Path) -> None:
    import scipy.io

    _make_voc(folder / "VOC2012")
    sbd = folder / "sbd"
    (sbd / "inst").mkdir(parents=True)
    (sbd / "img").mkdir()
    for split in ("train", "val"):
        (sbd / f"{split}.txt").write_text(f"sbd_{split}\n", encoding="utf-8")
        content = {"Segmentation": _labels(), "Categories": np.array([[3], [7]], np.uint8)}
        scipy.io.savemat(sbd / "inst" / f"sbd_{split}.mat", {"GTinst": content}, do_compression=split == "train")
        Image.fromarray(_noise()).save(sbd / "img" / f"sbd_{split}.jpg")


def _read_sbd(folder: pathlib.Path) -> list[Any]:
    import shutil

    from rsis_tf.data.readers.sbd import merge

    out = folder / "merged"
    try:
        merge(voc_root=folder / "VOC2012", sbd_root=folder / "sbd", out=out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return []


# Runs and models


def _earlier(folder: pathlib.Path, *members: str) -> None:
    with tarfile.open(EARLIER) as archive:
        for info in archive.getmembers():
            name = info.name.removeprefix("./")
            if name == "images.npy" or any(name == member or name.startswith(member + "/") for member in members):
                archive.extract(info, folder, filter="data")


def _read_config(folder: pathlib.Path) -> list[Any]:
    """Reads the settings as a run that continues, and writes what was read: it must be readable again."""
    from rsis_tf.config import RunConfig
    from rsis_tf.config.json_file import load, write
    from rsis_tf.run import resumed_settings

    settings = resumed_settings(folder, epochs=3)
    write(settings, folder / "again.json")
    if load(RunConfig, folder / "again.json") != settings:
        raise AssertionError("other settings after writing and reading")
    return []


def _make_config(folder: pathlib.Path) -> None:
    """The settings of the run in the archive, in an earlier format."""
    with tarfile.open(EARLIER) as archive:
        content = archive.extractfile("./voting/config.json")
        assert content is not None
        (folder / "config.json").write_bytes(content.read())


def _make_config_today(folder: pathlib.Path) -> None:
    from rsis_tf.config.json_file import write
    from rsis_tf.config.presets import cvppp

    write(cvppp().changed(root="photos", rotation=3.0, ema=0.9, patience_stop=20), folder / "config.json")


def _make_state(folder: pathlib.Path) -> None:
    """A state of an earlier version, and one with all that is recorded today."""
    with tarfile.open(EARLIER) as archive:
        content = archive.extractfile("./voting/state/state.json")
        assert content is not None
        earlier = json.loads(content.read())
    files = {"names": "00", "sizes": "11", "times": "22"}
    split = {"class_names": ["background", "cell"], "category_ids": ["0", "7"], "images": 3}
    split |= {"image_files": files, "annotation_files": files}
    entry = {"epoch": 2, "num_steps": 3, "class_loss": True, "stop_loss": False, "encoder": True}
    state = {
        "epochs_done": 4,
        "stage": {"num_steps": 3, "use_class_loss": True, "best_loss": None, "waited": 1, "smoothed_loss": 0.5},
        "stages": [{**entry, "epoch": 1}, {**entry, "switch": "steps", "reason": "patience"}],
        "arrays": "epoch-4.npz",
        "best_arrays": "epoch-2.npz",
        "data": {"train": split, "val": {**split, "annotation_files": None}},
    }
    for name, content in (("earlier", earlier), ("today", {"format": 1, "state": state})):
        (folder / name).mkdir()
        (folder / name / "state.json").write_text(json.dumps(content), encoding="utf-8")


def _read_state(folder: pathlib.Path) -> list[Any]:
    """Reads the states as a training does that continues: their records are compared with those of other datasets."""
    from rsis_tf.config import ModelConfig
    from rsis_tf.data.readers.synthetic import SyntheticDataset
    from rsis_tf.training.data_record import recorded, require_same_data
    from rsis_tf.training.state import RunState, StateFolder

    scenes = SyntheticDataset(size=(32, 32), length=2, seed=0, max_objects=1)
    now = recorded({"train": scenes, "val": scenes})
    for name in ("earlier", "today"):
        state = StateFolder(folder / name).read()
        if state is None:
            raise AssertionError("no state")
        if str(RunState.from_dict(json.loads(json.dumps(state.to_dict())))) != str(state):  # NaN differs from itself
            raise AssertionError("another state after writing and reading")
        try:
            require_same_data(state.data, now, model=ModelConfig(), ids=())
        except InputError as error:
            if "\n" in str(error):
                raise
    return []


def _make_state_arrays(folder: pathlib.Path) -> None:
    arrays = {f"{number:05}": np.arange(number + 1, dtype=np.float32) for number in range(4)}
    np.savez(folder / "epoch-1.npz", **arrays)
    np.savez_compressed(folder / "epoch-2.npz", **arrays)


def _read_state_arrays(folder: pathlib.Path) -> list[Any]:
    """Reads arrays into variables that are no model's."""
    import keras

    from rsis_tf.training import state

    variables = [keras.Variable(np.zeros(number + 1, np.float32)) for number in range(4)]
    model = types.SimpleNamespace(variables=variables, weights=variables, optimizer=types.SimpleNamespace(variables=[]))
    for name in ("epoch-1.npz", "epoch-2.npz"):
        state.StateFolder(folder).load_arrays(model, name)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _make_log(folder: pathlib.Path) -> None:
    rows = ["epoch,loss,mask_loss,val_loss,seconds", "1,3.5,1.25,4,0.71", "2,3,1,nan,0.5", "3,2.5,,3.5,0.5"]
    (folder / "log.csv").write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")


def _read_log(folder: pathlib.Path) -> list[Any]:
    """Reads the log as a training does that continues, adds a row, and reads the columns for the curves."""
    from rsis_tf.training.callbacks import CsvLog
    from rsis_tf.visualization.curves import panels, read_log

    log = CsvLog(folder / "log.csv", epochs_done=2)
    log.append(2, {"loss": 2.0, "mask_loss": 1.0, "val_loss": 3.0}, 0.5)
    panels(list(read_log(folder / "log.csv")))
    return []


def _damage_log(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the bytes, or replaces cells."""
    path = folder / "log.csv"
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        return
    cells = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(cells)
        values = (
            "",
            "nan",
            "-1",
            "1e999",
            "9" * 5000,
            '"',
            "\x00",
            "x" * 200_000,
            "\x1b[31m",
            "epoch",
            "٣",
            "1,1",
            "0x1",
        )
        row[rng.randrange(len(row))] = rng.choice(values)
    path.write_text("\n".join(",".join(row) for row in cells) + "\n", encoding="utf-8")


def _make_arguments(folder: pathlib.Path) -> None:
    (folder / "args.pkl").write_bytes((OUTSIDE / "args-python2.pkl").read_bytes())


def _read_arguments(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.models.pytorch.checkpoint import read_arguments
    from rsis_tf.models.pytorch.convert import config_from_arguments

    config_from_arguments(read_arguments(folder / "args.pkl"))
    return []


def _shared_lists() -> list[Any]:
    """Returns 60 lists, each of which holds the next one twice: 2⁶⁰ ways to the last one."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


def _recursive_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def _pickled_values(rng: random.Random) -> Any:
    """Returns a value for an argument that JSON does not have."""
    makers: tuple[Callable[[], Any], ...] = (
        _shared_lists,
        _recursive_list,
        lambda: {1, 2},
        lambda: b"\x1b[31m" * 1000,
        lambda: {(1, (2,)): "x", None: 1},
        lambda: pathlib.PurePosixPath("/etc"),
        lambda: np.float32("nan"),
        lambda: np.arange(3),
        lambda: range,
        lambda: "x" * 100_000,
        lambda: 1 << 4000,
        lambda: -(10**4999),
        lambda: 3 + 4j,
        lambda: argparse.Namespace(hidden_size=16),
    )
    return rng.choice(makers)()


def _dumped(rng: random.Random, value: Any) -> bytes:
    """Returns a pickle; protocol 0 writes integers of any length as digits."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return pickle.dumps(value, protocol=rng.randrange(6))
    except UnicodeEncodeError:  # lone surrogates
        return pickle.dumps(None)
    finally:
        sys.set_int_max_str_digits(limit)


_OPCODES = (
    *(b"(", b")", b".", b"0", b"1", b"2", b"N", b"R", b"b", b"a", b"e", b"s", b"u", b"t", b"l", b"d", b"o", b"]", b"}"),
    *(b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x93", b"\x94", b"Q", b"\x97"),
    *(b"q\x00", b"h\x00", b"h\x01", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\xff", b"p9999999999999999999\n", b"g0\n"),
    *(b"X\xff\xff\xff\xff", b"T\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x8d" + b"\x7f" * 8, b"\x95" + b"\xff" * 8),
    *(b"cargparse\nNamespace\n", b"cos\nsystem\n", b"c\x1b[31m\nx\n", b"iposix\nsystem\n", b"cbuiltins\neval\n"),
    *(b"S'a\\n\x1b'\n", b"V\\ud800\n", b"I" + b"9" * 5000 + b"\n", b"Fnan\n", b"\x8a\xff" + b"\x7f" * 255, b"\x82\x01"),
    *(b"(lq\x00" + b"h\x00h\x00\x86" * 50, b"]" * 3000 + b"a" * 2999, b"h\x00h\x00b" * 200, b"\x8b\xff\xff\xff\x7f"),
)
"""Parts of pickles that were written to harm: calls, shared and nested values, lengths beyond the file, wrong names."""


def _insert_opcodes(rng: random.Random, content: bytes) -> bytes:
    for _ in range(1 + int(rng.expovariate(0.5))):
        place = rng.randrange(len(content) + 1)
        content = content[:place] + b"".join(rng.choices(_OPCODES, k=rng.randint(1, 6))) + content[place:]
    return content


def _damage_pickle(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the bytes, adds opcodes, or writes a namespace of damaged values."""
    path = folder / "args.pkl"
    kind = rng.random()
    if kind < 0.4:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        return
    if kind < 0.65:
        path.write_bytes(_insert_opcodes(rng, path.read_bytes()))
        return
    from rsis_tf.models.pytorch.checkpoint import read_arguments

    values = mutate_json(rng, dict(read_arguments(path)))
    names = (
        "hidden_size",
        "num_classes",
        "base_model",
        "dropout",
        "imsize",
        "dataset",
        "bad\n\x1b[31mname",
        "x" * 5000,
    )
    for _ in range(rng.choice((0, 1, 1, 2))):
        values[rng.choice(names)] = _pickled_values(rng)
    path.write_bytes(_dumped(rng, argparse.Namespace(**values)))


def _make_weights(folder: pathlib.Path) -> None:
    from legacy_torch import parameter, state_bytes, tar_bytes

    for name in ("torch-2.13-zip.pth", "torch-2.13-legacy.pth"):
        (folder / name).write_bytes((OUTSIDE / name).read_bytes())
    state = {"a.weight": np.arange(24, dtype="f4").reshape(2, 3, 4), "a.bias": np.ones(3, "f4")}
    (folder / "torch-0.2.pth").write_bytes(state_bytes(state, wrap=parameter))
    (folder / "torch-2016.pth").write_bytes(tar_bytes(state))


def _damage_weights(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the bytes of a file, or adds opcodes to its pickles; those in a zip get the right checksum again."""
    path = rng.choice(sorted(folder.glob("*.pth")))
    kind = rng.random()
    if kind < 0.5:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
    elif "zip" not in path.name:
        path.write_bytes(_insert_opcodes(rng, path.read_bytes()))
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice([name for name in members if name.endswith("data.pkl")] * 3 + sorted(members))
        change = rng.choice((mutate_bytes, _insert_opcodes))
        members[name] = change(rng, members[name])
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)


def _read_weights(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.models.pytorch.checkpoint import read_state

    refused = None
    for path in sorted(folder.glob("*.pth")):
        try:
            for array in read_state(path).values():
                np.sum(array == array)  # touches every number
        except InputError as error:
            refused = error
    if refused:
        raise refused
    return []


def _read_keras(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.inference import open_model

    images = list(np.load(folder / "images.npy"))
    return [instance.mask for instances in open_model(folder / "voting").batch(images) for instance in instances]


def _damage_hdf5(rng: random.Random, content: bytes) -> bytes:
    """Damages a file of weights as another program could write it: values, shapes, types, links."""
    import h5py

    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = rng.choice(names)
        shape = file[name].shape
        kind = rng.randrange(8)
        if kind == 0 and file[name].size:
            values = file[name][()]
            values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, 1e30, -1e38))
            file[name][...] = values
            return stream.getvalue()
        if kind == 1:
            del file[rng.choice((name, name.rpartition("/")[0], name.split("/")[0]))]
            return stream.getvalue()
        del file[name]
        if kind == 2:
            file[name] = rng.choice((h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/decoder")))
        elif kind == 3:
            file[name] = rng.choice([file["/"], *(file[other] for other in names if other != name)])
        elif kind == 4:
            file[name] = np.zeros(rng.choice(((), (1,), (*shape, 1), shape[::-1], (2, 0), (1,) * 32)), "f4")
        elif kind == 5:
            file[name] = np.zeros(shape, rng.choice(("f2", "f8", "i8", "c8", "S3", "?", "V2")))
        elif kind == 6:
            file.create_dataset(name, rng.choice((shape, (1 << 20, 1 << 20), (1 << 40,))), "f4", chunks=True)
        else:
            file.create_dataset(name, shape or (1,), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    return stream.getvalue()


def _damage_keras(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages one member of the file, whose checksum is right: settings as JSON, weights as bytes or as HDF5."""
    path = folder / "voting" / "best.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(("config.json", "config.json", "model.weights.h5", "model.weights.h5", "metadata.json"))
    if name.endswith(".json") and rng.random() < 0.8:
        members[name] = dump(mutate_json(rng, json.loads(members[name]))).encode("utf-8", "surrogatepass")
    elif name.endswith(".h5") and rng.random() < 0.5:
        members[name] = _damage_hdf5(rng, members[name])
    elif name.endswith(".h5") and rng.random() < 0.7:  # the layout is at the begin and between the weights
        content = members[name]
        place = rng.choice((0, rng.randrange(len(content))))
        end = min(len(content), place + rng.choice((512, 4096, 20_000)))
        members[name] = content[:place] + mutate_bytes(rng, content[place:end]) + content[end:]
    else:
        members[name] = mutate_bytes(rng, members[name])
    if rng.random() < 0.1:
        members[rng.choice(("assets/x", "../x", "config.json2", "model.weights.npz"))] = b" " * rng.choice((1, 1 << 26))
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


# Exported files


def _read_export(folder: pathlib.Path, *, name: str) -> list[Any]:
    from rsis_tf.inference import open_model

    images = list(np.load(folder / "images.npy"))
    return [instance.mask for instances in open_model(folder / name).batch(images) for instance in instances]


def _read_runtime(folder: pathlib.Path, *, name: str) -> list[Any]:
    from rsis_tf.runtime import Predictor

    images = list(np.load(folder / "images.npy"))
    return [instance.mask for instances in Predictor(folder / name).batch(images) for instance in instances]


def _damage_metadata(rng: random.Random, folder: pathlib.Path, *, pattern: str) -> None:
    """Damages the metadata inside an ONNX file; the file itself is whole, so no checksum is beside it."""
    import onnx

    path = rng.choice(sorted(folder.rglob(pattern)))
    model = onnx.load(path)
    values = {prop.key: prop.value for prop in model.metadata_props}
    key = rng.choice(sorted(values))
    if rng.random() < 0.15:
        values.pop(key)
    else:
        try:
            values[key] = dump(mutate_json(rng, [json.loads(values[key])]))[1:-1]
        except ValueError:
            values[key] = rng.choice(("", "null", "{", "x" * 100_000, "\x1b[0m"))
    del model.metadata_props[:]
    for name, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value.encode("utf-8", "replace").decode("utf-8")
    path.write_bytes(model.SerializeToString())
    for sidecar in folder.rglob("*.json"):
        sidecar.unlink()


def _damage_graph(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the graph as another program could write it: names, shapes and types of inputs and outputs, a weight."""
    import onnx
    from onnx import numpy_helper

    path = rng.choice(sorted(folder.rglob("*.onnx")))
    model = onnx.load(path)
    kind = rng.choice(("name", "axis", "remove", "type", "weight", "weight"))
    if kind == "weight":
        # Small constants belong to operators: an infinite scale of Resize ends the process inside ONNX Runtime 1.32.
        floats = [entry for entry in model.graph.initializer if entry.data_type == onnx.TensorProto.FLOAT]
        weight = rng.choice([entry for entry in floats if np.prod(entry.dims) >= 8])
        values = numpy_helper.to_array(weight).copy()
        values.flat[rng.randrange(values.size)] = rng.choice((float("nan"), float("inf"), -float("inf"), 1e30))
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    else:
        values = rng.choice((model.graph.input, model.graph.output))
        value = rng.choice(values)
        axes = value.type.tensor_type.shape.dim
        if kind == "name":
            value.name = rng.choice(("x", "next_", value.name + "\x1b[31m", "masks", "image", ""))
        elif kind == "axis" and axes:
            axis = rng.choice(axes)
            axis.dim_value = rng.choice((1, 0, 2, 7, 64, 10**6, 2**40, -1))
        elif kind == "type":
            value.type.tensor_type.elem_type = rng.choice((1, 2, 6, 7, 9, 10, 11))
        else:
            values.remove(value)
    path.write_bytes(model.SerializeToString())
    for sidecar in folder.rglob("*.json"):
        sidecar.unlink()


def _export(path: str, *, exact: bool, mutate: Mutate, share: float = 1.0, runtime: bool = True) -> Target:
    def make(folder: pathlib.Path) -> None:
        from rsis_tf.runtime import checksums

        _earlier(folder, path, path + ".json")
        side = folder / f"{path}.json"  # of an earlier version, which wrote no checksum
        described = json.loads(side.read_text(encoding="utf-8")) | {"sha256": checksums(folder / path)}
        side.write_text(json.dumps(described, indent=2), encoding="utf-8")

    read = functools.partial(_read_runtime if runtime else _read_export, name=path)
    return Target(make=make, mutate=mutate, read=read, exact=exact, share=share, quick=15)


# Videos


def _make_video(folder: pathlib.Path) -> None:
    import av

    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(8):
            for packet in stream.encode(av.VideoFrame.from_ndarray(_noise(seed=number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _read_video(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.batch_prediction.video import count_frames, read_frames

    count_frames(folder / "clip.mp4")
    for _ in read_frames(folder / "clip.mp4"):
        pass
    return []


# Folders for `rsis predict`

_NAMES = (
    *("x" * 240, "é" * 120, "line\nbreak", "\x1b[2J", "\udcff\udcfe", "a\\b", "-", "*", "[a]", 'a,b"c', ".", " ", "\r"),
    *("http:", "results", "counts", "instances", "0_labels", "\u202e", "%s", "{}"),
)
_PREDICTED_KINDS = ("labels", "json", "counts")


class _Brightness:
    """Finds what is brighter than 100, without a network."""

    class_names = ("background", "bright\x1b[31m")
    category_ids = ()

    def stream(self, images: Any) -> Any:
        from rsis_tf.runtime import Instance

        for image in images:
            mask = image[..., 0] > 100
            probs = np.array([0, 1], np.float32)
            found = Instance(
                mask=mask,
                class_id=1,
                class_name=self.class_names[1],
                score=1.0,
                step=0,
                objectness=1.0,
                class_probs=probs,
            )
            yield [found] if mask.any() else []


def _make_photos(folder: pathlib.Path) -> None:
    photos = folder / "photos"
    (photos / "below").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(_noise(seed=number)).save(photos / f"whole{number}.png")
    for name in ("0.png", "1.jpg", "below/2.png", "below/3.gif"):
        Image.fromarray(_noise()).save(photos / name)
    _make_video(photos)


def _damage_photos(rng: random.Random, folder: pathlib.Path) -> None:
    """Renames, damages or replaces one to four files of a folder; those named whole… stay as they are."""
    import os

    for _ in range(rng.randrange(1, 5)):
        files = [path for path in (folder / "photos").rglob("*") if not path.name.startswith("whole")]
        if not files:
            return
        path = rng.choice(sorted(files))
        kind = rng.choice(("rename", "rename", "bytes", "loop", "dangling", "pipe", "folder", "parent"))
        other = path.parent / (rng.choice(_NAMES) + rng.choice((path.suffix, ".png", ".mp4", ".txt", "..")))
        if kind == "rename":
            if not os.path.lexists(other) and len(os.fsencode(other.name)) < 256:
                path.rename(other)
        elif kind == "bytes":
            if path.is_file():
                path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        elif path.is_dir() and not path.is_symlink():
            continue
        else:
            path.unlink()
            if kind == "pipe":
                os.mkfifo(path)
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to({"loop": path.name, "dangling": "nowhere", "parent": ".."}[kind])


def _read_photos(folder: pathlib.Path) -> list[Any]:
    """Predicts the folder as a folder, as a pattern, or file by file; the whole images must be in `counts.csv`."""
    import contextlib
    import io

    from rsis_tf.batch_prediction import predict_paths
    from rsis_tf.runtime import printable

    photos = folder / "photos"
    each = [photos / "whole0.png", *sorted(photos.iterdir()), "http://127.0.0.1:9/a.mp4"]
    for asked in ([photos], [f"{photos}/**"], [f"{photos}/**/*.*", photos / "whole1.png"], each):
        screen = io.StringIO()
        with tempfile.TemporaryDirectory() as place:
            out = pathlib.Path(place) / "out"
            with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                predict_paths(_Brightness(), asked, out=out, kinds=_PREDICTED_KINDS)
            counts = (out / "counts.csv").read_bytes()
            json.loads((out / "instances.json").read_bytes())
        for name in ("whole0.png,1,1", "whole1.png,1,1"):
            if name.encode() not in counts:
                raise RuntimeError(f"{name} is missing")
        if any(line != printable(line) for line in screen.getvalue().split("\n")):
            raise RuntimeError("control characters on the terminal")
    return []


TARGETS: dict[str, Target] = {
    "images": Target(make=_make_images, mutate=damage_bytes("image.*", "labels.png"), read=_read_images, share=4),
    "coco": Target(
        make=_make_coco,
        mutate=_damage_coco,
        read=functools.partial(_read_dataset, dataset="coco"),
        share=4,
        quick=60,
    ),
    "coco check": Target(make=_make_coco, mutate=_damage_coco, read=_check_coco, share=2, quick=40),
    "coco names": Target(make=_make_coco, mutate=_damage_ids, read=_write_leaves),
    "cvppp": Target(
        make=_make_cvppp, mutate=damage_bytes("*.png"), read=functools.partial(_read_dataset, dataset="cvppp")
    ),
    "voc": Target(make=_make_voc, mutate=damage_bytes("*.*"), read=functools.partial(_read_dataset, dataset="voc")),
    "sbd": Target(make=_make_sbd, mutate=_damage_lists, read=_read_sbd),
    "folder": Target(
        make=_make_folder, mutate=damage_bytes("*.*"), read=functools.partial(_read_dataset, dataset="folder")
    ),
    "cityscapes": Target(
        make=_make_cityscapes, mutate=damage_bytes("*.*"), read=functools.partial(_read_dataset, dataset="cityscapes")
    ),
    "config.json": Target(make=_make_config, mutate=damage_json("config.json"), read=_read_config, share=2, quick=60),
    "config.json of today": Target(
        make=_make_config_today, mutate=damage_json("config.json"), read=_read_config, share=2, quick=60
    ),
    "state.json": Target(make=_make_state, mutate=damage_json("state.json"), read=_read_state, share=2, quick=60),
    "state arrays": Target(make=_make_state_arrays, mutate=damage_bytes("*.npz"), read=_read_state_arrays, exact=True),
    "log.csv": Target(make=_make_log, mutate=_damage_log, read=_read_log, quick=60),
    "args.pkl": Target(make=_make_arguments, mutate=_damage_pickle, read=_read_arguments, share=2, quick=60),
    "PyTorch weights": Target(make=_make_weights, mutate=_damage_weights, read=_read_weights, share=1.5),
    ".keras": Target(
        make=lambda folder: _earlier(folder, "voting/best.keras"),
        mutate=_damage_keras,
        read=_read_keras,
        share=0.6,
        quick=8,
    ),
    ".keras bytes": Target(
        make=lambda folder: _earlier(folder, "voting/best.keras"),
        mutate=damage_bytes("best.keras"),
        read=_read_keras,
        exact=True,
        share=0.4,
        quick=5,
    ),
    "ONNX bytes": _export("exports/voting/unrolled.onnx", exact=True, mutate=damage_bytes("*.onnx")),
    "ONNX metadata": _export(
        "exports/voting/unrolled.onnx",
        exact=False,
        mutate=functools.partial(_damage_metadata, pattern="unrolled.onnx"),
        share=1.5,
    ),
    "ONNX stepwise metadata": _export(
        "exports/voting/stepwise", exact=False, mutate=functools.partial(_damage_metadata, pattern="*.onnx"), share=0.5
    ),
    "ONNX sidecar": _export("exports/paper/loop.onnx", exact=True, mutate=damage_json("loop.onnx.json"), share=0.5),
    "ONNX stepwise bytes": _export("exports/voting/stepwise", exact=True, mutate=damage_bytes("*.onnx"), share=0.5),
    "ONNX graph": _export("exports/paper/unrolled.onnx", exact=False, mutate=_damage_graph, share=0.5),
    "ONNX stepwise graph": _export("exports/voting/stepwise", exact=False, mutate=_damage_graph, share=0.5),
    "SavedModel bytes": _export(
        "exports/voting/saved_model",
        exact=True,
        mutate=damage_bytes("saved_model.pb", "variables.*"),
        share=0.3,
        runtime=False,
    ),
    "SavedModel sidecar": _export(
        "exports/voting/saved_model", exact=False, mutate=damage_json("saved_model.json"), share=0.3, runtime=False
    ),
    "TFLite bytes": _export(
        "exports/voting/model.tflite", exact=True, mutate=damage_bytes("*.tflite"), share=0.7, runtime=False
    ),
    "TFLite sidecar": _export(
        "exports/voting/model.tflite", exact=False, mutate=damage_json("*.tflite.json"), runtime=False
    ),
    "predict": Target(make=_make_photos, mutate=_damage_photos, read=_read_photos),
    "video": Target(make=_make_video, mutate=damage_bytes("*.mp4"), read=_read_video, share=0.7, quick=15),
}
