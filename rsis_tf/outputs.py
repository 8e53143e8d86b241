"""Checks before any work that its results can be written where the user wants them."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from rsis_tf.errors import InputError, reason_of

_BLOCK = 4096
"""Bytes that are written on trial: a full disk often takes a name, but no content."""


def check_file(path: str | os.PathLike, *, option: str = "--out") -> pathlib.Path:
    """Checks that a file can be written; nothing is created.

    Args:
        path: the file; an existing one will be replaced.
        option: the option that names it, for messages.

    Returns:
        The path.

    Raises:
        InputError: if the path is a folder, or its folder does not exist or cannot be written to.
    """
    path = check_parent(path, option=option)
    if path.is_dir():
        raise InputError(f"expected {option} to be a file. Received: {path}, which is a folder")
    return path


def check_parent(path: str | os.PathLike, *, option: str = "--out") -> pathlib.Path:
    """Checks that the folder of a path exists and takes new files; nothing is created.

    Args:
        path: a file or a folder that need not exist.
        option: the option that names it, for messages.

    Returns:
        The path.

    Raises:
        InputError: if it is not so.
    """
    path = pathlib.Path(path)
    with _writable("a path", path, option):
        folder = path.absolute().parent
        if not folder.is_dir():
            raise InputError(f"expected {option} to be in an existing folder. Received: {path}")
        path.exists()  # fails for a name that is too long
        _write_on_trial(folder)
    return path


def check_folder(path: str | os.PathLike, *, option: str = "--out") -> pathlib.Path:
    """Checks that a folder can be written to, or created; nothing is created.

    Args:
        path: the folder, which need not exist, nor the folders above it.
        option: the option that names it, for messages.

    Returns:
        The path.

    Raises:
        InputError: if the path or one above it is a file, or the folder cannot be created or written to.
    """
    path = pathlib.Path(path)
    with _writable("a folder", path, option):
        existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        if not existing.is_dir():
            place = "a file" if existing == path.absolute() else f"inside the file {existing}"
            raise InputError(f"expected {option} to be a folder. Received: {path}, which is {place}")
        _write_on_trial(existing)
    return path


def make_folder(path: str | os.PathLike, *, option: str = "--out") -> pathlib.Path:
    """Creates a folder for results, and the folders above it.

    Returns:
        The path.

    Raises:
        InputError: as `check_folder`.
    """
    path = check_folder(path, option=option)
    with _writable("a folder", path, option):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def _writable(what: str, path: pathlib.Path, option: str) -> Iterator[None]:
    """Turns the system's errors in the block into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"expected {option} to be {what} that can be written to. Received: {path} ({reason_of(error)})"
        ) from None


def _write_on_trial(folder: pathlib.Path) -> None:
    """Writes a file without a name into a folder, so that nothing can be left behind."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_BLOCK))
        file.flush()
