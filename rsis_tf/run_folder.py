"""The folder of a run: claimed by one process, and left as it was found if the training cannot begin."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterator

from rsis_tf.config.checks import fitting
from rsis_tf.errors import InputError
from rsis_tf.files import LOCK, locked, remove, remove_leftovers, writing

SETTINGS = "config.json"
"""File of a run's folder that holds its settings."""

_BEGINNING = (SETTINGS, "stages.json", "state", "tensorboard", "wandb")
"""What a training writes before its first state is complete."""


@contextlib.contextmanager
def new_folder(out: str | os.PathLike[str] | None, name: str) -> Iterator[pathlib.Path]:
    """Makes a run's folder and holds its lock in the block.

    If the block fails with an `InputError` before the first state of the run is complete, everything that was made is
    removed.

    Args:
        out: a folder that is new or empty; None for the first of runs/NAME, runs/NAME-2, … that does not exist.
        name: NAME.

    Raises:
        InputError: if `out` is not a new or empty folder, or if another process holds it.
        WriteError: if the folder cannot be made or written.
    """
    with contextlib.ExitStack() as undo:
        folder = _made(out, name, undo)
        with locked(folder):
            if _content(folder):
                raise InputError(f"expected a folder that is new or empty. Received: --out {folder}")
            try:
                yield folder
            except InputError:
                if (folder / "state/state.json").is_file():
                    undo.pop_all()
                else:
                    _clear(folder)
                raise
        undo.pop_all()


def _made(out: str | os.PathLike[str] | None, name: str, undo: contextlib.ExitStack) -> pathlib.Path:
    """Makes the folder and returns it; `undo` removes it, and the folders above that had to be made, if empty."""
    for number in itertools.count(1):
        numbered = name if number == 1 else f"{name}-{number}"
        folder = pathlib.Path("runs") / numbered if out is None else pathlib.Path(fitting(str, out, "out"))
        new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        with writing(folder):
            try:
                # Without exist_ok, one process succeeds where several try to make the same folder.
                folder.mkdir(parents=True, exist_ok=out is not None)
            except FileExistsError:
                if out is None:
                    continue
                raise InputError(f"expected a folder that is new or empty. Received: --out {folder}") from None
        for path in reversed(new):
            undo.callback(_remove_if_empty, path)
        return folder
    raise AssertionError


def _content(folder: pathlib.Path) -> list[pathlib.Path]:
    with writing(folder):
        return [path for path in folder.iterdir() if path.name != LOCK]


def _clear(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        for name in _BEGINNING:
            remove(folder / name)
        remove_leftovers(folder)


def _remove_if_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # it holds something else
        folder.rmdir()
