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
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from mutation import Mutate, damage_bytes, damage_json, dump, mutate_bytes, mutate_json
from PIL import Image

from rsis_tf.errors import InputError
from rsis_tf.runtime import RuntimeInputError

HERE = pathlib.Path(__file__).resolve().parent
EARLIER = HERE.parent / "earlier" / "files.tar.xz"
OUTSIDE = HERE.parent / "outside"
REFUSALS = (InputError, RuntimeInputError)


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
    from rsis_tf.data.preflight import check_evaluation

    opened = load_dataset(DataConfig(dataset="coco", root=str(folder)), "val")
    check_evaluation("val", opened, num_steps=4)
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
    from rsis_tf.config import RunConfig
    from rsis_tf.config.json_file import load

    load(RunConfig, next(folder.rglob("config.json")))
    return []


def _make_config(folder: pathlib.Path) -> None:
    with tarfile.open(EARLIER) as archive:
        content = archive.extractfile("./voting/config.json")
        assert content is not None
        (folder / "config.json").write_bytes(content.read())


def _make_state(folder: pathlib.Path) -> None:
    with tarfile.open(EARLIER) as archive:
        content = archive.extractfile("./voting/state/state.json")
        assert content is not None
        (folder / "state.json").write_bytes(content.read())


def _read_state(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.training.trainer import read_progress

    read_progress(folder)
    return []


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


def _export(path: str, *, exact: bool, mutate: Mutate, share: float = 1.0, runtime: bool = True) -> Target:
    def make(folder: pathlib.Path) -> None:
        _earlier(folder, path, path + ".json")

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


TARGETS: dict[str, Target] = {
    "images": Target(make=_make_images, mutate=damage_bytes("image.*", "labels.png"), read=_read_images, share=4),
    "coco": Target(
        make=_make_coco,
        mutate=damage_json("*.json"),
        read=functools.partial(_read_dataset, dataset="coco"),
        share=4,
        quick=60,
    ),
    "coco check": Target(make=_make_coco, mutate=damage_json("*.json"), read=_check_coco, share=2, quick=40),
    "cvppp": Target(
        make=_make_cvppp, mutate=damage_bytes("*.png"), read=functools.partial(_read_dataset, dataset="cvppp")
    ),
    "voc": Target(make=_make_voc, mutate=damage_bytes("*.*"), read=functools.partial(_read_dataset, dataset="voc")),
    "sbd": Target(make=_make_sbd, mutate=damage_bytes("*.mat", "*.txt"), read=_read_sbd),
    "config.json": Target(make=_make_config, mutate=damage_json("config.json"), read=_read_config, share=2, quick=60),
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
    "TFLite bytes": _export(
        "exports/voting/model.tflite", exact=True, mutate=damage_bytes("*.tflite"), share=0.7, runtime=False
    ),
    "TFLite sidecar": _export(
        "exports/voting/model.tflite", exact=False, mutate=damage_json("*.tflite.json"), runtime=False
    ),
    "video": Target(make=_make_video, mutate=damage_bytes("*.mp4"), read=_read_video, share=0.7, quick=15),
}
