"""Reads the original's files without running what is in them: tensors by PyTorch, arguments by a strict unpickler."""

import argparse
import pathlib
import pickle
import re
from typing import Any

import numpy as np

from rsis_tf.errors import InputError


def read_state(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dictionary, written by any version from 0.1 (Python 2) on.

    Storages of a GPU are read to the CPU, and the prefix "module." that multi-GPU runs leave is removed.

    Args:
        path: of the `.pt` or `.pth` file.

    Returns:
        Arrays by name.

    Raises:
        InputError: if the file is missing, holds anything but tensors by name, or needs code to be read.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            'reading PyTorch files needs PyTorch: pip install "rsis_tf[torch]". Received: no module torch'
        ) from None
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"expected a PyTorch file. Received: {path}, which is not there")
    # Names that files of GPU runs use for their storages; plain data types, absent from PyTorch's own list.
    storages = [getattr(torch.cuda, name) for name in sorted(dir(torch.cuda)) if name.endswith("Storage")]
    try:
        with torch.serialization.safe_globals(storages):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises what its reader stumbled on: pickle, zip, EOF, runtime errors
        raise InputError(f"expected a PyTorch file of tensors alone. Received: {path} ({_reason(error)})") from None
    if not isinstance(state, dict) or not state:
        raise InputError(f"expected tensors by name. Received: {path}, which holds {type(state).__name__}")
    arrays = {}
    for name, value in state.items():
        name = name.decode() if isinstance(name, bytes) else name
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"expected tensors by name. Received: {path}, where {name!r} is {type(value).__name__}")
        arrays[name.removeprefix("module.")] = value.detach().numpy()
    return arrays


def _reason(error: Exception) -> str:
    """The first line of an error; for code that PyTorch refused to run, its name instead of PyTorch's advice."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return f"it asks to run {refused[1]}"
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_arguments(path: str | pathlib.Path) -> dict[str, Any]:
    """Reads the original's `args.pkl`, an `argparse.Namespace` pickled by Python 2 or 3.

    Returns:
        The arguments by name.

    Raises:
        InputError: if the file is missing or holds anything but a namespace of plain values.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            namespace = _NamespaceUnpickler(file, encoding="latin-1").load()
    except FileNotFoundError:
        raise InputError(f"expected the arguments of a run. Received: {path}, which is not there") from None
    except Exception as error:  # a broken pickle can raise nearly anything
        raise InputError(f"expected a pickled argparse.Namespace of plain values. Received: {path} ({error})") from None
    if not isinstance(namespace, argparse.Namespace):
        raise InputError(f"expected an argparse.Namespace. Received: {type(namespace).__name__} in {path}")
    arguments = vars(namespace)
    for name, value in arguments.items():
        if not _is_plain(value):
            raise InputError(f"expected plain values. Received: {name} of type {type(value).__name__} in {path}")
    return arguments


class _NamespaceUnpickler(pickle.Unpickler):
    """Knows one class, `argparse.Namespace`, and the helper by which Python 2 rebuilds it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("argparse", "Namespace"):
            return argparse.Namespace
        if (module, name) in (("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")):
            return _reconstruct
        if (module, name) in (("builtins", "object"), ("__builtin__", "object")):
            return object
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _reconstruct(cls: type, base: type, state: Any) -> argparse.Namespace:
    if cls is not argparse.Namespace or base is not object or state is not None:
        raise pickle.UnpicklingError("only argparse.Namespace can be rebuilt")
    return argparse.Namespace()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)
