"""From the paths that a user gives (files, folders, patterns, videos) to the files to predict, and names of results."""

import dataclasses
import glob
import os
import pathlib
from collections.abc import Sequence

from rsis_tf.batch_prediction.manifest import NAME, Manifest
from rsis_tf.errors import InputError
from rsis_tf.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An image or a video to predict.

    Attributes:
        path: of the file, as the user wrote it.
        name: of its results, with "/" if they go into a subfolder; for a video, the subfolder of its frames.
        below: the path below the common folder of all sources, with "/".
        problem: why there is nothing to read; None if there is.
    """

    path: pathlib.Path
    name: str = ""
    below: str = ""
    problem: str | None = None

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(asked: Sequence[str | pathlib.Path], *, out: pathlib.Path) -> list[Source]:
    """Lists the files to predict without duplicates, in the order asked for.

    Args:
        asked: files; folders, for all images and videos in them and in their subfolders, sorted; patterns with `*`,
            `?`, `[…]` or `**`, sorted. Hidden files in folders are left out, and so are earlier results; any other file
            gives a source with a problem.
        out: the folder of the results; folders and patterns leave out the files in it.

    Returns:
        Sources with different names: the name of the file without its suffix; if two files share that, the path below
        the common folder of all; if two share that too, the same with the suffix. A folder or pattern without an image
        gives a source with a problem; a missing file is left to the reader.

    Raises:
        InputError: if `out` is one of the folders asked for: results would be mixed with images.
    """
    found: list[Source] = []
    for text in map(str, asked):
        path = pathlib.Path(text)
        if path.is_dir():
            if os.path.realpath(path) == os.path.realpath(out):
                raise InputError(f"expected different folders for the results and the images. Received: {out}")
            files = _outside(_walk(path), out)
            problem = f"expected a folder with images ({', '.join(IMAGE_SUFFIXES)}). Received: {path}, which has none"
        elif not path.exists() and glob.has_magic(text):
            matches = [pathlib.Path(match) for match in sorted(glob.glob(text, recursive=True))]
            files = _outside([match for match in matches if match.is_file()], out)
            problem = f"expected a pattern that files match. Received: {text}"
        else:
            files = [path]
        sources = [Source(path=file, problem=_suffix_problem(file) if path.is_dir() else None) for file in files]
        if all(source.problem for source in sources):
            sources.append(Source(path=path, problem=problem))
        found += sources
    unique = {os.path.abspath(source.path): source for source in reversed(found)}
    sources = [source for source in found if unique[os.path.abspath(source.path)] is source]
    below = _below_common([source.path for source in sources if not source.problem])
    named = iter(zip(_names(below), below, strict=True))
    result = []
    for source in sources:
        if not source.problem:
            name, common = next(named)
            source = dataclasses.replace(source, name=name, below=common.as_posix())
        result.append(source)
    return result


def _walk(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files below a folder, sorted, without hidden files and without earlier results."""
    written = {path for list_file in folder.rglob(NAME) for path in _listed(list_file)}
    files = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path not in written and path.is_file():
            files.append(path)
    return sorted(files)


def _listed(list_file: pathlib.Path) -> list[pathlib.Path]:
    try:
        return [list_file, *Manifest(list_file.parent).read()]
    except InputError:  # the user's own file with the same name
        return []


def _suffix_problem(path: pathlib.Path) -> str | None:
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        return None
    return f"expected an image or a video (by its suffix). Received: {path}"


def _outside(files: list[pathlib.Path], folder: pathlib.Path) -> list[pathlib.Path]:
    parent = pathlib.Path(os.path.abspath(folder))
    return [file for file in files if parent not in pathlib.Path(os.path.abspath(file)).parents]


def _below_common(paths: Sequence[pathlib.Path]) -> list[pathlib.PurePath]:
    if not paths:
        return []
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [pathlib.PurePath(os.path.relpath(os.path.abspath(path), common)) for path in paths]


def naming_note(sources: Sequence[Source]) -> str | None:
    """Returns a line for the screen if results need longer names than those of the files, None otherwise."""
    for source in sources:
        if not source.problem and not source.is_video and source.name != source.path.stem:
            kept = "paths and suffixes" if source.name == source.below else "paths"
            return f"several inputs share a name, so results keep the {kept} of their inputs: {source.name}_…"
    return None


def _names(below: Sequence[pathlib.PurePath]) -> list[str]:
    """Returns names of results; a video keeps its suffix, so that no image shares the folder of its frames."""
    kept = [path.suffix.lower() in VIDEO_SUFFIXES for path in below]
    plain = [path.name if keep else path.stem for path, keep in zip(below, kept, strict=True)]
    with_folder = [path.with_name(name).as_posix() for path, name in zip(below, plain, strict=True)]
    for names in (plain, with_folder):
        if len({name.casefold() for name in names}) == len(names):  # some file systems ignore case
            return names
    return [path.as_posix() for path in below]
