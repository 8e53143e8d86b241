"""Files of `torch.save`, of several years, read without PyTorch: whole, broken and hostile ones."""

import collections
import io
import pathlib
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from legacy_torch import (
    MAGIC,
    SYSTEM,
    Global,
    Persistent,
    Reduced,
    arguments_bytes,
    dumps,
    original_arguments,
    parameter,
    state_bytes,
    tar_bytes,
)

from rsis_tf.errors import InputError
from rsis_tf.models.pytorch.checkpoint import read_arguments, read_state

OUTSIDE = pathlib.Path(__file__).parents[1] / "outside"
ZIP, LEGACY = OUTSIDE / "torch-2.13-zip.pth", OUTSIDE / "torch-2.13-legacy.pth"
STATE = {
    "conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "bias": np.array([1.5], "f4"),
    "number": np.array(2.5, "f4"),
}


def expected() -> dict[str, np.ndarray]:
    """Returns what PyTorch 2.13 saved in the two files: views of one storage, and one tensor of each other type."""
    base = np.arange(120, dtype="f4").reshape(10, 12) / 8
    return {
        "conv.weight": base[:4].reshape(4, 3, 2, 2),
        "view": base[2:5, 1:5],
        "transposed": base.T,
        "half": np.array([0.5, -2], "f2"),
        "bfloat16": np.array([1.5, -3], "f4"),
        "double": np.array([1 / 3]),
        "num_batches_tracked": np.array(7),
        "int32": np.array([-5, 6], "i4"),
        "int16": np.array([-5, 6], "i2"),
        "int8": np.array([-5, 6], "i1"),
        "bytes": np.array([5, 255], "u1"),
        "bools": np.array([True, False]),
        "empty": np.empty((0, 3), "f4"),
    }


def assert_equal(read: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(read) == list(wanted)
    for name, array in wanted.items():
        assert read[name].dtype == array.dtype, name
        np.testing.assert_array_equal(read[name], array, err_msg=name, strict=True)


def written(tmp_path: pathlib.Path, content: bytes) -> pathlib.Path:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("path", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_files_of_pytorch_are_read_without_it(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    assert_equal(read_state(path), expected())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_equals_what_pytorch_writes_today(protocol, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    state = collections.OrderedDict((name, torch.from_numpy(array.copy())) for name, array in expected().items())
    state["double"] = torch.nn.Parameter(state["double"])
    state["conv.weight"] = state["conv.weight"].permute(3, 1, 0, 2)
    path = tmp_path / "x.pth"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_equal(read_state(path), {name: tensor.detach().numpy() for name, tensor in state.items()})


def test_a_zip_without_checksums(tmp_path):
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3.0)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(read_state(tmp_path / "x.pth"), {"a": np.arange(3, dtype="f4")})


@pytest.mark.parametrize(("storage", "location"), [("torch.cuda", "cuda:0"), ("torch", "cpu")])
@pytest.mark.parametrize("wrap", [lambda tensor: tensor, parameter], ids=["tensor", "parameter"])
def test_files_of_pytorch_0_2(storage, location, wrap, tmp_path):
    content = state_bytes(STATE, storage=storage, location=location, wrap=wrap)
    assert_equal(read_state(written(tmp_path, content)), STATE)


def test_files_of_2016(tmp_path):
    """The tar format of torchvision's resnet34-333f7ec4, resnet50-19c8e357 and resnet101-5d3b4d8f."""
    assert_equal(read_state(written(tmp_path, tar_bytes(STATE))), STATE)


def test_the_imitations_are_read_by_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    for content in (state_bytes(STATE, storage="torch", location="cpu"), tar_bytes(STATE)):
        state = torch.load(written(tmp_path, content), weights_only=False)
        assert_equal({name: tensor.detach().numpy() for name, tensor in state.items()}, STATE)


def stream(value: object, keys: list[str] = (), data: bytes = b"", *, system: dict = SYSTEM) -> bytes:
    """Returns a file of the legacy format around any object."""
    return b"".join(map(dumps, (MAGIC, 1001, system, value, list(keys)))) + data


def tensor(offset=0, shape=(2,), strides=(1,), *, count=4, kind="FloatStorage", view=None, function="_rebuild_tensor"):
    root = Persistent(("storage", Global("torch", kind), "k", "cpu", count, view))
    more = () if function == "_rebuild_tensor" else (False, collections.OrderedDict(), {"conj": True})
    return Reduced(Global("torch._utils", function), root, offset, shape, strides, *more)


FOUR = struct.pack("<q4f", 4, 1, 2, 3, 4)


def test_views_of_a_storage(tmp_path):
    state = {"a": tensor(offset=1, view=("v", 1, 3))}
    assert_equal(read_state(written(tmp_path, stream(state, ["k"], FOUR))), {"a": np.array([3, 4], "f4")})


WRONG = {
    "outside": (stream({"a": tensor(offset=3)}, ["k"], FOUR), "does not lie in its storage"),
    "outside by strides": (stream({"a": tensor(strides=(4,))}, ["k"], FOUR), "does not lie in its storage"),
    "expanded": (stream({"a": tensor(shape=(99, 99), strides=(0, 0))}, ["k"], FOUR), "does not lie in its storage"),
    "negative stride": (stream({"a": tensor(offset=3, strides=(-1,))}, ["k"], FOUR), "whole numbers from 0"),
    "shape of text": (stream({"a": tensor(shape=("2",))}, ["k"], FOUR), "whole numbers from 0"),
    "overflow": (stream({"a": tensor(shape=(1 << 62,) * 4, strides=(1,) * 4)}, ["k"], FOUR), "whole numbers from 0"),
    "empty and huge": (
        stream({"a": tensor(shape=(0, *(1 << 40,) * 4), strides=(1,) * 5)}, ["k"], FOUR),
        "has the shape",
    ),
    "many axes": (stream({"a": tensor(shape=(1,) * 60, strides=(1,) * 60)}, ["k"], FOUR), "at most 32"),
    "view outside": (stream({"a": tensor(view=("v", 2, 3))}, ["k"], FOUR), "view of a storage lies outside"),
    "huge storage": (stream({"a": tensor(count=1 << 40)}, ["k"], struct.pack("<q", 1 << 40)), "ends too early"),
    "overflowing storage": (stream({"a": tensor(count=1 << 70)}, ["k"], FOUR), "whole number of elements"),
    "other count": (stream({"a": tensor(count=3)}, ["k"], FOUR), "a storage of 3 numbers has 4"),
    "other type": (stream({"a": tensor(kind="ComplexFloatStorage")}, ["k"], FOUR), "ComplexFloatStorage is not read"),
    "conjugated": (stream({"a": tensor(function="_rebuild_tensor_v2")}, ["k"], FOUR), "marks"),
    "other keys": (stream({"a": tensor()}, ["k", "l"], FOUR), "storages that it lists"),
    "big-endian": (stream({"a": tensor()}, ["k"], FOUR, system={"little_endian": False}), "big-endian"),
    "module": (stream(Persistent(("module", Global("nets", "Net"), "nets.py", "…"[:0]))), "whole module"),
    "code": (stream({"a": Reduced(Global("posix", "system"), "touch /tmp/never")}), "it asks to run posix.system"),
    "whole module": (stream(Reduced(Global("nets", "Net"))), "of a state_dict(), which holds only tensors. Received"),
    "class": (stream({"a": Global("posix", "system")}), "'a' is posix.system"),
    "number": (stream({"a": 3}), "'a' is int"),
    "list": (stream([3]), "which holds list"),
    "nothing": (stream({}), "which holds dict"),
    "key": (stream({3: tensor()}, ["k"], FOUR), "under a int"),
    "twice": (stream({"a": tensor(), "module.a": tensor()}, ["k"], FOUR), "with a and module.a"),
    "empty": (b"", "it is empty"),
    "text": (b"not a checkpoint", "none of the formats"),
    "other protocol": (dumps(MAGIC) + dumps(1002), "protocol is not 1001"),
    "zip": (b"PK\x03\x04" + bytes(40), "broken zip"),
    "tar": (bytes(257) + b"ustar" + bytes(250), "tar file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(case, tmp_path):
    content, said = WRONG[case]
    with pytest.raises(InputError, match=r"^expected .* Received: .*x\.pth") as error:
        read_state(written(tmp_path, content))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def rezipped(change) -> bytes:
    """Returns PyTorch's zip file with its records changed by a function of (name, content)."""
    target = io.BytesIO()
    with zipfile.ZipFile(ZIP) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            for entry in change(name, source.read(name)):
                archive.writestr(*entry)
    return target.getvalue()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, content: [(name, content, zipfile.ZIP_DEFLATED)], "compressed"),
        (lambda name, content: [] if name.endswith("data/0") else [(name, content)], "storage 0 is missing"),
        (lambda name, content: [(name, content[: len(content) - (name[-6:] == "data/0")])], "a storage of "),
        (lambda name, content: [(name, b"big" if name.endswith("byteorder") else content)], "big-endian"),
        (lambda name, content: [(name.replace("data.pkl", "other.pkl"), content)], "without the one data.pkl"),
        (lambda name, content: [(name, content), ("2/data.pkl", content)], "beyond the file's end|without the one"),
    ],
    ids=["compressed", "missing", "short", "big-endian", "no pickle", "two pickles"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_wrong_zip_files_are_refused(change, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_state(written(tmp_path, rezipped(change)))


def test_a_bomb_is_refused(tmp_path):
    """Records that share bytes: a central directory that names the longest record many times."""
    content = rezipped(lambda name, content: [(name, content)])
    start = struct.unpack("<I", content[-6:-2])[0]
    with zipfile.ZipFile(ZIP) as archive:
        largest = max(archive.filelist, key=lambda entry: entry.file_size).filename.encode()
    at = content.find(largest, start) - 46
    entry = content[at : at + 46 + sum(struct.unpack("<HHH", content[at + 28 : at + 34]))]
    directory = content[start:-22]
    for number in range(40):
        directory += entry.replace(largest, largest[:-2] + b"%02d" % number)
    count = struct.unpack("<H", content[-12:-10])[0] + 40
    end = content[-22:-14] + struct.pack("<HHIIH", count, count, len(directory), start, 0)
    with pytest.raises(InputError, match="overlaps another"):
        read_state(written(tmp_path, content[:start] + directory + end))


def header(protocol: int = 2) -> bytes:
    return b"".join(map(dumps, (MAGIC, 1001, SYSTEM))) + b"\x80" + bytes([protocol])


HOSTILE = {
    "memo": b"Nr\xff\xff\xff\x7f.",
    "bytes": b"\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "text": b"X\xff\xff\xff\xff.",
    "negative text": b"T\xff\xff\xff\xff.",
    "frame": b"\x95" + struct.pack("<Q", 1 << 60) + b".",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "long line": b"S'" + b"a" * 100_000,
    "integer": b"\x8b\xff\xff\xff\x7f.",
    "deep": b"(" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "hash of a deep key": b"}" + b")" + b"\x85" * 20_000 + b"Ns.",
    "hash of a wide key": b"}" + b")" + b"2\x86" * 64 + b"Ns.",
    "repeated copies": b"](" + b"N)\x86" * 2_000 + b"eq\x00" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 2_000 + b".",
    "stack": b"0.",
    "mark": b"t.",
    "state of a class": b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00xNsb.",
    "slots of a class": b"ccollections\nOrderedDict\nN}X\x01\x00\x00\x00xNs\x86b.",
    "extension": b"\x82\x01.",
    "instance": b"(iposix\nsystem\n.",
    "object": b"(cposix\nsystem\no.",
    "new": b"cposix\nsystem\n)\x81.",
    "stacked name": b"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93)R.",
    "endless": b"(" * 20_000,
    "cycle": b"]q\x00h\x00a.",
    "repeated state": (
        b"cargparse\nNamespace\n)R}q\x01("
        + b"".join(b"U\x05%05dN" % number for number in range(20_000))
        + b"u0"
        + b"h\x01b" * 60_000
        + b"."
    ),
    "repeated text": (
        b"c_codecs\nencode\nq\x000X\x00\x00\x02\x00"
        + b"a" * (1 << 17)
        + b"q\x010U\x06latin1q\x020("
        + b"h\x00h\x01h\x02\x86R" * 20_000
        + b"l."
    ),
    "control characters in a name": b"c\x1b[31mposix\nsystem\n)R.",
    "a name of a megabyte": b"c" + b"a" * (1 << 17) + b"\nsystem\n)R.",
    "a number of a megabyte": b"F" + b"9" * (1 << 17) + b"a\n.",
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("kind", ["state", "arguments"])
def test_hostile_pickles_are_refused_at_little_cost(case, kind, tmp_path):
    read, before = (read_state, header()) if kind == "state" else (read_arguments, b"\x80\x02")
    path = written(tmp_path, before + HOSTILE[case])
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as error:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 400 + len(str(path))
    assert str(error.value).isprintable()
    assert not hasattr(collections.OrderedDict, "x")


def seeds() -> dict[str, tuple]:
    return {
        "zip": (read_state, ZIP.read_bytes()),
        "legacy": (read_state, LEGACY.read_bytes()),
        "0.2": (read_state, state_bytes(STATE, wrap=parameter)),
        "tar": (read_state, tar_bytes(STATE)),
        "arguments": (read_arguments, (OUTSIDE / "args-python2.pkl").read_bytes()),
        "arguments of Python 3": (read_arguments, arguments_bytes(original_arguments(), protocol=2)),
    }


@pytest.mark.parametrize("kind", seeds())
def test_damaged_files_give_an_input_error_or_values(kind, tmp_path):
    """150 seeded damages a file: bytes replaced, inserted and cut out, and the end cut off."""
    read, content = seeds()[kind]
    generator = random.Random(kind)
    refused = 0
    tracemalloc.start()
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(damaged) + 1)
            length = generator.choice([1, 1, 4, 8])
            damaged[place : place + generator.choice([0, length])] = generator.randbytes(generator.choice([0, length]))
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(damaged) + 1) :]
        try:
            for value in read(written(tmp_path, bytes(damaged))).values():
                if isinstance(value, np.ndarray):
                    np.sum(value == value)  # touches every number
        except InputError:
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 25
    assert peak < 32 << 20


def test_bfloat16_becomes_float32(tmp_path):
    halves = (np.array([1.5, -3, 0.125, 2**-126], "<f4").view("<u4") >> 16).astype("<u2")
    content = struct.pack("<q", 4) + halves.tobytes()
    state = {"a": tensor(offset=1, shape=(3,), kind="BFloat16Storage")}
    read = read_state(written(tmp_path, stream(state, ["k"], content)))
    assert_equal(read, {"a": np.array([-3, 0.125, 2**-126], "f4")})


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (124, b"77777777777\0"),  # longer than the file
        (124, b"-0000000001\0"),
        (124, b"\xff" * 12),  # negative, base 256
        (124, b"9999999999\0\0"),
        (156, b"x"),
        (156, b"L"),
        (156, b"1"),
    ],
)
def test_headers_of_a_tar_that_lead_elsewhere(place, content, tmp_path):
    """On some versions of Python `tarfile` loops or recurses without an end on such headers."""
    whole = bytearray(tar_bytes(STATE))
    for start in range(0, len(whole), 512):
        if whole[start + 257 : start + 262] == b"ustar":
            whole[start + place : start + place + len(content)] = content
    with pytest.raises(InputError, match=r"tar file|its member"):
        read_state(written(tmp_path, bytes(whole)))


def test_damaged_numbers_of_a_zip_are_noticed(tmp_path):
    content = bytearray(ZIP.read_bytes())
    content[content.find(struct.pack("<f", 23 / 8))] ^= 1
    with pytest.raises(InputError, match="wrong CRC"):
        read_state(written(tmp_path, bytes(content)))


def test_every_cut_of_a_file_is_noticed(tmp_path):
    for content in (LEGACY.read_bytes(), state_bytes(STATE)):
        for length in range(0, len(content), 29):
            with pytest.raises(InputError):
                read_state(written(tmp_path, content[:length]))


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        read_state(ZIP)["view"][0] = 1


def test_pickle_of_python_opens_what_the_imitations_write():
    assert pickle.loads(dumps({"a": [1, 2.5, None, True], "b": (1, (2,))})) == {
        "a": [1, 2.5, None, True],
        "b": (1, (2,)),
    }
