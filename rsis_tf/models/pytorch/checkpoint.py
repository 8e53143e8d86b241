"""Reads the original's state dictionaries and arguments, without PyTorch and without running code from the files."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.models.pytorch import file as pytorch_file
from rsis_tf.models.pytorch.closed_pickle import Buildable, Foreign, Name, PickleError, load, shown
from rsis_tf.models.pytorch.tensors import Parameter, Tensor

_MAX_ARGUMENTS = 1 << 19
"""Bytes of the longest `args.pkl` that is read; the original's take 2 kB."""


def read_state(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dictionary, written by any version since 2016 under Python 2 or 3.

    Tensors of a GPU are read like others, and the prefix "module." of multi-GPU runs is removed.

    Args:
        path: of the `.pt` or `.pth` file.

    Returns:
        Read-only arrays by name; bfloat16 becomes float32.

    Raises:
        InputError: if the file is missing or damaged, or holds anything other than tensors by name.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"expected a PyTorch file. Received: {path}, which is not there")
    try:
        state = pytorch_file.read(path)
        if not isinstance(state, dict) or not state:
            raise InputError(f"expected tensors by name. Received: {path}, which holds {_kind(state)}")
        return _arrays(state, path)
    except (PickleError, OSError) as error:
        raise InputError(
            f"expected a PyTorch file of a state_dict(), which holds only tensors. Received: {path} ({error})"
        ) from None


def _arrays(state: dict[Any, Any], path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, value in state.items():
        tensor = value.tensor if isinstance(value, Parameter) else value
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            entry = f"'{shown(name)}'" if isinstance(name, str) else f"an entry under a {_kind(name)}"
            raise InputError(f"expected tensors by name. Received: {path}, where {entry} is {_kind(tensor)}")
        if (short := name.removeprefix("module.")) in arrays:
            raise InputError(
                f"expected each name once. Received: {path}, with {shown(short)} and module.{shown(short)}"
            )
        arrays[short] = tensor.array()
    return arrays


def read_arguments(path: str | pathlib.Path) -> dict[str, Any]:
    """Reads the original's `args.pkl`, an `argparse.Namespace` pickled by Python 2 or 3.

    `save_checkpoint` of the original pickles the whole namespace of a training run, in which `best_val_loss` is a
    `numpy.float64`. Scalars of plain NumPy types become Python's numbers.

    Returns:
        The arguments by name: None, bool, int, float, str, lists, tuples and dictionaries of them, and `Unread` where
        the file holds anything else. Nothing else is built, imported or run.

    Raises:
        InputError: if the file is missing or does not hold a namespace.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"expected the arguments of a run. Received: {path}, which is not there")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_ARGUMENTS + 1)
        if len(content) > _MAX_ARGUMENTS:
            raise PickleError(f"more than {_MAX_ARGUMENTS:,} bytes")
        namespace, _ = load(memoryview(content), functions=_FUNCTIONS, foreign=True)
    except (PickleError, OSError) as error:
        raise InputError(f"expected a pickled argparse.Namespace of plain values. Received: {path} ({error})") from None
    if not isinstance(namespace, _Namespace):
        raise InputError(f"expected an argparse.Namespace. Received: {_kind(namespace)} in {path}")
    return {
        name: value if (problem := _not_plain(value)) is None else Unread(problem)
        for name, value in namespace.values.items()
    }


class Unread:
    """Stands in for the value of an argument that is not a plain value.

    Attributes:
        kind: name of the class or function that it needs.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"a value that needs {self.kind}"


class _Namespace(Buildable):
    """Holds the values of an `argparse.Namespace`; the class of that name is never used."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise PickleError("a namespace has values by name")
        self.values.update(state)


def _reconstruct(cls: Any, base: Any, state: Any) -> Any:
    """Stands in for `copy_reg._reconstructor`, with which protocols 0 and 1 create objects."""
    if not isinstance(cls, Name):
        raise PickleError("the pickle creates an object of something that is not a class")
    known = cls.name == "argparse.Namespace" and isinstance(base, Name) and base.name in _OBJECT and state is None
    return _Namespace() if known else Foreign(cls.name)


class _DType(Buildable):
    """A plain NumPy type, whose state holds the byte order."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        # (version, byte order, subtype, names, fields, item size, alignment, flags)
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in _ORDERS or any(state[2:5]):
            raise PickleError("a NumPy type is not a plain one")
        if state[1] != "|":
            self.dtype = self.dtype.newbyteorder(state[1])


def _dtype(code: Any, align: Any = False, copy: Any = False) -> Any:
    """Stands in for `numpy.dtype`."""
    return _DType(code) if code in _DTYPES else Foreign("numpy.dtype")


def _scalar(dtype: Any, content: Any = None) -> Any:
    """Stands in for `numpy.core.multiarray.scalar`."""
    if isinstance(dtype, Foreign):
        return Foreign("numpy.core.multiarray.scalar")
    content = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(dtype, _DType) or not isinstance(content, bytes) or len(content) != dtype.dtype.itemsize:
        raise PickleError("a NumPy scalar is not of a plain type")
    return np.frombuffer(content, dtype.dtype)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands in for `_codecs.encode`, with which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise PickleError("bytes are written as text of another encoding")
    return text.encode("latin-1")


_OBJECT = ("__builtin__.object", "builtins.object")
_DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_ORDERS = ("<", ">", "|", "=")
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "argparse.Namespace": _Namespace,
    "copy_reg._reconstructor": _reconstruct,
    "copyreg._reconstructor": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _dtype,
}


def _not_plain(value: Any) -> str | None:
    """Returns what a value holds besides plain values, or None. Shared parts are checked once, so cycles end."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple | dict):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value if isinstance(value, list | tuple) else [*value, *value.values()])
        elif not (value is None or type(value) in (bool, int, float, str)):
            return _kind(value)
    return None


def _kind(value: Any) -> str:
    """Returns the type of a value: its name in the file if the value stands in for something, otherwise in Python."""
    if isinstance(value, Name | Foreign):
        return value.name
    if isinstance(value, dict):
        return "dict"
    return {_Namespace: "argparse.Namespace", _DType: "numpy.dtype"}.get(type(value), type(value).__name__)
