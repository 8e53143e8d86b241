"""From the paths that a user gives (files, folders, patterns, videos) to the files to predict, and names of results."""

import dataclasses
import fnmatch
import glob
import hashlib
import os
import pathlib
import re
from collections.abc import Sequence

from rsis_tf.batch_prediction.manifest import NAME, Manifest
from rsis_tf.errors import InputError
from rsis_tf.images import IMAGE_SUFFIXES
from rsis_tf.runtime import reason_of

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a frame is in a sequence of frames: a video, or the images of a folder.

    Attributes:
        sequence: name of the results of the sequence; different for each.
        title: path of the video or the folder.
        position: number of the frame among those that are predicted, from 0.
        frame: number of the frame in the video.
        seconds: time of the frame; None if the file does not say.
        rate: predicted frames per second; None if the file does not say.
    """

    sequence: str
    title: str
    position: int = 0
    frame: int = 0
    seconds: float | None = None
    rate: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An image or a video to predict.

    Attributes:
        path: of the file, as the user wrote it.
        name: of its results, with "/" if they go into a subfolder; for a video, the subfolder of its frames.
        below: the path below the common folder of all sources, with "/".
        problem: why there is nothing to read; None if there is.
        place: in a sequence of frames, see `as_sequences`; None if identities are not followed.
    """

    path: pathlib.Path
    name: str = ""
    below: str = ""
    problem: str | None = None
    place: Place | None = None

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(asked: Sequence[str | pathlib.Path], *, out: pathlib.Path) -> list[Source]:
    """Lists the files to predict without duplicates, in the order asked for.

    Args:
        asked: files; folders, for all images and videos in them and in their subfolders, sorted; patterns with `*`,
            `?`, `[…]` or `**`, sorted. Hidden files and earlier results in folders are left out; a pattern takes all
            that it matches. Any other file gives a source with a problem.
        out: the folder of the results; folders and patterns leave out the files in it.

    Returns:
        Sources with different names: the name of the file without its suffix; if two files share that, the path below
        the common folder of all; if two share that too, the same with the suffix. A name of more than 200 bytes is cut
        and ends in a hash. A folder or pattern without an image gives a source with a problem, and so do an empty
        text, an address (`http://…`) and a folder that cannot be read; a missing file is left to the reader.

    Raises:
        InputError: if `out` is one of the folders asked for: results would be mixed with images.
    """
    found: list[Source] = []
    for text in map(str, asked):
        path = pathlib.Path(text)
        unreadable: list[Source] = []
        if not text:  # an unset variable of a shell; as a path it would be the current folder
            found.append(Source(path=path, problem="expected a path. Received: ''"))
            continue
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            found.append(Source(path=path, problem=f"expected a path (download the file first). Received: {text}"))
            continue
        if os.path.isdir(path):
            if os.path.realpath(path) == os.path.realpath(out):
                raise InputError(f"expected different folders for the results and the images. Received: {out}")
            files = _outside(_files_below(path, unreadable), out)
            problem = f"expected a folder with images ({', '.join(IMAGE_SUFFIXES)}). Received: {path}, which has none"
        elif not os.path.lexists(path) and glob.has_magic(text):
            files = _outside(_matches(path, unreadable), out)
            problem = f"expected a pattern that files match. Received: {text}"
        else:
            files = [path]
        sources = [Source(path=file, problem=_suffix_problem(file) if os.path.isdir(path) else None) for file in files]
        if all(source.problem for source in sources) and not unreadable:
            sources.append(Source(path=path, problem=problem))
        found += [*sources, *unreadable]
    unique = {os.path.abspath(source.path): source for source in reversed(found)}
    sources = [source for source in found if unique[os.path.abspath(source.path)] is source]
    below = _below_common([source.path for source in sources if not source.problem])
    named = iter(zip(_names(below), below, strict=True))
    result = []
    for source in sources:
        if not source.problem:
            name, common = next(named)
            source = dataclasses.replace(source, name=_shortened(name), below=common.as_posix())
        result.append(source)
    return result


def as_sequences(sources: Sequence[Source]) -> list[Source]:
    """Makes each video, and the images of each folder in their order, a sequence of frames.

    Returns:
        The sources with their places, those of a folder one after the other.
    """
    groups: dict[str, list[Source]] = {}
    for source in sources:
        alone = source.is_video or source.problem
        groups.setdefault(os.path.abspath(source.path if alone else source.path.parent), []).append(source)
    placed = []
    for group in groups.values():
        frames = [source for source in group if source.problem is None]
        placed += [source for source in group if source.problem is not None]
        for number, source in enumerate(frames):
            # Of the first, because two paths may spell the same folder.
            title = str(frames[0].path if frames[0].is_video else frames[0].path.parent)
            place = Place(sequence=frames[0].name, title=title, position=number, frame=number)
            placed.append(dataclasses.replace(source, place=place))
    return placed


def _files_below(folder: pathlib.Path, unreadable: list[Source]) -> list[pathlib.Path]:
    """Returns the files below a folder, sorted, without hidden files and without earlier results.

    Links to folders are not followed. A link that leads nowhere counts as a file, which the reader reports.
    """
    files = []
    for current in _folders(folder, unreadable, follow=False):
        files += [current / entry.name for entry in _entries(current, unreadable) if _is_file(entry)]
    written = {path for file in files if file.name == NAME for path in _listed(file)}
    return sorted(file for file in files if file not in written and not file.name.startswith("."))


def _matches(pattern: pathlib.Path, unreadable: list[Source]) -> list[pathlib.Path]:
    """Returns the files that a pattern matches, sorted, as `glob.glob` does; each folder is visited only once."""
    folders = {pathlib.Path(pattern.anchor)}
    *parts, last = pattern.relative_to(pattern.anchor).parts
    for part in parts:
        below: set[pathlib.Path] = set()
        for folder in folders:
            if part == "**":
                below.update(_folders(folder, unreadable, follow=True))
            elif glob.has_magic(part):
                below.update(folder / entry.name for entry in _matching(folder, part, unreadable) if _is_folder(entry))
            elif os.path.isdir(folder / part):
                below.add(folder / part)
        folders = below
    if last == "**":
        folders = {below for folder in folders for below in _folders(folder, unreadable, follow=True)}
    files: set[pathlib.Path] = set()
    for folder in folders:
        if glob.has_magic(last):
            files.update(folder / entry.name for entry in _matching(folder, last, unreadable) if _is_file(entry))
        elif os.path.lexists(folder / last):
            files.add(folder / last)
    return sorted(files, key=str)


def _matching(folder: pathlib.Path, part: str, unreadable: list[Source]) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder that one part of a pattern matches; hidden ones only if it starts with a dot."""
    hidden = part.startswith(".")
    entries = [entry for entry in _entries(folder, unreadable) if hidden or not entry.name.startswith(".")]
    return [entry for entry in entries if fnmatch.fnmatch(entry.name, "*" if part == "**" else part)]


def _folders(folder: pathlib.Path, unreadable: list[Source], *, follow: bool) -> list[pathlib.Path]:
    """Returns a folder and all folders below it without hidden ones; with `follow` through links, each folder once."""
    found, waiting, seen = [], [folder], set()
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:  # a link leads back
            continue
        seen.add(real)
        found.append(current)
        for entry in sorted(_entries(current, unreadable), key=lambda entry: entry.name, reverse=True):
            if not entry.name.startswith(".") and _is_folder(entry) and (follow or not entry.is_symlink()):
                waiting.append(current / entry.name)
    return found


def _entries(folder: pathlib.Path, unreadable: list[Source]) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder; if it cannot be read, adds it to `unreadable`."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        if all(source.path != folder for source in unreadable):
            problem = f"expected a folder that can be read. Received: {folder} ({reason_of(error)})"
            unreadable.append(Source(path=folder, problem=problem))
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link that leads nowhere; pipes and devices are not."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


def _listed(list_file: pathlib.Path) -> list[pathlib.Path]:
    try:
        return [list_file, *Manifest(list_file.parent).read()]
    except (InputError, OSError):  # the user's own file with the same name
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


def naming_notes(sources: Sequence[Source]) -> list[str]:
    """Returns a line for the screen if results need longer names than those of the files, and one if shorter ones."""
    notes = []
    images = [source for source in sources if not source.problem and not source.is_video]
    for source in images:
        if source.name != _shortened(_plain(source.path)):
            kept = "paths and suffixes" if source.name == _shortened(source.below) else "paths"
            notes.append(f"several inputs share a name, so results keep the {kept} of their inputs: {source.name}_…")
            break
    for source in images:
        if len(os.fsencode(source.path.stem)) > _LONGEST:
            notes.append(f"long names are cut to {_LONGEST} bytes and end in a hash: {source.name}_…")
            break
    return notes


_LONGEST = 200
"""Bytes in the name of a result without its ending. File systems take 255, and 50 are for ending and temporary name."""


def _shortened(name: str) -> str:
    """Returns the name of a result with a last part of at most `_LONGEST` bytes; a hash keeps cut names different."""
    folder, slash, last = name.rpartition("/")
    encoded = os.fsencode(last)
    if len(encoded) <= _LONGEST:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{folder}{slash}{encoded[: _LONGEST - 9].decode('utf-8', 'ignore')}~{digest}"


def _plain(path: pathlib.PurePath) -> str:
    """Returns the name of a file without its suffix; a video keeps it, and so does a file such as `..png`."""
    return path.name if path.suffix.lower() in VIDEO_SUFFIXES or path.stem in (".", "..") else path.stem


def _names(below: Sequence[pathlib.PurePath]) -> list[str]:
    """Returns names of results; a video keeps its suffix, so that no image shares the folder of its frames."""
    plain = [_plain(path) for path in below]
    with_folder = [path.with_name(name).as_posix() for path, name in zip(below, plain, strict=True)]
    for names in (plain, with_folder):
        if len({name.casefold() for name in names}) == len(names):  # some file systems ignore case
            return names
    return [path.as_posix() for path in below]
