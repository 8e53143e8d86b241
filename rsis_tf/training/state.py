"""The state of a run between two epochs: everything that a resumed training needs to end like an uninterrupted one.

The folder holds `epoch-N.npz` (weights, optimiser variables, states of the random generators after N epochs) and
`state.json`, which names the valid array file. A new array file is complete before `state.json` is replaced, and files
that it does not name are removed after that, so a process killed at any moment leaves one complete state.
"""

import dataclasses
import math
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Annotated, Any

import keras
import numpy as np

from rsis_tf.config import json_file
from rsis_tf.config.checks import Between, Matching, check_fields, require
from rsis_tf.errors import InputError, brief, reason_of
from rsis_tf.files import replacing, write_json, writing
from rsis_tf.models import RSIS
from rsis_tf.training.curriculum import Stage, StageEntry
from rsis_tf.training.data_record import SplitRecord

_FORMAT = 1
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, SyntaxError, MemoryError, NotImplementedError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)
"""What NumPy and zipfile raise for damaged archives."""
_ArrayFile = Annotated[str, Matching("epoch-[0-9]{1,7}[.]npz", "epoch-N.npz")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunState:
    """The plain values of a state.

    Attributes:
        epochs_done: number of finished epochs.
        stage: after them.
        stages: every stage so far.
        arrays: file of the arrays after these epochs.
        best_arrays: file of those with the lowest validation loss, if a later stage may go back to them.
        data: record of each split; None in a state of an earlier version.

    Raises:
        InputError: for a value of another type or out of range.
    """

    epochs_done: Annotated[int, Between(0, 1_000_000)]
    stage: Stage
    stages: tuple[StageEntry, ...]
    arrays: _ArrayFile
    best_arrays: _ArrayFile | None = None
    data: Mapping[str, SplitRecord] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        expected = f"epoch-{self.epochs_done}.npz"
        require(self.arrays == expected, "arrays", f"{expected} after {self.epochs_done} epochs", self.arrays)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, which has no infinity."""
        values = dataclasses.asdict(self)
        if self.stage.best_loss == math.inf:
            values["stage"]["best_loss"] = None
        return values | {"stages": [entry.to_dict() for entry in self.stages]}

    @classmethod
    def from_dict(cls, values: Any) -> "RunState":
        """Returns the state of plain values.

        Raises:
            InputError: if they are not what `to_dict` returns.
        """
        if not isinstance(values, dict):
            raise InputError(f"expected an object. Received: {brief(values)}")
        stage = values.get("stage")
        if isinstance(stage, dict) and stage.get("best_loss", 0) is None:
            values = values | {"stage": stage | {"best_loss": math.inf}}
        return json_file.from_dict(cls, values)


class StateFolder:
    """Reads and writes the state of a run.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def read(self) -> RunState | None:
        """Returns the state that was committed last, or None before the first commit.

        Raises:
            InputError: if the file is not what `commit` writes.
        """
        path = self.folder / "state.json"
        if not path.is_file():
            return None
        content = json_file.read_json(path, "the state of a run")
        try:
            number = content.get("format")
            require(type(number) is int and number == _FORMAT, "format", str(_FORMAT), number)
            return RunState.from_dict(content.get("state"))
        except InputError as error:
            raise InputError(f"expected the state of a run; {error} in {path}") from None

    def write_arrays(self, model: RSIS, name: str) -> None:
        """Writes the arrays of a compiled model to a file, which `commit` must be told to keep."""
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        arrays = {f"{i:05}": keras.ops.convert_to_numpy(v) for i, v in enumerate(state_variables(model))}
        with replacing(self.folder / name, flush=True) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    def commit(self, state: RunState) -> None:
        """Makes a state the valid one, and removes the array files that it does not name."""
        write_json(self.folder / "state.json", {"format": _FORMAT, "state": state.to_dict()}, flush=True)
        kept = {"state.json", state.arrays, state.best_arrays}
        with writing(self.folder):
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
        except _UNREADABLE as error:
            raise InputError(f"expected the arrays of a run's state. Received: {path} ({reason_of(error)})") from None
        # Text has a shape too. "V" are the bytes of a bfloat16.
        shapes = [tuple(array.shape) if array.dtype.kind in "biufV" else None for array in arrays]
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
