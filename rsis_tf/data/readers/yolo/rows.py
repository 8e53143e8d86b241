"""A label file: one row per object, the number of its class and the corners of its outline."""

import dataclasses
import pathlib

from rsis_tf.errors import InputError, brief

_SLACK = 0.01
"""How far a corner may lie outside of the image, as a share of its sides; it is cut off there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One object.

    Attributes:
        class_number: number of its class, from 0.
        corners: x0, y0, x1, y1, … as shares of width and height.
        where: file and line, for messages.
    """

    class_number: int
    corners: list[float]
    where: str

    def polygon(self, shape: tuple[int, int]) -> list[float]:
        """Returns the corners in pixels of an image of shape (H, W)."""
        height, width = shape
        return [value * (height if place % 2 else width) for place, value in enumerate(self.corners)]


def read_rows(path: pathlib.Path) -> list[Row]:
    """Reads a label file; an image without one has no objects.

    Raises:
        InputError: if the file cannot be read, or at its first row that is no outline.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a label file. Received: {path} ({error})") from None
    return [_row(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1) if line.strip()]


def _row(line: str, where: str) -> Row:
    try:
        first, *corners = map(float, line.split())
    except ValueError:
        raise InputError(f"expected a row of numbers. Received: {brief(line)}, {where}") from None
    if not (first >= 0 and first.is_integer()):
        raise InputError(f"expected the number of a class first. Received: {first:g}, {where}")
    if len(corners) == 4:
        raise InputError(f"expected an outline, which instance segmentation needs. Received: a box, {where}")
    if len(corners) < 6 or len(corners) % 2:
        raise InputError(f"expected x and y of three or more corners. Received: {len(corners)} values, {where}")
    wrong = next((value for value in corners if not -_SLACK <= value <= 1 + _SLACK), None)
    if wrong is not None:
        raise InputError(f"expected shares of width and height, from 0 to 1. Received: {wrong:g}, {where}")
    return Row(class_number=int(first), corners=corners, where=where)
