"""The state of a run between two epochs: everything that is needed to go on as if nothing had happened.

The folder holds `epoch-N.npz` (weights, optimiser variables, states of the random generators after N epochs) and
`state.json`, which names the file that counts. A new array file is written whole before `state.json` is replaced, and
files that it does not name are removed after that, so a process killed at any moment leaves one complete state.
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from rsis_tf.errors import InputError
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
        """Returns what `commit` was given last, or None if there is nothing yet.

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
        """Writes the arrays of a compiled model to a file that `commit` is told to keep."""
        self.folder.mkdir(exist_ok=True)
        partial = self.folder / f".{name}.partial"
        with partial.open("wb") as file:
            np.savez(file, **{f"{i:05}": keras.ops.convert_to_numpy(v) for i, v in enumerate(state_variables(model))})
            _flush(file)
        os.replace(partial, self.folder / name)

    def commit(self, state: dict[str, Any], *, keep: Iterable[str]) -> None:
        """Makes a state the one that counts.

        Args:
            state: plain values for JSON.
            keep: array files that it refers to; all others are removed.
        """
        partial = self.folder / ".state.json.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "state": state}, file, indent=2)
            _flush(file)
        os.replace(partial, self.folder / "state.json")
        kept = {"state.json", *keep}
        for path in sorted(self.folder.iterdir()):
            if path.name not in kept:
                path.unlink()

    def load_arrays(self, model: RSIS, name: str, *, generators: bool = True) -> None:
        """Gives a compiled model the arrays of a file.

        Args:
            model: of the same configuration, compiled the same way.
            name: as given to `write_arrays`.
            generators: whether the random generators go back too.

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
    """Returns all that changes from step to step: generators' states first, then weights, then the optimisers'."""
    return [*_generators(model), *model.weights, *model.optimizer.variables]


def _generators(model: RSIS) -> list[Any]:
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
