"""A disk that is full from a chosen operation on, for tests of what commands do then."""

import builtins
import contextlib
import errno
import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

CODES = (errno.ENOSPC, errno.EROFS)
KINDS = ("open", "write", "mkdir", "replace", "rename")


class FailingDisk:
    """Counts the operations that change a folder, and fails from one of them on, as a disk does that is full.

    An operation is: create a file or a folder, write the first content of a file, rename. Removing always works, and so
    does renaming after the failure.

    Args:
        monkeypatch: pytest's fixture.
        folder: other folders are not affected.
        kinds: the operations that count.

    Attributes:
        done: a text for each operation since `fail_at`: its kind and its path (of a rename, the new one).
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        folder: pathlib.Path,
        *,
        kinds: Collection[str] = KINDS,
    ) -> None:
        self._folder = str(folder)
        self._kinds = kinds
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
            return _Counted(real(file, mode, *args, **kwargs), lambda: self._operate("write", file))

        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(io, "open", opened)

    def fail_at(self, number: int | None) -> None:
        """Starts to count again; the operation with this number, from 0, and later ones that need room will fail."""
        self.done, self._fails_at = [], number

    def _counted(self, name: str, real: Callable) -> Callable:
        def operation(path: Any, *args: Any, **kwargs: Any) -> Any:
            # Nothing changes where a folder exists already.
            if self._inside(path) and not (name == "mkdir" and os.path.isdir(path)):
                self._operate(name, path if name == "mkdir" else args[0])
            return real(path, *args, **kwargs)

        return operation

    def _inside(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.abspath(path).startswith(self._folder)

    def _operate(self, name: str, path: Any) -> None:
        if name not in self._kinds:
            return
        number = len(self.done)
        self.done.append(f"{name} {path}")
        full = self._fails_at is not None and number > self._fails_at and name not in ("replace", "rename")
        if self._fails_at is not None and (full or number == self._fails_at):
            code = CODES[self._fails_at % len(CODES)]
            # The system does not name the file of a write.
            raise OSError(code, os.strerror(code), *([] if name == "write" else [os.fspath(path)]))


class _Counted:
    """A file that reports its first write."""

    def __init__(self, file: Any, report: Callable[[], None]) -> None:
        self._file, self._report = file, report
        self._written = False
        self._failure: OSError | None = None

    def write(self, content: Any) -> int:
        if not self._written:
            self._written = True
            try:
                self._report()
            except OSError as error:
                self._failure = error
                raise
        return self._file.write(content)

    def close(self) -> None:
        self._file.close()
        if self._failure is not None:  # a file tries again to write what is left in its buffer
            raise OSError(self._failure.errno, self._failure.strerror)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    """Mounts a disk in memory; skips the test where that is not allowed.

    Args:
        folder: which is created.
        size: for example "4m".
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield folder
    finally:
        # Lazily: TensorFlow keeps its files open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fail_each(
    disk: FailingDisk,
    folder: pathlib.Path,
    command: Callable[[], int],
    capsys: pytest.CaptureFixture,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[int], None] = lambda number: None,
) -> int:
    """Runs a command once for each operation, which fails, and checks what is left.

    Args:
        disk: of `folder`.
        folder: where the command writes.
        command: runs it, and returns its exit code.
        capsys: pytest's fixture.
        before: called before each run.
        after: called after each run that failed, with the number of the operation.

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
        after(number)
    return count
