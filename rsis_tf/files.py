"""Files and folders that are whole or not there, and names from outside that stay inside their folder."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rsis_tf.errors import InputError, brief, reason_of

_NOT_IN_NAMES = re.compile(r"""[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\:*?"<>|]+""")
"""Separators, characters that Windows does not allow, and characters that must not reach a terminal."""
_DIGEST = re.compile("~[0-9a-f]{12}$")
"""End of the names that `safe_name` had to change."""
_LONGEST_NAME = 200
"""Bytes of a name from outside: file systems allow 255, of which `replacing` needs up to 50 for its temporary name."""
LOCK = ".lock"
"""File of a folder that a process holds while it writes the folder."""
_LOCK_TRIALS = 7
_LOCK_PAUSE = 0.05
"""Seconds between two trials to take a lock that is held."""


class WriteError(InputError, OSError):
    """A file or folder that cannot be written: a full or read-only disk, missing rights, a name that is too long."""


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Context for code that writes `path`, or something in it: turns the system's errors into a `WriteError`.

    Raises:
        WriteError: naming `path` and the reason. An `InputError`, and an error that names another file, stay as they
            are.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, InputError | BrokenPipeError) or not _concerns(error, pathlib.Path(path)):
            raise
        raise WriteError(f"expected a place that can be written. Received: {path} ({reason_of(error)})") from error


def _concerns(error: OSError, path: pathlib.Path) -> bool:
    """Whether an error names no file, or one in the folder of `path`."""
    named = [name for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
    folder = str(path.absolute().parent)
    return not named or any(os.path.abspath(name).startswith(folder) for name in named)


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, flush: bool = False) -> Iterator[pathlib.Path]:
    """Yields a free name beside `path`, keeps its suffix, and renames what was written there to `path` at the end.

    What was written may be a file or a folder. If the block fails, it is removed and `path` stays as it was. An
    `OSError` that names no file then names `path`.

    Args:
        path: the final name; its folder must exist.
        flush: whether the file must be on the disk, not in the system's memory, before it is renamed.

    Raises:
        WriteError: if it cannot be written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.partial{path.suffix}")
    with writing(path):
        try:
            remove(partial)
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
        finally:
            # On a read-only disk there is nothing to remove, and the first error is the one to report.
            with contextlib.suppress(OSError):
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


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a folder in the block: of the processes that write the folder, one runs at a time.

    The lock is the system's (`flock`) on a file in the folder, not the file itself, so it ends with the process that
    holds it, however that ends. The file of a killed process holds nothing and is used again.

    Args:
        folder: must exist.

    Raises:
        InputError: if another process, or another call in this one, holds the lock.
        WriteError: if the folder cannot be written.
    """
    path = pathlib.Path(folder) / LOCK
    with writing(folder):
        if not path.parent.is_dir():
            raise InputError(f"expected a folder. Received: {folder}")
        for _ in range(_LOCK_TRIALS):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                # A process that ends removes the file: one that was opened just before is no longer in the folder.
                if _take(descriptor) and _is_at(descriptor, path):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            time.sleep(_LOCK_PAUSE)
        else:
            raise InputError(
                f"expected a folder that no other process is writing. Received: {folder}, whose {LOCK} is held"
            )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Takes the system's lock of an open file, which ends when the file is closed; returns False if another has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        # A file system without locks, such as some network folders: there is nothing to hold.
    return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def leftovers(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns what killed writers of certain files left beside them, sorted; see `replacing`."""
    wanted = set(paths)
    return sorted(
        leftover
        for folder in {path.parent for path in wanted}
        for leftover in folder.glob(".*.partial*")
        if (match := _PARTIAL.fullmatch(leftover.name)) and folder / f"{match[1]}{match[2]}" in wanted
    )


_PARTIAL = re.compile(r"\.(.+)\.\d+-\d+\.partial(.*)", re.DOTALL)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what writers that were killed left in a folder. No other process may be writing there."""
    for leftover in sorted(folder.glob(".*.partial*")):
        remove(leftover)


def is_file(path: pathlib.Path) -> bool:
    """Returns whether there is such a file; False for a name that no file can have, such as one of 300 letters."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def safe_name(text: str, *, limit: int = 150) -> str:
    """Makes the name of a file from a text from outside, such as the id of an image.

    Separators and characters that are not allowed become "_", so the name has one part and is not "..". A text that
    had to be changed, or that ends as such a name does, gets "~" and a digest, so that different texts give different
    names.

    Args:
        text: any text; a text that is a usual name is returned as it is.
        limit: longest name in bytes; it leaves room for a prefix and a suffix.
    """
    name = _NOT_IN_NAMES.sub("_", text).strip(" ")
    name = re.sub(r"^\.+|\.+$", "_", name)
    if name == text and text and len(text.encode("utf-8")) <= limit and not _DIGEST.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name.encode('utf-8')[: limit - 13].decode('utf-8', 'ignore')}~{digest}"


def inside(folder: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the path `folder`/`name`, where the name comes from outside, if it stays in the folder.

    The name may have several parts ("city/image.png"). Links inside the folder are followed.

    Raises:
        InputError: if the name is absolute, empty or too long, has a part "..", or leads outside through a link.
    """
    folder = pathlib.Path(folder)
    # Windows separates parts at both; elsewhere a backslash is a character of a longer part.
    parts = [*re.split(r"[/\\]", name), *name.split("/")]
    try:
        wrong = (
            not all(0 < len(os.fsencode(part)) <= _LONGEST_NAME and part not in (".", "..") for part in parts)
            or "\0" in name
            or bool(pathlib.PureWindowsPath(name).drive)
            or not (folder / name).parent.resolve().is_relative_to(folder.resolve())
        )
    except (OSError, ValueError, RuntimeError):  # not a name of this file system, or a circle of links
        wrong = True
    if wrong:
        raise InputError(f"expected the name of a file inside {folder}. Received: {brief(name)}")
    return folder / name
