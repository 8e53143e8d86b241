"""Large images: overlapping tiles, and one list of objects from those found in each tile. It imports numpy alone.

The network predicts each tile by itself, so an object near a border is found several times: whole in one tile, cut in
others. `merge` decides which of these pieces are objects. The rule, in this order:

1. A piece is *cut* if it comes closer than 1/64 of the tile's side to a border that is not the image's border.
2. A cut piece is dropped if another tile shows its whole extent, and so more of the object. That tile decides whether
   there is an object. All cut pieces of an object that is smaller than the overlap (less 1/32 of the side) end here.
3. The other cut pieces belong to objects larger than the overlap. Two of them are joined if their masks agree where
   both tiles see them (IoU of at least 1/2).
4. Of two pieces from different tiles that share half of the smaller one's pixels, one remains: a whole piece rather
   than a cut one, then the one farther from the borders of its tile, where the network has seen more around it.

The first two are StarDist's rule of ownership (`predict_instances_big`) without its condition that no object exceeds
the overlap. The measure of the fourth, intersection over the smaller area, is that of SAHI's merging of slices.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the image; x1 and y1 are exclusive."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an image that the network predicts by itself.

    Attributes:
        box: the part.
        frame: (h, w) of what the network is shown; if the box is smaller, the rest is black.
    """

    box: Box
    frame: tuple[int, int]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Returns the tile of an (H, W, 3) image, (h, w, 3)."""
        x0, y0, x1, y1 = self.box
        part = image[y0:y1, x0:x1]
        down, right = self.frame[0] - part.shape[0], self.frame[1] - part.shape[1]
        return np.pad(part, ((0, down), (0, right), (0, 0))) if down or right else part


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What was found in one tile: an object, or a part of it.

    Attributes:
        mask: (h, w) bool, without empty rows and columns at its edges.
        corner: (x0, y0) of the mask in the image.
        tile: number of the tile.
        source: what the caller wants back.
    """

    mask: np.ndarray
    corner: tuple[int, int]
    tile: int
    source: Any = None

    @property
    def box(self) -> Box:
        (x, y), (height, width) = self.corner, self.mask.shape
        return x, y, x + width, y + height

    def inside(self, box: Box) -> np.ndarray:
        """Returns the mask within a box that overlaps the piece's own."""
        (x, y), (x0, y0, x1, y1) = self.corner, box
        return self.mask[max(y0 - y, 0) : max(y1 - y, 0), max(x0 - x, 0) : max(x1 - x, 0)]


def grid(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> list[Tile]:
    """Covers an image with tiles of one size.

    Args:
        size: (H, W) of the image.
        tile: (h, w).
        overlap: pixels that neighbours share at least; below the sides of the tile.

    Returns:
        The tiles, row by row. They are spread evenly, so that the overlap is larger where they do not fit exactly.
    """
    return list(_covering((0, 0, size[1], size[0]), tile, overlap, frame=tile))


def quarters(tile: Tile, overlap: int) -> list[Tile]:
    """Covers a tile that holds too many objects with four smaller ones, which the network sees at the same scale.

    Args:
        tile: the tile.
        overlap: pixels that neighbours share at least.
    """
    x0, y0, x1, y1 = tile.box
    half = -(-(y1 - y0 + overlap) // 2), -(-(x1 - x0 + overlap) // 2)
    return list(_covering(tile.box, half, overlap, frame=tile.frame))


def _covering(box: Box, tile: tuple[int, int], overlap: int, *, frame: tuple[int, int]) -> Iterator[Tile]:
    columns, rows = (_starts(box[0], box[2], tile[1], overlap), _starts(box[1], box[3], tile[0], overlap))
    for y in rows:
        for x in columns:
            yield Tile(box=(x, y, min(x + tile[1], box[2]), min(y + tile[0], box[3])), frame=frame)


def _starts(low: int, high: int, side: int, overlap: int) -> list[int]:
    length = high - low
    if length <= side:
        return [low]
    count = -(-(length - overlap) // (side - overlap))
    return [low + round(number * (length - side) / (count - 1)) for number in range(count)]


def merge(pieces: Sequence[Piece], tiles: Sequence[Tile], size: tuple[int, int]) -> list[Piece]:
    """Returns each object once, by the rule at the top of this file.

    Args:
        pieces: of all tiles, tile by tile.
        tiles: the tiles that the numbers of the pieces mean.
        size: (H, W) of the image.

    Returns:
        The objects in the order of the pieces. A joined object has the number and the source of its largest piece.
    """
    cores = _cores(tiles, size)  # (tiles, 4)
    boxes = np.array([piece.box for piece in pieces], float).reshape(-1, 4)
    numbers = np.array([piece.tile for piece in pieces], int)
    room = _room(boxes, cores[numbers]) if len(pieces) else np.zeros(0)  # negative for a cut piece
    decided_elsewhere = [
        distance < 0 and bool((_room(box, cores) >= 0).any()) for box, distance in zip(boxes, room, strict=True)
    ]
    left = [n for n in range(len(pieces)) if not decided_elsewhere[n]]
    found, distances = _joined([pieces[n] for n in left], [float(room[n]) for n in left], tiles)
    kept = _without_duplicates(found, distances)
    return [found[n] for n in kept]


def _cores(tiles: Sequence[Tile], size: tuple[int, int]) -> np.ndarray:
    """(tiles, 4): the boxes that whole pieces of a tile lie in; they have no end at the border of the image."""
    rows = []
    for tile in tiles:
        x0, y0, x1, y1 = tile.box
        across, down = max(1, tile.frame[1] // 64), max(1, tile.frame[0] // 64)
        low = x0 + across if x0 > 0 else -np.inf, y0 + down if y0 > 0 else -np.inf
        high = x1 - across if x1 < size[1] else np.inf, y1 - down if y1 < size[0] else np.inf
        rows.append((*low, *high))
    return np.array(rows, float).reshape(-1, 4)


def _room(boxes: np.ndarray, cores: np.ndarray) -> np.ndarray:
    """Smallest distance of boxes (…, 4) to the ends of cores (…, 4); negative if a box sticks out."""
    ends = np.concatenate([boxes[..., :2] - cores[..., :2], cores[..., 2:] - boxes[..., 2:]], axis=-1)
    return ends.min(axis=-1)


def _joined(
    pieces: list[Piece], room: list[float], tiles: Sequence[Tile], *, agreement: float = 0.5
) -> tuple[list[Piece], list[float]]:
    """Joins the parts of objects that are larger than the overlap."""
    group = list(range(len(pieces)))

    def first(number: int) -> int:
        while group[number] != number:
            number = group[number]
        return number

    near = _Neighbours()
    for number, piece in enumerate(pieces):
        if room[number] >= 0:
            continue
        for other in near.of(piece.box):
            if pieces[other].tile != piece.tile and _agree(piece, pieces[other], tiles) >= agreement:
                low, high = sorted((first(other), first(number)))
                group[high] = low
        near.add(piece.box, number)
    members: dict[int, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        members.setdefault(first(number), []).append(piece)
    return [_union(parts) for parts in members.values()], [room[number] for number in members]


def _agree(one: Piece, other: Piece, tiles: Sequence[Tile]) -> float:
    """Intersection over union of two masks within both tiles."""
    shared = _intersection(tiles[one.tile].box, tiles[other.tile].box)
    if shared is None:
        return 0.0
    both = _shared_pixels(one, other)
    either = np.count_nonzero(one.inside(shared)) + np.count_nonzero(other.inside(shared)) - both
    return both / either if either else 0.0


def _union(parts: list[Piece]) -> Piece:
    if len(parts) == 1:
        return parts[0]
    largest = max(parts, key=lambda piece: np.count_nonzero(piece.mask))
    boxes = np.array([piece.box for piece in parts])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for piece in parts:
        left, top, right, bottom = piece.box
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= piece.mask
    return dataclasses.replace(largest, mask=mask, corner=(x0, y0))


def _without_duplicates(pieces: list[Piece], room: list[float], *, share: float = 0.5) -> list[int]:
    """Returns the numbers of the pieces that remain, sorted."""
    areas = [np.count_nonzero(piece.mask) for piece in pieces]
    near, kept = _Neighbours(), []
    for number in sorted(range(len(pieces)), key=lambda n: (room[n] < 0, -room[n], n)):
        piece = pieces[number]
        if not any(
            pieces[other].tile != piece.tile
            and _shared_pixels(piece, pieces[other]) >= share * min(areas[number], areas[other])
            for other in near.of(piece.box)
        ):
            near.add(piece.box, number)
            kept.append(number)
    return sorted(kept)


def _shared_pixels(one: Piece, other: Piece) -> int:
    box = _intersection(one.box, other.box)
    return 0 if box is None else int(np.count_nonzero(one.inside(box) & other.inside(box)))


def _intersection(one: Box, other: Box) -> Box | None:
    box = max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
    return box if box[0] < box[2] and box[1] < box[3] else None


class _Neighbours:
    """Finds boxes near a box in a time that does not depend on the number of all boxes: they lie in square cells."""

    _SIDE = 64

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[int]] = {}

    def _places(self, box: Box) -> Iterator[tuple[int, int]]:
        x0, y0, x1, y1 = (side // self._SIDE for side in (box[0], box[1], box[2] - 1, box[3] - 1))
        return ((x, y) for y in range(y0, y1 + 1) for x in range(x0, x1 + 1))

    def add(self, box: Box, number: int) -> None:
        for place in self._places(box):
            self._cells.setdefault(place, []).append(number)

    def of(self, box: Box) -> list[int]:
        """Returns the numbers of the boxes that share a cell with a box, sorted."""
        return sorted({number for place in self._places(box) for number in self._cells.get(place, ())})
