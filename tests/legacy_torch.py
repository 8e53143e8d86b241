"""Writes files as Python 2 and PyTorch 0.2 wrote them, opcode by opcode: no PyTorch of today can."""

import pickle
import struct

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


def _string(text: str) -> bytes:
    """A byte string, which is what a name was in Python 2 (opcode SHORT_BINSTRING)."""
    return b"U" + bytes([len(text)]) + text.encode("latin-1")


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _global(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def _tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def state_bytes(state: dict[str, np.ndarray], *, storage: str = "torch.cuda", location: str = "cuda:0") -> bytes:
    """Returns an ordered dictionary of float32 tensors in PyTorch's legacy format.

    Args:
        state: arrays by name.
        storage: module of the storage class, "torch.cuda" for a GPU run, "torch" for a CPU run.
        location: of the storages.
    """
    # The state dictionary: OrderedDict([[name, tensor], …]) under protocol 2.
    items = b""
    for key, (name, array) in enumerate(state.items()):
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
        persistent = _tuple_of(
            _string("storage"),
            _global(storage, "FloatStorage"),
            _string(str(key)),
            _string(location),
            _integer(array.size),
            b"N",
        )
        arguments = _tuple_of(
            persistent + b"Q",
            _integer(0),
            _tuple_of(*map(_integer, array.shape)),
            _tuple_of(*map(_integer, strides)),
        )
        tensor = _global("torch._utils", "_rebuild_tensor") + arguments + b"R"
        items += b"](" + _string(name) + tensor + b"e"
    pairs = b"](" + items + b"e"
    ordered = b"\x80\x02" + _global("collections", "OrderedDict") + pairs + b"\x85R."
    header = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2)
    header += pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    keys = b"\x80\x02](" + b"".join(_string(str(key)) for key in range(len(state))) + b"e."
    data = b"".join(
        struct.pack("<q", array.size) + np.ascontiguousarray(array, "<f4").tobytes() for array in state.values()
    )
    return header + ordered + keys + data


def arguments_bytes(values: dict[str, object], *, module: str = "argparse", name: str = "Namespace") -> bytes:
    """Returns an `argparse.Namespace` as Python 2's pickle wrote it: protocol 0, through `copy_reg._reconstructor`."""

    def plain(value: object) -> bytes:
        if isinstance(value, bool):
            return b"I01\n" if value else b"I00\n"
        if value is None:
            return b"N"
        if isinstance(value, int):
            return b"I%d\n" % value
        if isinstance(value, float):
            return b"F%r\n" % value
        return b"S" + repr(value).encode() + b"\n"

    state = b"(d" + b"".join(b"S" + repr(key).encode() + b"\n" + plain(value) + b"s" for key, value in values.items())
    return (
        b"ccopy_reg\n_reconstructor\n(c" + f"{module}\n{name}".encode() + b"\nc__builtin__\nobject\nNtR" + state + b"b."
    )
