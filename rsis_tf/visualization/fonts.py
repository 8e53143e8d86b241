"""Text in any script: each string, or each of its words, gets the first font that has all its characters.

The search order is: Pillow's own typeface (Latin), DejaVu Sans of matplotlib (Latin, Greek, Cyrillic, Arabic), the Noto
fonts of the extra `fonts` (`pip install "rsis_tf[fonts]"`), and the fonts of the operating system.
"""

import functools
import importlib.util
import os
import pathlib
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ImageDraw, ImageFont

Face = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PACKAGED = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("manimgx_fonts", "*.ttf"),
    ("noto_cjk_sans_otc", "*.ttc"),
)
"""Package → its font files. Packages are searched, not imported."""
_SKIPPED = ("bold", "black", "italic", "oblique", "mono", "condensed", "light", "thin", "emoji", "math", "symbol")
_MISSING = "\U0010fffd"
"""A character of a private-use area that no font has; drawing it shows the font's glyph for missing characters."""


def font(size: float) -> Face:
    """Returns Pillow's own typeface at a size in pixels, for digits and plain words."""
    return ImageFont.load_default(size=size)


def length(text: str, size: float) -> float:
    """Returns the width of a text in pixels, as `write` draws it."""
    return sum(face.getlength(part) for face, part in _runs(text, size))


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float, **options: Any) -> None:
    """Draws a text, starting at its left end.

    Args:
        draw: of the image to draw on.
        at: (x, y) of the left end.
        text: one line.
        size: in pixels.
        **options: of `ImageDraw.text`: `fill`, and an `anchor` that begins with "l".
    """
    x, y = at
    for face, part in _runs(text, size):
        draw.text((x, y), part, font=face, **options)
        x += face.getlength(part)


def drawable(text: str, otherwise: str) -> str:
    """Returns the text if installed fonts have its characters; otherwise warns, the first time, and returns another."""
    if all(_font_file(_characters(part)) is not None for part in text.split()):
        return text
    _warn()
    return otherwise


def _runs(text: str, size: float) -> list[tuple[Face, str]]:
    """Returns the text in parts, each with its typeface.

    Two spaces end a part, so that the parts of a line keep their order even if one is written from right to left. A
    part that no single font covers is divided into words.
    """
    parts = []
    for part in re.findall(r"\S+(?:\s\S+)*|\s+", text):
        parts += [part] if _font_file(_characters(part)) is not None else re.findall(r"\S+|\s+", part)
    files = [_font_file(_characters(part)) for part in parts]
    return [
        (ImageFont.truetype(file, size) if file else ImageFont.load_default(size=size), part)
        for file, part in zip(files, parts, strict=True)
    ]


@functools.cache
def _warn() -> None:
    print(
        "warning: no installed font has all characters of some names, so drawings show their numbers instead: "
        'pip install "rsis_tf[fonts]"',
        file=sys.stderr,
    )


def _characters(text: str) -> str:
    """Returns the characters that need a glyph, sorted, without duplicates."""
    return "".join(sorted({c for c in text if unicodedata.category(c) not in ("Zs", "Cc", "Cf")}))


@functools.cache
def _font_file(characters: str) -> str | None:
    """Returns the first font file that has all characters: "" for Pillow's own typeface, None if no file has them."""
    if _has(ImageFont.load_default(size=16), characters):
        return ""
    for path in _files():
        try:
            face = ImageFont.truetype(path, 16)
        except OSError:  # FreeType cannot read it
            continue
        if _has(face, characters):
            return path
    return None


def _has(face: Face, characters: str) -> bool:
    """Tells whether every character looks different from a missing one."""
    missing = _shape(face, _MISSING)
    return all(_shape(face, character) not in (missing, None) for character in characters)


def _shape(face: Face, character: str) -> tuple | None:
    try:
        mask = face.getmask(character)
    except (UnicodeEncodeError, OSError):  # a bitmap font with few characters
        return None
    return mask.size, np.asarray(mask, np.uint8).tobytes()


@functools.cache
def _files() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_packaged(), *_installed())))


def _packaged() -> Iterator[str]:
    for package, pattern in _PACKAGED:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            # A variable font starts with its regular weight.
            yield from sorted(str(p) for p in pathlib.Path(folder).glob(pattern) if not _is_special(p))


def _installed() -> Iterator[str]:
    """Yields the fonts of the operating system: sans serif first, then sorted by path."""
    found = [p for folder in _folders() for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc")]
    found = [path for path in found if not _is_special(path)]
    yield from map(str, sorted(found, key=lambda path: ("sans" not in path.name.lower(), str(path))))


def _is_special(path: pathlib.Path) -> bool:
    return any(word in path.name.lower() for word in _SKIPPED)


def _folders() -> list[pathlib.Path]:
    """Returns the font folders of fontconfig, macOS and Windows that exist."""
    home = pathlib.Path.home()
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
    folders = [pathlib.Path(part) / "fonts" for part in (own, *data.split(":"))] + [home / ".fonts"]
    folders += [home / "Library/Fonts", pathlib.Path("/Library/Fonts"), pathlib.Path("/System/Library/Fonts")]
    if "WINDIR" in os.environ:
        folders.append(pathlib.Path(os.environ["WINDIR"]) / "Fonts")
    if "LOCALAPPDATA" in os.environ:
        folders.append(pathlib.Path(os.environ["LOCALAPPDATA"]) / "Microsoft/Windows/Fonts")
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
