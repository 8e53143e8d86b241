"""What is damaged and what reads it: one row of `TARGETS` for each kind of file."""

import dataclasses
import functools
import json
import pathlib
import pickle
import random
import tarfile
import tempfile
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


def _damage_pickle(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the bytes, or writes a pickle of damaged values."""
    path = folder / "args.pkl"
    if rng.random() < 0.7:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        return
    from rsis_tf.models.pytorch.checkpoint import read_arguments

    values = {name: value for name, value in read_arguments(path).items() if isinstance(value, int | float | str)}
    path.write_bytes(pickle.dumps(mutate_json(rng, values), protocol=rng.choice((0, 1, 2, 4))))


def _make_weights(folder: pathlib.Path) -> None:
    for name in ("torch-2.13-zip.pth", "torch-2.13-legacy.pth"):
        (folder / name).write_bytes((OUTSIDE / name).read_bytes())


def _read_weights(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.models.pytorch.checkpoint import read_state

    for path in sorted(folder.glob("*.pth")):
        read_state(path)
    return []


def _read_keras(folder: pathlib.Path) -> list[Any]:
    from rsis_tf.inference import open_model

    images = list(np.load(folder / "images.npy"))
    return [instance.mask for instances in open_model(folder / "voting").batch(images) for instance in instances]


def _damage_keras(rng: random.Random, folder: pathlib.Path) -> None:
    """Damages the bytes of the file, or one member: the settings as JSON, the weights as bytes."""
    path = folder / "voting" / "best.keras"
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    if name.endswith(".json") and rng.random() < 0.8:
        members[name] = dump(mutate_json(rng, json.loads(members[name]))).encode("utf-8", "surrogatepass")
    else:
        members[name] = mutate_bytes(rng, members[name])
    with zipfile.ZipFile(path, "w") as archive:
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
    "PyTorch weights": Target(make=_make_weights, mutate=damage_bytes("*.pth"), read=_read_weights, share=1.5),
    ".keras": Target(
        make=lambda folder: _earlier(folder, "voting/best.keras"),
        mutate=_damage_keras,
        read=_read_keras,
        share=0.6,
        quick=8,
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
