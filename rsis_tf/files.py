"""Files and folders that are whole or not there: written beside their place, and renamed when complete."""

import contextlib
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, flush: bool = False) -> Iterator[pathlib.Path]:
    """Yields a free name beside `path`, keeps its suffix, and renames what was written there to `path` at the end.

    What was written may be a file or a folder. If the block fails, it is removed and `path` stays as it was. An
    `OSError` that names no file then names `path`.

    Args:
        path: the final name; its folder must exist.
        flush: whether the file must be on the disk, not in the system's memory, before it is renamed.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.partial{path.suffix}")
    remove(partial)
    try:
        yield partial
        if flush:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        if partial.is_dir() and path.is_dir():
            # A folder cannot be renamed onto another that holds something: the old one steps aside first.
            old = partial.with_name(f"{partial.name}.old")
            os.replace(path, old)
            try:
                os.replace(partial, path)
            except BaseException:
                os.replace(old, path)
                raise
            remove(old)
        else:
            os.replace(partial, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)  # a full disk is noticed without a name
        raise
    finally:
        remove(partial)


def write_text(path: str | os.PathLike, text: str, *, flush: bool = False) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with replacing(path, flush=flush) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | os.PathLike, content: bytes, *, flush: bool = False) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path, flush=flush) as partial:
        partial.write_bytes(content)


def write_json(path: str | os.PathLike, value: Any, *, flush: bool = False) -> None:
    """Writes plain values as JSON with an indent of 2, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", flush=flush)


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what writers that were killed left in a folder. No other process may be writing there."""
    for leftover in sorted(folder.glob(".*.partial*")):
        remove(leftover)
