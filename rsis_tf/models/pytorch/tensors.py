"""The tensors and storages of `torch.save` files, and the functions that their pickles may call."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rsis_tf.models.pytorch.closed_pickle import Buildable, Name, PickleError, checked_key

MAX_AXES = 32
_BFLOAT16 = "bfloat16"
_STORAGES: dict[str, np.dtype | str] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class FileError(PickleError):
    """The file around the pickle is incomplete, or was not written by torch.save."""


@dataclasses.dataclass
class Storage:
    """A sequence of numbers that tensors are views of.

    Attributes:
        kind: a NumPy dtype, or "bfloat16", which NumPy lacks.
        count: how many numbers it has.
        values: (count,), None until they are read.
    """

    kind: np.dtype | str
    count: int
    values: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return self.count * (2 if self.kind == _BFLOAT16 else np.dtype(self.kind).itemsize)

    def fill(self, content: memoryview) -> None:
        """Reads the numbers from exactly `nbytes` bytes."""
        if len(content) != self.nbytes:
            raise FileError(f"a storage of {self.nbytes} bytes has {len(content)}")
        if self.kind == _BFLOAT16:  # the upper half of a float32
            self.values = (_from_bytes(content, np.dtype("<u2")).astype("<u4") << 16).view("<f4")
        else:
            self.values = _from_bytes(content, np.dtype(self.kind))


def _from_bytes(content: memoryview, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(content, dtype) if len(content) else np.empty(0, dtype)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Returns the numbers as a read-only view."""
        values = self.storage.values
        if values is None:
            raise FileError("a tensor refers to a storage that the file does not hold")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


class Parameter(Buildable):
    """A tensor in the wrapper that early versions saved it in."""

    def __init__(self, tensor: Any = None) -> None:
        self.tensor = tensor

    def set_state(self, state: Any) -> None:
        # (data, gradient, hooks, requires_grad, volatile); later (requires_grad, volatile, hooks) beside the data.
        if isinstance(state, tuple) and len(state) == 5:
            self.tensor = state[0]


class _OrderedDict(dict, Buildable):
    """A dictionary; its attributes (`_metadata`) are not needed."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__()
        for pair in items:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise PickleError("an ordered dictionary holds pairs")
            self[checked_key(pair[0])] = pair[1]

    def set_state(self, state: Any) -> None:
        pass


def view_of(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Checks that a view lies inside its storage and has no more numbers than the storage."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise PickleError("a tensor has a storage, a shape and strides")
    numbers = (offset, *shape, *strides)
    if any(type(number) is not int or not 0 <= number < 1 << 48 for number in numbers):
        raise PickleError("a tensor's offset, shape and strides are whole numbers from 0")
    if len(shape) != len(strides) or len(shape) > MAX_AXES:
        raise PickleError(f"a tensor has as many strides as axes, at most {MAX_AXES}")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if (count and last >= storage.count) or count > storage.count or offset > storage.count:
        raise PickleError(f"a tensor of shape {shape} does not lie in its storage of {storage.count} numbers")
    if not count:  # without numbers the strides have no meaning
        if math.prod(max(size, 1) for size in shape) >= 1 << 48:
            raise PickleError(f"a tensor has the shape {shape}")
        strides = (0,) * len(shape)
    return Tensor(storage, offset, shape, strides)


def _tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    if metadata:
        raise PickleError("a tensor has marks (such as conjugation) that are not read")
    return view_of(storage, offset, shape, strides)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _OrderedDict,
    "torch.Size": lambda sizes: tuple(sizes),
    "torch._utils._rebuild_tensor": view_of,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_parameter": lambda tensor, requires_grad, hooks: Parameter(tensor),
    "torch.nn.parameter.Parameter": Parameter,
}


def new_storage(kind: Any, count: Any) -> Storage:
    name = kind.name if isinstance(kind, Name) else type(kind).__name__
    known = _STORAGES.get(name.removeprefix("torch.cuda.").removeprefix("torch."))
    if known is None or not name.startswith("torch."):
        raise PickleError(f"the storage type {name} is not read")
    if type(count) is not int or not 0 <= count < 1 << 48:
        raise PickleError("a storage has a whole number of elements")
    return Storage(known, count)
