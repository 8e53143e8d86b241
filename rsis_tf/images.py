"""Reads images and label images from files. What 8-bit RGB cannot show is refused."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from rsis_tf.errors import InputError
from rsis_tf.files import is_file
from rsis_tf.runtime import BROKEN_IMAGE, require_eight_bits, resize_image, warn_of_pages

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Suffixes of the files in a folder that count as images. Some need a plugin of Pillow; `read_image` names it."""
LABEL_SUFFIXES = (".bmp", ".png", ".tif", ".tiff")
"""Suffixes of the files in a folder that count as label images: formats without loss."""

_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Beginning of Pillow's raw mode → the factor by which Pillow multiplies the values of 2 or 4 bits."""
_FAX_COMPRESSIONS = ("tiff_ccitt", "group3", "group4")
_LARGEST_ID = 65535
"""Largest id in a label image."""
_ORIENTATION = 0x0112
"""The EXIF tag that says how to turn an image before showing it."""
_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation → the operation that reverses it."""
_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
"""Pillow's name of a format → the bytes at the end of a complete file."""
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Number of channels by colour type."""
_PNG_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, step of rows and step of columns of the seven passes of an interlaced file."""
_UNPACKED_AT_ONCE = 1 << 20
_USUAL_RATIO = 100
"""A PNG file that is smaller than its pixels by a larger factor is decoded before its header is believed."""


def list_images(folder: pathlib.Path, *, recursive: bool = False) -> list[pathlib.Path]:
    """Returns the image files of a folder by their suffixes, sorted by path, without hidden files.

    Args:
        folder: which must exist.
        recursive: whether to include the folders below it, also those that links lead to.
    """
    found = _everything_below(folder) if recursive else folder.iterdir()
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))


def _everything_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields what a folder and the folders below it hold; each folder is entered once, even if links lead to it."""
    entered: set[str] = set()
    waiting = [folder]
    while waiting:
        # Links wait until the folders themselves were entered, whose paths are the better ones.
        for place, folders, files in os.walk(waiting.pop(0)):
            if (real := os.path.realpath(place)) in entered:
                folders.clear()
                continue
            entered.add(real)
            inside = pathlib.Path(place)
            yield from (inside / name for name in (*folders, *files))
            waiting += [path for name in folders if (path := inside / name).is_symlink()]
        waiting.sort()


def synthetic_image(size: tuple[int, int] = (240, 320), seed: int = 0) -> np.ndarray:
    """Returns an image made of coarse and fine noise with five bright discs, (H, W, 3) uint8.

    It depends on the size and the seed alone. Exporters compare on it when there is no other image.
    """
    rng = np.random.default_rng(seed)
    coarse = resize_image(rng.integers(40, 160, (6, 8, 3), np.uint8), size).astype(np.float32)
    image = coarse + rng.normal(0, 8, (*size, 1))
    y, x = np.mgrid[: size[0], : size[1]]
    for _ in range(5):
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.15) * min(size)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[disc] = 0.3 * image[disc] + rng.uniform(100, 180, 3)
    return image.clip(0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of an image file says, before its pixels are read.

    Attributes:
        stored_size: (height, width) of the pixels in the file.
        orientation: EXIF orientation, 1 … 8; 1 (shown as stored) if the file has none.
    """

    stored_size: tuple[int, int]
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether the orientation swaps the sides."""
        return self.orientation >= 5

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as `read_image` returns it, with the EXIF orientation applied."""
        return self.stored_size[::-1] if self.turned else self.stored_size


def read_header(path: str | pathlib.Path) -> Header:
    """Reads the size and the orientation of an image and checks that `read_image` accepts it.

    Pixels are decoded only if that is the only way to find out whether the file is complete: for a JPEG or PNG file
    without an end mark, for a PNG file that is very small for its number of pixels, and for every other format.

    Raises:
        InputError: as `read_image` does.
    """
    with _opened(path, "an image file") as image:
        _require_8_bit_mode(image, path)
        pixels = image.width * image.height
        if image.format == "JPEG2000" or (image.format == "PNG" and _size(path) * _USUAL_RATIO < pixels):
            _load_whole(image, path)
        tail = _tail(pathlib.Path(path))
        if image.format == "PNG" and b"eXIf" in tail:  # its EXIF data may lie behind the pixels
            image.load()
        orientation = _orientation(image)
        mark = _END_MARKS.get(image.format or "")
        if mark is None or mark not in tail:
            image.load()
        size = image.height, image.width
        # Pillow turns TIFF files itself.
        turned = image.format == "TIFF" and orientation >= 5
        return Header(stored_size=size[::-1] if turned else size, orientation=orientation)


def read_image(path: str | pathlib.Path, *, as_stored: bool = False) -> np.ndarray:
    """Reads an image as RGB.

    Greyscale, palette and CMYK images are converted. Transparency is dropped, not blended. The EXIF orientation is
    applied. An animation and a file of several pages give the first, with a warning.

    Args:
        path: of a file that Pillow can read (PNG, JPEG, TIFF, WebP, BMP, GIF …), 8 bits per channel.
        as_stored: ignore the EXIF orientation and return the pixels as the file stores them.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: if the file is missing, unreadable or truncated, or has 16-bit or floating-point channels.
    """
    if not as_stored:
        return read_reduced(path, None).pixels
    with _opened(path, "an image file") as image:
        _require_8_bit_mode(image, path)
        back = _TURN_BACK.get(_orientation(image)) if image.format == "TIFF" else None
        _load_whole(image, path)
        pixels = _as_rgb(image)
        # Pillow turns TIFF files itself.
        array = np.array(pixels if back is None else pixels.transpose(back))
        warn_of_pages(image, path)
        return array


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReducedImage:
    """An image, possibly decoded at a reduced scale.

    Attributes:
        pixels: (⌈H / reduction⌉, ⌈W / reduction⌉, 3) uint8, RGB.
        size: (H, W) of the image in the file, after the EXIF orientation.
        reduction: 1, 2, 4 or 8.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    reduction: int


def read_reduced(path: str | pathlib.Path, at_least: tuple[int, int] | None) -> ReducedImage:
    """Reads an image as `read_image` does, but a JPEG file at 1/2, 1/4 or 1/8 of its size if that is large enough.

    The JPEG decoder then skips the high frequencies of each block of 8×8 pixels, which saves most of its work.

    Args:
        path: see `read_image`.
        at_least: (h, w) that the result must have; None for the whole image.

    Raises:
        InputError: see `read_image`.
    """
    with _opened(path, "an image file") as image:
        _require_8_bit_mode(image, path)
        whole = image.size
        reduction = _reduction(image, at_least)
        if reduction > 1:
            image.draft(None, (whole[0] // reduction, whole[1] // reduction))
        _load_whole(image, path)
        turned = _orientation(image) >= 5
        pixels = np.array(_as_rgb(ImageOps.exif_transpose(image)))
        warn_of_pages(image, path)
        if reduction == 1:
            return ReducedImage(pixels=pixels, size=pixels.shape[:2], reduction=1)
        return ReducedImage(pixels=pixels, size=whole if turned else whole[::-1], reduction=reduction)


def read_label_image(path: str | pathlib.Path) -> np.ndarray:
    """Reads an image whose pixel values are ids: palette indices, or greyscale of 1 to 16 bits.

    The ids are the values in the file, however they are shown: ImageJ shows 0 as white in some TIFF files. Only for the
    fax compressions of TIFF, which have two values, is white 1. Of several pages the first is read, with a warning.

    Args:
        path: of the file; colours of a palette are ignored, its indices are the ids.

    Returns:
        (H, W) int32, 0 … 65535.

    Raises:
        InputError: if the file is missing, unreadable or truncated, or has colour channels or larger values.
    """
    with _opened(path, "a label image") as image:
        if image.mode not in _LABEL_MODES:
            raise InputError(f"expected a label image, palette or greyscale. Received: mode {image.mode} in {path}")
        raw_mode = _raw_mode(image)
        _load_whole(image, path)
        ids = _stored_values(image, raw_mode)
        if ids.size and not 0 <= ids.min() <= ids.max() <= _LARGEST_ID:
            raise InputError(f"expected ids 0 … {_LARGEST_ID}. Received: {ids.min()} … {ids.max()} in {path}")
        warn_of_pages(image, path)
        return ids.astype(np.int32)


def _raw_mode(image: Image.Image) -> str:
    """Returns Pillow's name for the pixels of a file that is not loaded yet, such as "L;4" for 4 bits of grey."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _stored_values(image: Image.Image, raw_mode: str) -> np.ndarray:
    """Returns the values of an image's file, (H, W) int64: Pillow spreads and inverts grey so that it can be shown."""
    values = np.array(image).astype(np.int64)
    if image.mode not in ("1", "L"):
        return values
    # Fax machines define 0 as white: there the inversion says nothing about ids.
    if "I" in raw_mode.partition(";")[2] and image.info.get("compression") not in _FAX_COMPRESSIONS:
        values = (1 if image.mode == "1" else 255) - values
    return values // _GREY_STEPS.get(raw_mode[:3], 1)


def _reduction(image: Image.Image, at_least: tuple[int, int] | None) -> int:
    """Returns the largest factor by which a JPEG decoder can divide the sides without falling below (h, w)."""
    if at_least is None or image.format not in ("JPEG", "MPO"):
        return 1
    width, height = image.size
    orientation = _orientation(image)
    needed_height, needed_width = at_least[::-1] if orientation >= 5 else at_least
    for factor in (8, 4, 2):
        # An incomplete last block is at the end of the stored rows; once the image is turned, it shifts the pixels.
        whole = orientation == 1 or (width % factor == 0 and height % factor == 0)
        if whole and width // factor >= needed_width and height // factor >= needed_height:
            return factor
    return 1


@contextlib.contextmanager
def _opened(path: str | pathlib.Path, expected: str) -> Iterator[Image.Image]:
    path = pathlib.Path(path)
    if not is_file(path):
        raise InputError(f"expected {expected}. Received: {path} (no such file)")
    is_heif = path.suffix.lower() in (".heic", ".heif")
    if is_heif and not _heif_reader():
        raise InputError(
            "reading HEIC needs pillow-heif (pip install pillow-heif), or convert the file to JPEG or PNG. "
            f"Received: {path}"
        )
    try:
        with Image.open(path) as image:
            if image.format == "EPS":  # a program, which Pillow gives to Ghostscript to run
                raise InputError(f"expected {expected}, not PostScript. Received: {path}")
            yield image
    except InputError:
        raise
    except BROKEN_IMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"expected {expected} that can be read. Received: {path} ({reason})") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    """Converts to RGB without transparency."""
    # Pillow warns of a palette with several transparent colours, whose transparency RGB would lose.
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _load_whole(image: Image.Image, path: str | pathlib.Path) -> None:
    """Decodes the pixels and makes sure that none are missing.

    Pillow refuses most files that were cut off. It leaves rows at 0 if a PNG file's compressed data ends properly but
    too early, and does not miss the data of a JPEG 2000 file.
    """
    image.load()
    if image.format == "JPEG2000":
        if not _codestream_ends(pathlib.Path(path)):
            raise InputError(f"expected a whole image file. Received: {path} (it was cut off)")
    elif image.format == "PNG":
        last_row = image.crop((0, image.height - 1, image.width, image.height))
        if (image.info.get("interlace") or not np.any(np.asarray(last_row))) and not _png_is_whole(path):
            raise InputError(f"expected a whole image file. Received: {path} (rows of pixels are missing)")


def _png_is_whole(path: str | pathlib.Path) -> bool:
    """Whether a PNG file's data holds all rows that its header announces; unpacks no more than that."""
    unpack = zlib.decompressobj()
    missing = 0
    with pathlib.Path(path).open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IHDR":
                width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", file.read(13))
                bits = depth * _PNG_CHANNELS[colour]
                for row, column, rows, columns in _PNG_PASSES if interlace else ((0, 0, 1, 1),):
                    across, down = -((column - width) // columns), -((row - height) // rows)
                    missing += down * (1 + (across * bits + 7) // 8) if across > 0 and down > 0 else 0
            elif kind == b"IDAT":
                packed = file.read(length)
                unpacked = _UNPACKED_AT_ONCE
                # A full buffer means that more may follow, although no packed byte is left.
                while (packed or unpacked == _UNPACKED_AT_ONCE) and missing > 0 and not unpack.eof:
                    unpacked = len(unpack.decompress(packed, _UNPACKED_AT_ONCE))
                    missing -= unpacked
                    packed = unpack.unconsumed_tail
            else:
                file.seek(length, 1)
            if missing <= 0 and kind == b"IDAT":
                return True
            file.seek(4, 1)
    return False


def _require_8_bit_mode(image: Image.Image, path: str | pathlib.Path) -> None:
    require_eight_bits(image, path)
    if image.mode not in _EIGHT_BIT_MODES:
        raise InputError(f"expected a greyscale, palette, RGB or CMYK image. Received: mode {image.mode} in {path}")


def _orientation(image: Image.Image) -> int:
    # Pillow's method for PNG files decodes all pixels to reach the data after them.
    orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _size(path: str | pathlib.Path) -> int:
    return pathlib.Path(path).stat().st_size


def _codestream_ends(path: pathlib.Path) -> bool:
    """Whether the pixels of a JPEG 2000 file end with their marker, which occurs nowhere else in them.

    A JP2 file may have other boxes around the pixels; those before them may contain the two bytes of the marker.
    """
    content = path.read_bytes()
    return b"\xff\xd9" in content[max(content.find(b"jp2c"), 0) :]


def _tail(path: pathlib.Path) -> bytes:
    """Returns the last 4 KB of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read()


@functools.cache
def _heif_reader() -> bool:
    """Registers pillow-heif with Pillow; returns False if it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
