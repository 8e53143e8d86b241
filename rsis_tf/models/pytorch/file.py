"""Reads the files of `torch.save` with NumPy: no PyTorch, no code from the file, no memory beyond the file's size.

There are three formats, which differ in their first bytes:

- a zip of raw storages and one pickle (since PyTorch 1.6);
- a stream of pickles, then raw storages (0.1.10 to 1.5, torchvision's VGG16, `_use_new_zipfile_serialization=False`);
- a tar of storages, tensors and one pickle (2016 and early 2017, torchvision's first ResNets).

Specification: `torch/serialization.py` of PyTorch 0.1.9, 0.2 and 2.13. Arrays are read-only views of the mapped file.
"""

import mmap
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from rsis_tf.errors import reason_of
from rsis_tf.models.pytorch.closed_pickle import PickleError, load, shown
from rsis_tf.models.pytorch.tensors import FUNCTIONS, MAX_AXES, FileError, Storage, new_storage, view_of

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BLOCK = 512  # of a tar
_MOST_MEMBERS, _MOST_OBJECTS = 100, 100_000


def read(path: pathlib.Path) -> Any:
    """Reads what `torch.save` wrote.

    Args:
        path: of a file.

    Returns:
        Plain values and dictionaries, with a `Tensor` or `Parameter` for each tensor.

    Raises:
        PickleError: if it is incomplete, or holds anything other than tensors.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise FileError("it is empty")
        file.seek(0)
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if bytes(data[:4]) == b"PK\x03\x04":
            return _read_zip(data, file)
        if bytes(data[257:262]) == b"ustar":
            return _read_tar(data)
        return _read_stream(data)


def _read_zip(data: memoryview, file: BinaryIO) -> Any:
    records = _zip_records(data, file)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise FileError("it is a zip file without the one data.pkl of torch.save")
    folder = pickles[0].removesuffix("data.pkl")
    if (order := records.get(folder + "byteorder")) is not None:
        _check_order(bytes(order()) == b"little")
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Storage:
        kind, name, count, _ = _storage_id(key)
        storage = new_storage(kind, count)
        if name not in storages:
            if (record := records.get(f"{folder}data/{name}")) is None:
                raise FileError(f"the storage {shown(name, 40)} is missing")
            storage.fill(record())
            storages[name] = storage
        return _same(storages[name], storage)

    return load(records[pickles[0]](), functions=FUNCTIONS, persistent=persistent)[0]


def _zip_records(data: memoryview, file: BinaryIO) -> dict[str, Callable[[], memoryview]]:
    """Returns for each record a function that returns its bytes and checks their CRC (0 if PyTorch left it out)."""
    try:
        entries = zipfile.ZipFile(file).infolist()
    except Exception as error:  # `zipfile` raises whatever failed, and checks few things itself
        raise FileError(f"it is a broken zip file: {shown(reason_of(error))}") from None
    records: dict[str, Callable[[], memoryview]] = {}
    total = 0
    for entry in entries:
        name, size = entry.filename, entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or size != entry.compress_size or entry.flag_bits & 1:
            raise FileError(f"its record {shown(name, 40)} is compressed or encrypted, as torch.save never does")
        header = data[entry.header_offset : entry.header_offset + 30] if entry.header_offset >= 0 else b""
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise FileError(f"its record {shown(name, 40)} has no header")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        total += size
        if start + size > len(data) or total > len(data) or name in records:
            raise FileError(f"its record {shown(name, 40)} overlaps another, or goes beyond the file's end")
        records[name] = _record(name, data[start : start + size], entry.CRC)
    return records


def _record(name: str, content: memoryview, crc: int) -> Callable[[], memoryview]:
    def checked() -> memoryview:
        if crc and zlib.crc32(content) != crc:
            raise FileError(f"its record {shown(name, 40)} is damaged (wrong CRC)")
        return content

    return checked


def _read_stream(data: memoryview) -> Any:
    try:
        magic, position = load(data)
    except PickleError:
        magic, position = None, 0
    if magic != _MAGIC:
        raise FileError("it is in none of the formats of torch.save")
    protocol, position = load(data, position)
    if protocol != _PROTOCOL:
        raise FileError(f"its protocol is not {_PROTOCOL}")
    system, position = load(data, position)
    _check_order(isinstance(system, dict) and system.get("little_endian", True) is True)
    roots: dict[str, Storage] = {}
    views: list[tuple[Storage, Storage, int]] = []

    def persistent(key: Any) -> Storage:
        kind, name, count, view = _storage_id(key)
        root = _same(roots.setdefault(name, new_storage(kind, count)), new_storage(kind, count))
        if view is None:
            return root
        if not isinstance(view, tuple) or len(view) != 3:
            raise PickleError("a view of a storage has a key, an offset and a size")
        return _view(root, *view[1:], views)

    value, position = load(data, position, functions=FUNCTIONS, persistent=persistent)
    names, position = load(data, position)
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or sorted(names) != sorted(roots)
    ):
        raise FileError("the storages that it lists are not those that its tensors refer to")
    for name in names:
        position = _fill(roots[name], data, position)
    _fill_views(views)
    return value


def _read_tar(data: memoryview) -> Any:
    members = _tar_members(data)
    if missing := {"storages", "tensors", "pickle"} - {*members}:
        raise FileError(f"it is a tar file without {', '.join(sorted(missing))} of torch.save")
    if "sys_info" in members:
        system = load(members["sys_info"])[0]
        _check_order(isinstance(system, dict) and system.get("little_endian", True) is True)
    objects = _tar_storages(members["storages"])
    tensors = members["tensors"]
    count, position = load(tensors)
    for _ in range(_counted(count, tensors)):
        entry, position = load(tensors, position)
        key, storage, _ = _ids(entry, 3)
        if not isinstance(objects.get(storage), Storage):
            raise FileError("a tensor of it refers to no storage")
        (axes,) = _numbers("<i4x", tensors, position)
        if not 0 <= axes <= MAX_AXES:
            raise FileError(f"a tensor of it has {axes} axes")
        *sizes, offset = _numbers(f"<{2 * axes + 1}q", tensors, position + 8)
        position += 8 + 8 * (2 * axes + 1)
        objects[key] = view_of(objects[storage], offset, tuple(sizes[:axes]), tuple(sizes[axes:]))

    def persistent(key: Any) -> Any:
        if not isinstance(key, str) or not key.isdecimal() or len(key) > 20 or int(key) not in objects:
            raise PickleError("it refers to an object that it does not hold")
        return objects[int(key)]

    return load(members["pickle"], functions=FUNCTIONS, persistent=persistent)[0]


def _tar_members(data: memoryview) -> dict[str, memoryview]:
    """Returns the files in a tar by name.

    `tarfile` is not used: on some versions of Python a hostile file makes it loop or recurse without an end. The names
    and sizes in these files are short, so the headers that extend others are not needed.
    """
    members: dict[str, memoryview] = {}
    position = 0
    while bytes(data[position : position + 1]).strip(b"\0"):
        header = bytes(data[position : position + _BLOCK])
        name = header[:100].partition(b"\0")[0].decode("latin-1").removeprefix("./")
        digits = header[124:136].strip(b"\0 ")
        if len(header) < _BLOCK or header[257:262] != b"ustar" or not re.fullmatch(b"[0-7]{1,11}", digits):
            raise FileError("it is a broken tar file")
        size, kind = int(digits, 8), header[156:157]
        start = position + _BLOCK
        if kind in (b"0", b"\0"):
            if start + size > len(data) or name in members or len(members) >= _MOST_MEMBERS:
                raise FileError(f"its member {shown(name, 40)} is not a file that lies in it once")
            members[name] = data[start : start + size]
        position = start + -(-size // _BLOCK) * _BLOCK
    return members


def _tar_storages(data: memoryview) -> dict[int, Any]:
    objects: dict[int, Any] = {}
    views: list[tuple[Storage, Storage, int]] = []
    count, position = load(data)
    for _ in range(_counted(count, data)):
        entry, position = load(data, position)
        key, _, kind = _ids(entry, 3)
        (declared,) = _numbers("<q", data, position)
        objects[key] = new_storage(kind, declared)
        position = _fill(objects[key], data, position)
    listed, position = load(data, position)
    for entry in listed if isinstance(listed, list) else [listed]:
        key, root, offset, size = _ids(entry, 4)
        if not isinstance(objects.get(root), Storage):
            raise FileError("a view of a storage refers to none")
        objects[key] = _view(objects[root], offset, size, views)
    _fill_views(views)
    return objects


def _ids(entry: Any, length: int) -> Any:
    """Returns an entry of a list in the tar: a tuple with a key first, and second a value that can be looked up."""
    if not isinstance(entry, tuple) or len(entry) != length or type(entry[0]) is not int:
        raise FileError("its list of objects is broken")
    return entry if isinstance(entry[1], str | int) else (entry[0], None, *entry[2:])


def _storage_id(key: Any) -> tuple[Any, str, Any, Any]:
    """Returns type, name, element count and view of ('storage', type, name, location, count, view)."""
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[0] != "storage" or not isinstance(key[2], str):
        if isinstance(key, tuple) and key and key[0] == "module":
            raise PickleError("it holds a whole module, whose code is needed; save its state_dict()")
        raise PickleError("it refers to something that is no storage")
    return key[1], key[2], key[4], key[5] if len(key) == 6 else None


def _same(first: Storage, second: Storage) -> Storage:
    if (first.kind, first.count) != (second.kind, second.count):
        raise PickleError("it gives one storage two types or lengths")
    return first


def _view(root: Storage, offset: Any, count: Any, views: list[tuple[Storage, Storage, int]]) -> Storage:
    if type(offset) is not int or type(count) is not int or offset < 0 or not 0 <= count <= root.count - offset:
        raise PickleError("a view of a storage lies outside it")
    views.append((Storage(root.kind, count), root, offset))
    return views[-1][0]


def _fill_views(views: list[tuple[Storage, Storage, int]]) -> None:
    for view, root, offset in views:
        if root.values is None:
            raise FileError("a view of a storage refers to none")
        view.values = root.values[offset : offset + view.count]


def _fill(storage: Storage, data: memoryview, position: int) -> int:
    """Reads a storage's element count (8 bytes) and elements; returns the position after them."""
    (count,) = _numbers("<q", data, position)
    if count != storage.count:
        raise FileError(f"a storage of {storage.count} numbers has {count}")
    end = position + 8 + storage.nbytes
    if end > len(data):
        raise FileError(f"it ends too early: a storage needs {end - len(data)} bytes more")
    storage.fill(data[position + 8 : end])
    return end


def _numbers(form: str, data: memoryview, position: int) -> tuple[int, ...]:
    size = struct.calcsize(form)
    if position + size > len(data):
        raise FileError("it ends too early")
    return struct.unpack(form, data[position : position + size])


def _counted(count: Any, data: memoryview) -> int:
    if type(count) is not int or not 0 <= count <= min(len(data), _MOST_OBJECTS):
        raise FileError("it does not say how many objects follow")
    return count


def _check_order(little: bool) -> None:
    if not little:
        raise FileError("its numbers are big-endian, which is not read")
