"""A disk that refuses one chosen operation, for tests of what commands do then."""

import builtins
import errno
import io
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

CODES = (errno.ENOSPC, errno.EROFS)


class FailingDisk:
    """Counts the operations that change a folder, and lets one of them fail.

    An operation is: create a file or a folder, write the first content of a file, rename.

    Args:
        monkeypatch: pytest's fixture.
        folder: other folders are not affected.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> None:
        self._folder = str(folder)
        self.done: list[str] = []
        self._fails_at: int | None = None
        for module, name in ((os, "replace"), (os, "rename"), (os, "mkdir")):
            monkeypatch.setattr(module, name, self._counted(name, getattr(module, name)))
        real = builtins.open

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            # A temporary file comes with an opener: the trial before the work succeeds.
            if not set(mode) & set("wax+") or "opener" in kwargs or not self._inside(file):
                return real(file, mode, *args, **kwargs)
            self._operate("open", file)
            return _Counted(real(file, mode, *args, **kwargs), lambda: self._operate("write", None))

        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(io, "open", opened)

    def fail_at(self, number: int | None) -> None:
        """Starts to count again; the operation with this number, from 0, will fail."""
        self.done, self._fails_at = [], number

    def _counted(self, name: str, real: Callable) -> Callable:
        def operation(path: Any, *args: Any, **kwargs: Any) -> Any:
            # Nothing changes where a folder exists already.
            if self._inside(path) and not (name == "mkdir" and os.path.isdir(path)):
                self._operate(name, path)
            return real(path, *args, **kwargs)

        return operation

    def _inside(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.abspath(path).startswith(self._folder)

    def _operate(self, name: str, path: Any) -> None:
        number = len(self.done)
        self.done.append(f"{name} {path}")
        if number == self._fails_at:
            code = CODES[number % len(CODES)]
            raise OSError(code, os.strerror(code), *([] if path is None else [os.fspath(path)]))


class _Counted:
    """A file that reports its first write."""

    def __init__(self, file: Any, report: Callable[[], None]) -> None:
        self._file, self._report, self._written = file, report, False

    def write(self, content: Any) -> int:
        if not self._written:
            self._written = True
            self._report()
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def fail_each(
    disk: FailingDisk,
    folder: pathlib.Path,
    command: Callable[[], int],
    capsys: pytest.CaptureFixture,
    *,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Runs a command once for each operation, which fails, and checks what is left.

    Args:
        disk: of `folder`.
        folder: where the command writes.
        command: runs it, and returns its exit code.
        capsys: pytest's fixture.
        before: called before each run.

    Returns:
        The number of operations.
    """
    disk.fail_at(None)
    before()
    disk.fail_at(None)
    assert command() == 0
    count = len(disk.done)
    capsys.readouterr()
    for number in range(count):
        disk.fail_at(None)
        before()
        disk.fail_at(number)
        assert command() == 2, (number, disk.done)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, (disk.done, lines)
        assert lines[0].startswith("error: expected ")
        assert any(reason in lines[0] for reason in map(os.strerror, CODES)), lines
        assert str(folder) in lines[0], lines
        leftovers = [path for path in folder.rglob("*") if ".partial" in path.name]
        assert not leftovers, (disk.done, leftovers)
    return count
