"""The state of a run between two epochs: everything that a resumed training needs to end like an uninterrupted one.

The folder holds `epoch-N.npz` (weights, optimiser variables, states of the random generators after N epochs) and
`state.json`, which names the valid array file. A new array file is complete before `state.json` is replaced, and files
that it does not name are removed after that, so a process killed at any moment leaves one complete state.
"""

import json
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.files import replacing, write_json
from rsis_tf.models import RSIS

_FORMAT = 1


class StateFolder:
    """Reads and writes the state of a run.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Any] | None:
        """Returns the state that was committed last, or None before the first commit.

        Raises:
            InputError: if the file is not what `commit` writes.
        """
        path = self.folder / "state.json"
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} instead of {_FORMAT}")
            return content["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"expected the state of a run. Received: {path} ({error})") from None

    def write_arrays(self, model: RSIS, name: str) -> None:
        """Writes the arrays of a compiled model to a file, which `commit` must be told to keep."""
        self.folder.mkdir(exist_ok=True)
        arrays = {f"{i:05}": keras.ops.convert_to_numpy(v) for i, v in enumerate(state_variables(model))}
        with replacing(self.folder / name, flush=True) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    def commit(self, state: dict[str, Any], *, keep: Iterable[str]) -> None:
        """Makes a state the valid one.

        Args:
            state: plain values for JSON.
            keep: array files that it refers to; all others are removed.
        """
        write_json(self.folder / "state.json", {"format": _FORMAT, "state": state}, flush=True)
        kept = {"state.json", *keep}
        for path in sorted(self.folder.iterdir()):
            if path.name not in kept:
                path.unlink()

    def load_arrays(self, model: RSIS, name: str, *, generators: bool = True) -> None:
        """Loads the arrays of a file into a compiled model.

        Args:
            model: of the same configuration, compiled the same way.
            name: as given to `write_arrays`.
            generators: whether the states of the random generators are loaded too.

        Raises:
            InputError: if the file is missing, broken or of another model.
        """
        path = self.folder / name
        variables = state_variables(model)
        try:
            with np.load(path) as file:
                arrays = [file[key] for key in sorted(file.files)]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"expected the arrays of a run's state. Received: {path} ({error})") from None
        shapes = [tuple(array.shape) for array in arrays]
        expected = [tuple(variable.shape) for variable in variables]
        if shapes != expected:
            raise InputError(
                f"expected the state of a run with this configuration and version of rsis_tf ({len(expected)} arrays). "
                f"Received: {len(shapes)} arrays, or other shapes, in {path}"
            )
        count = len(_generators(model))
        for i, (variable, array) in enumerate(zip(variables, arrays, strict=True)):
            if generators or i >= count:
                variable.assign(array)


def state_variables(model: RSIS) -> list[Any]:
    """Returns everything that a training step changes: generators' states first, then weights, then the optimisers'."""
    return [*_generators(model), *model.weights, *model.optimizer.variables]


def _generators(model: RSIS) -> list[Any]:
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
