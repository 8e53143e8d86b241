"""Finding a dataset's files; the errors name the paths that were tried."""

import os
import pathlib
from collections.abc import Iterable, Sequence

from rsis_tf.errors import InputError, brief
from rsis_tf.files import is_file


class MissingSplitError(InputError):
    """The dataset's folder exists, but the split does not."""


class UnsplitError(MissingSplitError):
    """The dataset exists, but it is not divided into splits."""


def require_folder(path: str | pathlib.Path, expected: str, *, error: type[InputError] = InputError) -> pathlib.Path:
    """Returns `path` if it is a folder.

    Raises:
        InputError: (or the subclass given as `error`) if it is not.
    """
    path = pathlib.Path(path)
    try:
        found, reason = path.is_dir(), "a file" if path.exists() else "no such folder"
    except (OSError, ValueError) as caught:
        found, reason = False, getattr(caught, "strerror", None) or str(caught)
    if not found:
        raise error(f"expected {expected}. Received: {path} ({reason})")
    return path


def find(candidates: Sequence[pathlib.Path], expected: str, *, error: type[InputError] = InputError) -> pathlib.Path:
    """Returns the first of the candidates that exists, a file or a folder.

    Raises:
        InputError: (or the subclass given as `error`) if none exists; the message lists the candidates.
    """
    for path in candidates:
        if exists(path):
            return path
    raise error(f"expected {expected}. Received: nothing at {', '.join(map(str, candidates))}")


def exists(path: pathlib.Path) -> bool:
    """Whether there is a file or folder of that path; False for a path that none can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def outside_remarks(
    names: Sequence[str], files: Sequence[pathlib.Path], folders: Iterable[str | pathlib.Path], listed_in: pathlib.Path
) -> list[str]:
    """Returns a line for `rsis check` if names lead out of the dataset, as "../x.png" and "/x.png" do; else none.

    Links inside the dataset are not followed: where they lead is the choice of the user who made them.

    Args:
        names: as written in a file of the dataset.
        files: the path that each name leads to.
        folders: the folders of the dataset.
        listed_in: the file that holds the names.
    """
    inside = tuple({os.path.join(real(folder), "") for folder in folders for real in (os.path.abspath, _real)})
    outside = [name for name, path in zip(names, files, strict=True) if not os.path.abspath(path).startswith(inside)]
    if not outside:
        return []
    return [
        "expected images in the folder of the dataset. "
        f"Received: {brief(outside[0])}, which leads outside ({len(outside)} such names in {listed_in})"
    ]


def _real(path: str | pathlib.Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.path.abspath(path)


def read_names(path: pathlib.Path) -> list[str]:
    """Returns the lines of a text file, stripped; empty lines are left out.

    Raises:
        InputError: if the file cannot be read as text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a text file with one name per line. Received: {path} ({error})") from None


def check_files(paths: Iterable[pathlib.Path], listed_in: pathlib.Path) -> None:
    """Makes sure that every file exists.

    Args:
        paths: the files.
        listed_in: the file or folder that has an entry for each of them.

    Raises:
        InputError: naming the first missing file, the number of missing files, and `listed_in`.
    """
    missing = [path for path in paths if not is_file(path)]
    if missing:
        raise InputError(
            f"expected a file for every entry of {listed_in}. "
            f"Received: {missing[0]} (no such file; {len(missing)} missing in all)"
        )
