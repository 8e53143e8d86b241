"""The list of files that a run wrote into its folder. It tells results of an earlier run from the user's own files."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterable
from typing import IO

from rsis_tf.errors import InputError
from rsis_tf.files import leftovers

try:
    import fcntl
except ImportError:  # on Windows, the exclusive creation of the list is the only guard
    fcntl = None  # type: ignore[assignment]

NAME = "results.txt"
_HEAD = "# Files that rsis predict wrote into this folder; --overwrite removes them."
_ANY_HEAD = re.compile(r"# Files that .*predict wrote into this folder")
"""Earlier versions name the command differently."""


class Manifest:
    """`results.txt` in a folder of results: one path per line, relative to the folder.

    A file is listed before it is written, so that the list is complete even after an interruption. While a run writes,
    the list is locked: no other run can write into the folder or remove its results.

    Args:
        folder: of the results; it need not exist.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.path = folder / NAME
        self._file: IO[str] | None = None

    def read(self) -> list[pathlib.Path]:
        """Returns the files that an earlier run listed; none if there was no such run.

        A line without an end was not written whole: its file does not exist.

        Raises:
            InputError: for a list that cannot be read or names something outside the folder.
        """
        try:
            # A file name may be any bytes.
            lines = self.path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InputError(f"expected the list of an earlier run's files. Received: {self.path} ({error})") from None
        if not lines and self.path.stat().st_size == 0:  # of a run that was killed when it began
            return []
        if not lines or not _ANY_HEAD.match(lines[0]):
            raise InputError(f"expected the list of an earlier run's files. Received: {self.path}, which is not one")
        texts = [re.sub(r"\\(.)", _unescaped, line.removesuffix("\r")) for line in lines[1:]]
        names = [pathlib.PurePath(text) for text in texts if text]
        for name in names:
            if name.is_absolute() or ".." in name.parts or "\0" in str(name):
                raise InputError(f"expected files below {self._folder}. Received: {name} in {self.path}")
        return [self._folder / name for name in names]

    def remove_files(self, *, keep: Iterable[pathlib.Path] = ()) -> None:
        """Removes the files that an earlier run listed, except `keep`, then empty folders, then the list.

        Of a run that was killed, what it had written of a file is removed too.
        """
        kept = {os.path.realpath(path) for path in keep}
        root = os.path.realpath(self._folder)
        listed = self.read()
        for path in (*listed, *leftovers(listed)):
            # A link to another folder may lie on the way.
            below = os.path.commonpath([root, os.path.realpath(path.parent)]) == root
            if below and os.path.realpath(path) not in kept:
                path.unlink(missing_ok=True)
        folders = {parent for path in listed for parent in path.parents if self._folder in parent.parents}
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        self.path.unlink(missing_ok=True)

    def start(self, *, overwrite: bool, keep: Iterable[pathlib.Path] = ()) -> None:
        """Claims the folder for one run and begins its list.

        Args:
            overwrite: remove the files of an earlier run.
            keep: files not to remove.

        Raises:
            InputError: if another run writes into the folder, or has written and `overwrite` is false.
            OSError: if the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as earlier:
            self._lock(earlier)
            if self.read() and not overwrite:
                raise InputError(f"{_ALONE}. Received: {self._folder}, where another run has written its results")
            self.remove_files(keep=keep)
        try:
            self._file = self.path.open("x", encoding="utf-8", errors="surrogateescape", newline="\n")
        except FileExistsError:
            raise InputError(f"{_ALONE}. Received: {self._folder}, where another run has just started") from None
        self._lock(self._file)
        try:
            self._file.write(_HEAD + "\n")
            self._file.flush()
        except OSError:  # a full disk takes the name, but not the content
            self.close()
            self.path.unlink()
            raise

    def _lock(self, file: IO) -> None:
        """Locks the list until the file is closed; the system also unlocks it when the process dies."""
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{_ALONE}. Received: {self._folder}, where another run is writing") from None
        except OSError:
            pass  # a file system without locks

    def add(self, paths: Iterable[pathlib.Path]) -> None:
        """Lists files that are about to be written, after `start`."""
        assert self._file is not None
        for path in paths:
            name = path.relative_to(self._folder).as_posix()
            self._file.write(name.translate(_ESCAPES) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the run: another one may claim the folder."""
        if self._file is not None:
            # `add` has written every line; after its failure, closing would try again.
            with contextlib.suppress(OSError):
                self._file.close()


_ALONE = "expected a folder for the results of one run"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r"}.get(match[1], match[1])
