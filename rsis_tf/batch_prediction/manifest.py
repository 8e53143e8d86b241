"""The list of files that a run wrote into its folder. It tells results of an earlier run from the user's own files."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterable

from rsis_tf.errors import InputError

NAME = "results.txt"
_HEAD = "# Files that rsis predict wrote into this folder; --overwrite removes them."
_ANY_HEAD = re.compile(r"# Files that .*predict wrote into this folder")
"""Earlier versions name the command differently."""


class Manifest:
    """`results.txt` in a folder of results: one path per line, relative to the folder.

    A file is listed before it is written, so that the list is complete even after an interruption.

    Args:
        folder: of the results; it need not exist.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.path = folder / NAME

    def read(self) -> list[pathlib.Path]:
        """Returns the files that an earlier run listed; none if there was no such run.

        Raises:
            InputError: for a list that cannot be read or names something outside the folder.
        """
        try:
            # A file name may be any bytes.
            lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InputError(f"expected the list of an earlier run's files. Received: {self.path} ({error})") from None
        if not _ANY_HEAD.match(lines[0]):
            raise InputError(f"expected the list of an earlier run's files. Received: {self.path}, which is not one")
        names = [pathlib.PurePath(re.sub(r"\\(.)", _unescaped, line)) for line in lines[1:] if line]
        for name in names:
            if name.is_absolute() or ".." in name.parts:
                raise InputError(f"expected files below {self._folder}. Received: {name} in {self.path}")
        return [self._folder / name for name in names]

    def remove_files(self, *, keep: Iterable[pathlib.Path] = ()) -> None:
        """Removes the files that an earlier run listed, except `keep`, then empty folders, then the list."""
        kept = {path.resolve() for path in keep}
        listed = self.read()
        for path in listed:
            if path.resolve() not in kept:
                path.unlink(missing_ok=True)
        folders = {parent for path in listed for parent in path.parents if self._folder in parent.parents}
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        self.path.unlink(missing_ok=True)

    def add(self, paths: Iterable[pathlib.Path]) -> None:
        """Lists files that are about to be written."""
        fresh = not self.path.exists()
        with self.path.open("a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            if fresh:
                file.write(_HEAD + "\n")
            for path in paths:
                name = path.relative_to(self._folder).as_posix()
                file.write(name.replace("\\", "\\\\").replace("\n", "\\n") + "\n")
            file.flush()
            os.fsync(file.fileno())


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
