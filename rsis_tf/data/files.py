"""Looking for a dataset's files, with errors that name the place looked at."""

import pathlib
from collections.abc import Iterable, Sequence

from rsis_tf.errors import InputError

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class MissingSplitError(InputError):
    """The dataset's folder is there, but not what makes up the split asked for."""


class UnsplitError(MissingSplitError):
    """The dataset is there, but it is not divided into splits."""


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
    """Returns the first of the candidates that exists, file or folder.

    Raises:
        InputError: (or the kind of it given as `error`) if none does; the message lists where it was looked for.
    """
    for path in candidates:
        if path.exists():
            return path
    raise error(f"expected {expected}. Received: nothing at {', '.join(map(str, candidates))}")


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Image files right in a folder, by their ending and without hidden ones, sorted by name."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def read_names(path: pathlib.Path) -> list[str]:
    """The lines of a text file that are not empty, stripped.

    Raises:
        InputError: if the file cannot be read as text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a text file with one name per line. Received: {path} ({error})") from None


def check_files(paths: Iterable[pathlib.Path], listed_in: pathlib.Path) -> None:
    """Makes sure that every file exists.

    Raises:
        InputError: naming the first that is missing, how many are, and what asks for them.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"expected a file for every entry of {listed_in}. "
            f"Received: {missing[0]} (no such file; {len(missing)} missing in all)"
        )
