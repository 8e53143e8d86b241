"""Checks a `.keras` file before Keras reads it: sizes, settings and weights, without running anything it names.

A `.keras` file is a zip of `config.json`, which names a class and its settings, `model.weights.h5`, which holds the
weights (HDF5), and `metadata.json`, which nothing reads. Keras builds whatever class of its own the settings name,
unpacks whatever else the zip holds, and looks for missing layers without an error in places. So the file is refused
unless it is one that `RSIS.save` can write: these members only, the network's own class with plain settings, and
weights that lie in the file itself.
"""

import io
import json
import math
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import h5py
import keras
import numpy as np

from rsis_tf.config import ModelConfig
from rsis_tf.config.json_file import from_dict
from rsis_tf.models.registry import network_class

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
POLICIES = ("bfloat16", "float16", "float32", "float64", "mixed_bfloat16", "mixed_float16")
"""What the `dtype` of a stored network may be. Earlier versions stored Keras's policy of the time; it is not used."""
LARGEST_TEXT = 1 << 20
"""Bytes of the longest JSON member that is read; a network with 1000 named classes takes 20 kB."""
_LARGEST_RATIO, _ALWAYS_FINE = 10, 1 << 24
"""A member that takes more than 16 MiB may be at most ten times as long as its compressed form; weights hardly shrink,
and Keras does not compress them."""
_MOST_OBJECTS = 100_000
_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
_FLOATS = (np.dtype("<f2"), np.dtype("<f4"), np.dtype("<f8"))


class DamagedFile(ValueError):
    """A file that is not one of the project's models; the message says what is wrong with it."""


def check_keras_file(path: pathlib.Path) -> None:
    """Checks a `.keras` file.

    Raises:
        DamagedFile: if it holds anything other than a network of this project.
        ValueError: what the readers of zip, JSON and HDF5 raise, and other errors of theirs.
    """
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        config = _read_config(_read(archive, members[CONFIG]))
        fewest = 2 * fewest_weights(config)
        if members[WEIGHTS].file_size < fewest:
            raise DamagedFile(
                f"its settings describe a network of more than {fewest:,} bytes, and {WEIGHTS} has "
                f"{members[WEIGHTS].file_size:,}"
            )
        content = _read(archive, members[WEIGHTS])
    check_hdf5(io.BytesIO(content))


def check_hdf5(source: pathlib.Path | BinaryIO) -> None:
    """Checks that an HDF5 file holds nothing but groups and numbers that are stored in it.

    Refused are links to other files and to other places, data in other files (external storage, virtual datasets),
    objects that are reached twice, compressed data, and data that is not numbers. So what is read is not longer than
    the file, and nothing outside it is opened.

    Raises:
        DamagedFile: for anything else.
        OSError: if it is not an HDF5 file, or a damaged one.
    """
    with h5py.File(source, "r") as file:
        waiting: list[h5py.Group] = [file["/"]]
        seen = {_address(waiting[0])}
        while waiting:
            group = waiting.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise DamagedFile(f"{name!r} of its weights is a link to another place")
                item = group[name]
                if (address := _address(item)) in seen or len(seen) > _MOST_OBJECTS:
                    raise DamagedFile(f"its weights hold {name!r} twice, or too many objects")
                seen.add(address)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                elif isinstance(item, h5py.Dataset):
                    _check_dataset(item)
                else:
                    raise DamagedFile(f"{name!r} of its weights is a {type(item).__name__}")


def fewest_weights(config: ModelConfig) -> int:
    """Returns a number of weights that every network of these settings exceeds.

    It is far below the real number, but grows like it, so that a file cannot ask for a network much larger than itself.
    """
    gates = 4 * config.hidden_size**2  # hidden map → four gates in the deepest ConvLSTM, each at least 1×1
    neck = 9 * config.neck_channels**2  # one of the 3×3 convolutions
    return gates + neck + config.hidden_size * config.num_classes


def check_settings(values: Any) -> None:
    """Checks the settings that `RSIS.get_config` returns, before anything is made of them.

    Raises:
        DamagedFile: if one is missing or of another type.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("config"), Mapping):
        raise DamagedFile("its settings are not those of a network of rsis_tf")
    name, policy = values.get("name"), values.get("dtype")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DamagedFile("its network has no name that Keras takes")
    if policy not in POLICIES:
        raise DamagedFile(f"its dtype is none of {', '.join(POLICIES)}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the members by name; each is there once and does not grow much when it is unpacked."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name, size = member.filename, member.file_size
        if name not in (CONFIG, WEIGHTS, METADATA):
            raise DamagedFile(f"it holds {name[:100]!r} besides {CONFIG}, {METADATA} and {WEIGHTS}")
        if name in members:
            raise DamagedFile(f"it holds {name!r} twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise DamagedFile(f"its {name} is encrypted, or compressed in a way that Keras does not use")
        if name != WEIGHTS and size > LARGEST_TEXT:
            raise DamagedFile(f"its {name} has {size:,} bytes; at most {LARGEST_TEXT:,} are read")
        if size > max(_ALWAYS_FINE, _LARGEST_RATIO * member.compress_size):
            raise DamagedFile(f"its {name} grows from {member.compress_size:,} to {size:,} bytes when it is unpacked")
        members[name] = member
    if missing := [name for name in (CONFIG, WEIGHTS) if name not in members]:
        raise DamagedFile(f"it has no {' and no '.join(missing)}")
    return members


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Returns a member, of which no more than its declared size is unpacked."""
    content = archive.read(member)  # up to the declared size, then compares the checksum
    if len(content) != member.file_size:
        raise DamagedFile(f"its {member.filename} has {len(content):,} bytes instead of {member.file_size:,}")
    return content


def _read_config(content: bytes) -> ModelConfig:
    try:
        values = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise DamagedFile(f"its {CONFIG} is nested too deeply") from None
    if not isinstance(values, dict) or not isinstance(values.get("registered_name"), str):
        raise DamagedFile(f"its {CONFIG} does not describe a network")
    named = keras.saving.get_registered_object(values["registered_name"])
    # Only classes that this process has registered are found by that name, which alone decides what Keras builds.
    known = isinstance(named, type) and issubclass(named, network_class())
    if not known or values.get("class_name") != named.__name__:
        raise DamagedFile(f"it holds {_named(values)} and not a network of rsis_tf")
    if unknown := sorted(set(values) - _KEYS):
        raise DamagedFile(f"its {CONFIG} holds {unknown[0][:100]!r}")
    check_settings(values["config"])
    return from_dict(ModelConfig, values["config"]["config"])


_KEYS = {"module", "class_name", "config", "registered_name", "build_config", "compile_config", "shared_object_id"}
"""What Keras writes about an object. The network is built when it is made, and is loaded without being compiled, so
nothing is made of `build_config` and `compile_config`."""


def _named(values: Mapping[str, Any]) -> str:
    name = values.get("class_name")
    return f"a {name[:100]!r}" if isinstance(name, str) else "something without a class"


def _address(item: h5py.HLObject) -> tuple[int, int]:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _check_dataset(dataset: h5py.Dataset) -> None:
    name, dtype = str(dataset.name), dataset.dtype
    layout = dataset.id.get_create_plist().get_layout()
    if dataset.external or layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        raise DamagedFile(f"{name!r} of its weights lies in another file, or is compressed")
    if dataset.shape is None or (dtype not in _FLOATS and dtype.kind not in "iuV"):
        raise DamagedFile(f"{name!r} of its weights holds no numbers")
    if dtype.kind == "V" and dtype.itemsize != 2:  # bfloat16, which HDF5 stores as two bytes
        raise DamagedFile(f"{name!r} of its weights holds no numbers")
    size = math.prod(dataset.shape) * dtype.itemsize
    if dataset.id.get_storage_size() != size:
        raise DamagedFile(f"{name!r} of its weights has {dataset.id.get_storage_size():,} bytes instead of {size:,}")
