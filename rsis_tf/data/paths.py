"""Finding a dataset's files; the errors name the paths that were tried."""

import pathlib
from collections.abc import Iterable, Sequence

from rsis_tf.errors import InputError


class MissingSplitError(InputError):
    """The dataset's folder exists, but the split does not."""


class UnsplitError(MissingSplitError):
    """The dataset exists, but it is not divided into splits."""


def require_folder(path: str | pathlib.Path, expected: str) -> pathlib.Path:
    """Returns `path` if it is a folder.

    Raises:
        InputError: if it is not.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise InputError(f"expected {expected}. Received: {path} ({'a file' if path.exists() else 'no such folder'})")
    return path


def find(candidates: Sequence[pathlib.Path], expected: str, *, error: type[InputError] = InputError) -> pathlib.Path:
    """Returns the first of the candidates that exists, a file or a folder.

    Raises:
        InputError: (or the subclass given as `error`) if none exists; the message lists the candidates.
    """
    for path in candidates:
        if path.exists():
            return path
    raise error(f"expected {expected}. Received: nothing at {', '.join(map(str, candidates))}")


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
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"expected a file for every entry of {listed_in}. "
            f"Received: {missing[0]} (no such file; {len(missing)} missing in all)"
        )
