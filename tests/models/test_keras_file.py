"""Hostile and damaged `.keras` files: refused in one line, without running or opening anything that they name."""

import io
import json
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from rsis_tf.errors import InputError
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.keras_file import check_hdf5
from rsis_tf.models.loading import load_model

KERNEL = "decoder/class_head/vars/0"
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Members:
    """The members of a file that Keras wrote."""
    path = tmp_path_factory.mktemp("models") / "whole.keras"
    build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, image_size=(32, 32))).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "x.keras"


def write(path: pathlib.Path, members: Members, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith("expected ")
    assert ". Received: " in message
    assert str(path) in message
    assert message.isprintable()  # one line
    assert len(message) < 600 + len(str(path))
    return message


def with_config(members: Members, change: Callable[[dict], object]) -> Members:
    values = json.loads(members["config.json"])
    changed = change(values)
    return {**members, "config.json": json.dumps(values if changed is None else changed).encode()}


def with_weights(members: Members, change: Callable[[h5py.File], object]) -> Members:
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    return {**members, "model.weights.h5": content.getvalue()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_whole_files_are_read(members, path, compression):
    write(path, members, compression)
    assert load_model(path).config.num_classes == 3


# The zip


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_member(members, path, name):
    write(path, {other: content for other, content in members.items() if other != name})
    assert f"it has no {name}" in refusal(path)


def test_another_member(members, path):
    """Keras would unpack the whole file to a temporary folder."""
    write(path, {**members, "assets/x.txt": b"", "assets/\x1b[31m": b""})
    assert "besides config.json" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(members, path):
    write(path, members)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", members["config.json"])
    assert "'config.json' twice" in refusal(path)


@pytest.mark.parametrize(
    ("name", "size"), [("config.json", 1 << 28), ("metadata.json", 1 << 28), ("model.weights.h5", 1 << 28)]
)
def test_a_member_that_grows_when_it_is_unpacked(members, path, name, size):
    write(path, {**members, name: members[name] + b" " * size}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 23
    assert "are read" in (said := refusal(path)) or "grows" in said


def test_a_member_that_is_longer_than_it_says(members, path):
    write(path, {**members, "config.json": members["config.json"] + b" " * (1 << 20)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    size = len(members["config.json"])
    path.write_bytes(content.replace(struct.pack("<I", size + (1 << 20)), struct.pack("<I", size)))
    assert "CRC" in refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_another_compression(members, path, compression):
    write(path, members, compression)
    assert "compressed in a way that Keras does not use" in refusal(path)


def test_one_changed_byte_of_a_weight(members, path):
    write(path, members)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    assert "Bad CRC-32" in refusal(path)


# The settings

CALL = {"module": "os", "class_name": "system", "registered_name": None, "config": {"command": "touch touched"}}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"function": {"class_name": "__lambda__", "config": {"value": "4w==\n"}}},
    "registered_name": "Lambda",
}
SETTINGS = {
    "call": lambda values: CALL,
    "lambda": lambda values: LAMBDA,
    "a lambda under the network's name": lambda values: {**LAMBDA, "registered_name": "rsis_tf>RSIS"},
    "a function": lambda values: {
        **CALL,
        "class_name": "function",
        "config": "system",
        "registered_name": "rsis_tf>RSIS",
    },
    "a type of TensorFlow": lambda values: {**CALL, "class_name": "__typespec__", "spec_name": "x", "config": []},
    "a layer of Keras": lambda values: {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"units": 1 << 40},
        "registered_name": None,
    },
    "a layer of this project": lambda values: values.update(
        class_name="ConvLSTMCell", registered_name="rsis_tf>ConvLSTMCell", config={"filters": 1 << 40}
    ),
    "a name that is no text": lambda values: values.update(registered_name=["rsis_tf>RSIS"]),
    "another key": lambda values: values.update({"x\x1b[31m": 1}),
    "a dtype that is an object": lambda values: values["config"].update(dtype=LAMBDA),
    "another dtype": lambda values: values["config"].update(dtype="int8_from_float32"),
    "a name with control characters": lambda values: values["config"].update(name="a\x1b[31m\n"),
    "a list for settings": lambda values: values["config"].update(config=[1]),
    "a call among the settings": lambda values: values["config"]["config"].update(encoder=CALL),
    "a huge network": lambda values: values["config"]["config"].update(hidden_size=2048),
    "huge numbers": lambda values: values["config"]["config"].update(hidden_size=10**4000),
    "a wide neck": lambda values: values["config"]["config"].update(neck_channels=2048),
    "text for a number": lambda values: values["config"]["config"].update(hidden_size="16"),
    "null": lambda values: values["config"]["config"].update(image_size=None),
    "unknown settings": lambda values: values["config"]["config"].update({"x\n\x1b": 1}),
    "a list": lambda values: [values],
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_of_anything_else_are_refused_and_not_run(members, path, case, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write(path, with_config(members, SETTINGS[case]))
    refusal(path)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"{", b"[" * 100_000, b'{"config": ' * 50_000, b"9" * 5000),
        *(b"null", b"NaN", b'{"registered_name": "rsis_tf>RSIS"}'),
    ],
)
def test_broken_settings(members, path, content):
    write(path, {**members, "config.json": content})
    refusal(path)


def test_what_a_file_says_about_compiling_and_building_is_not_run(members, path):
    change = {"compile_config": {"loss": LAMBDA, "optimizer": CALL}, "build_config": {"input_shape": LAMBDA}}
    write(path, with_config(members, lambda values: values.update(change)))
    assert load_model(path).config.num_classes == 3


# The weights


def with_outside_file(file: h5py.File) -> None:
    """Writes beside the model a file that links may lead to."""
    with h5py.File("outside.h5", "w") as outside:
        outside["x"] = file[KERNEL][()]
    np.asarray(file[KERNEL][()]).tofile("outside.bin")


def replace(file: h5py.File, make: Callable[[h5py.File], object]) -> None:
    with_outside_file(file)
    del file[KERNEL]
    made = make(file)
    if made is not None:
        file[KERNEL] = made


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((48, 3), "<f4")
    layout[...] = h5py.VirtualSource("outside.h5", "x", (48, 3))
    file.create_virtual_dataset(KERNEL, layout)


def never_written(file: h5py.File) -> None:
    """A dataset of 4 TB that takes no byte of the file."""
    file.create_dataset(KERNEL, (1 << 20, 1 << 20), "<f4")


def loop(file: h5py.File) -> None:
    file["decoder/again"] = file["/"]


WEIGHTS = {
    "external link": (lambda file: h5py.ExternalLink("outside.h5", "/x"), "link to another place"),
    "soft link": (lambda file: h5py.SoftLink("/decoder/stop_head/vars/0"), "link to another place"),
    "link to nothing": (lambda file: h5py.SoftLink("/nothing"), "link to another place"),
    "virtual dataset": (virtual, "another file"),
    "external storage": (
        lambda file: file.create_dataset(KERNEL, (48, 3), "<f4", external=[("outside.bin", 0, 48 * 3 * 4)]) and None,
        "another file",
    ),
    "compressed": (lambda file: file.create_dataset(KERNEL, (48, 3), "<f4", compression="gzip") and None, "compressed"),
    "never written": (never_written, "has 0 bytes instead of 4,398,046,511,104"),
    "objects": (
        lambda file: file.create_dataset(KERNEL, (48, 3), h5py.special_dtype(ref=h5py.Reference)) and None,
        "holds no numbers",
    ),
    "text": (lambda file: file.create_dataset(KERNEL, data=["a"] * 48, dtype=h5py.string_dtype()) and None, "numbers"),
    "complex": (lambda file: np.zeros((48, 3), np.complex64), "holds no numbers"),
    "records": (lambda file: np.zeros((48, 3), [("a", "f4")]), "holds no numbers"),
    "nothing": (lambda file: h5py.Empty("f4"), "holds no numbers"),
    "a type": (lambda file: np.dtype("f4"), "is a Datatype"),
    "loop": (lambda file: loop(file), "twice"),
    "shared": (lambda file: file["decoder/class_head/vars/1"], "twice"),
    "missing": (lambda file: None, ""),
    "group": (lambda file: file.create_group(KERNEL) and None, ""),
    "other shape": (lambda file: np.zeros((3, 48), np.float32), ""),
    "a shape that broadcasts": (lambda file: np.zeros((1, 3), np.float32), ""),
    "one more": (lambda file: file.create_dataset("decoder/class_head/vars/2", data=[1.0]) and None, ""),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_of_another_layout_or_in_another_file_are_refused(members, path, case, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make, said = WEIGHTS[case]
    write(path, with_weights(members, lambda file: replace(file, make)))
    assert said in refusal(path)


def test_a_whole_layer_that_is_missing(members, path):
    """Keras only warns of it."""

    def remove(file):
        for name in ("encoder/layers", "layers/functional"):
            file.pop(name, None)

    write(path, with_weights(members, remove))
    refusal(path)


@pytest.mark.parametrize("content", [b"", b"text", bytes(2000)])
def test_weights_that_are_no_hdf5_file(members, path, content):
    write(path, {**members, "model.weights.h5": content + bytes(1 << 16)})
    refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_weight_that_is_not_finite(members, path, value):
    """At 32×32 pixels the deepest map has one pixel: the corner of this kernel meets the padding only."""

    def damage(file):
        file["decoder/cells/conv_lstm_cell/vars/0"][0, 0, 0, 0] = value

    write(path, with_weights(members, damage))
    received = "NaN" if np.isnan(value) else "an infinite value"
    assert f"weights may be damaged. Received: {received} in stage_0/gate_kernel from" in refusal(path)


def test_hdf5_files_for_the_encoder_are_checked_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("x.h5", "w") as file:
        file["x"] = np.zeros(3, "f4")
    check_hdf5(pathlib.Path("x.h5"))
    with h5py.File("x.h5", "a") as file:
        file["y"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(ValueError, match="link to another place"):
        check_hdf5(pathlib.Path("x.h5"))
