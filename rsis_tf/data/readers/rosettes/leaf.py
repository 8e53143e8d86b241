"""The outlines of a plant's leaves, and the pixels that each covers."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from rsis_tf.data.readers.rosettes.plant import Plant

MARGIN = 3.0
"""Pixels around the outline of a leaf that its box includes, for soft edges."""

NODES = 160
"""Places along a leaf at which its outline is computed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf in pixels, in the part of the image that holds it.

    Attributes:
        number: index of the leaf in its plant.
        rows, columns: the part of the image, (h, w) pixels.
        distance: (h, w) float32, distance to the outline in pixels, negative inside.
        node: (h, w) int32 in 0 … NODES − 1, the place along the leaf, for the tables of `Outlines`.
        across: (h, w) float32, signed distance to the midrib in pixels.
    """

    number: int
    rows: slice
    columns: slice
    distance: np.ndarray
    node: np.ndarray
    across: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """(h, w) bool, the pixels of the leaf as if nothing lay above it."""
        return self.distance < 0


class Outlines:
    """The outlines of all leaves of a plant, as tables along each leaf, and the drawing of them.

    Attributes:
        plant: the plant, with N leaves.
        along: (N, NODES) float32, distance from the plant's centre along the leaf in pixels.
        half_width: (N, NODES) float32, half the width of petiole and blade in pixels; beyond both ends, minus the
            distance to that end.
        stem: (N, NODES) float32 in 0 … 1: 1 on the petiole, 0 on the blade.
        blade: (N, NODES) float32 in 0 … 1, the place on the blade: 0 up to its base, 1 from its tip on.
    """

    def __init__(self, plant: Plant, rng: np.random.Generator):
        species = plant.species
        count = len(plant)
        self.plant = plant
        lengths = plant.lengths.astype(np.float32)[:, None]  # (N, 1)
        self._scale = (NODES - 1) / (plant.lengths + 2 * MARGIN)  # nodes per pixel
        nodes = np.arange(NODES, dtype=np.float32)
        self.along = nodes / self._scale.astype(np.float32)[:, None] - np.float32(MARGIN)  # (N, NODES)
        share = self.along / lengths
        petiole = np.clip(species.petiole * rng.uniform(0.85, 1.15, (count, 1)), 0.04, 0.55).astype(np.float32)
        self.blade = np.clip((share - petiole) / (1 - petiole), 0, 1)
        profile = self.blade**species.base * (1 - self.blade) ** species.tip
        peak = species.base / (species.base + species.tip)
        profile /= np.float32(peak**species.base * (1 - peak) ** species.tip)
        widths = species.width * rng.uniform(0.88, 1.12, (count, 1)).astype(np.float32)
        blade = profile * (0.5 * widths * (1 - petiole) * lengths)
        if species.teeth:
            blade *= 1 - np.float32(species.teeth) * np.abs((self.blade * 9) % 1 - 0.5) * 2
        stem = np.maximum(0.5 * species.petiole_width * lengths, 0.8) * (1.15 - 0.3 * share)
        stem = np.where((share > 0) & (share < petiole + 0.5 * (1 - petiole)), stem, 0)
        self.half_width = np.maximum(stem, blade)
        beyond = np.maximum(-self.along, self.along - lengths)
        self.half_width = np.where(beyond > 0, -beyond, self.half_width).astype(np.float32)
        self.stem = np.clip(1 - self.blade * 8, 0, 1)
        slope = np.diff(self.half_width, axis=1, prepend=self.half_width[:, :1]) * self._scale[:, None]
        slope = np.clip(slope, -1.5, 1.5)  # both ends of a leaf are steps or nearly so
        self._steepness = (1 / np.sqrt(1 + slope * slope)).astype(np.float32)  # from lateral to shortest distance
        bend = species.bend * rng.uniform(-1, 1, (count, 1)).astype(np.float32)
        self._midrib = (bend * lengths * share * share).astype(np.float32)  # lateral shift

    def leaves(self, size: tuple[int, int]) -> Iterator[Leaf]:
        """Yields the leaves that reach into an image of (H, W) pixels, the youngest first."""
        (top, left), plant = self.plant.centre, self.plant
        cos, sin = np.cos(plant.angles), np.sin(plant.angles)
        low, high = self._boxes(cos, sin)
        for number in reversed(range(len(plant))):
            y0, x0 = (max(0, int(value)) for value in np.floor(low[number]))
            y1, x1 = (min(side, int(value)) for value, side in zip(np.ceil(high[number]), size, strict=True))
            if y1 <= y0 or x1 <= x0:
                continue
            c, s = float(cos[number]), float(sin[number])
            y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - top)  # (h, 1)
            x = np.arange(x0, x1, dtype=np.float32)[None, :] + np.float32(0.5 - left)  # (1, w)
            scale = float(self._scale[number])
            node = c * scale * x + (s * scale * y + MARGIN * scale)  # (h, w)
            node = np.clip(node, 0, NODES - 1, out=node).astype(np.int32)
            across = c * y - s * x
            across -= self._midrib[number].take(node)
            distance = np.abs(across)
            distance -= self.half_width[number].take(node)
            distance *= self._steepness[number].take(node)
            yield Leaf(
                number=number,
                rows=slice(y0, y1),
                columns=slice(x0, x1),
                distance=distance,
                node=node,
                across=across,
            )

    def _boxes(self, cos: np.ndarray, sin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the smallest and the largest (y, x) of each leaf with its margin, (N, 2) each."""
        u = self.along[:, ::4]
        lateral = np.maximum(self.half_width[:, ::4], 0)
        corners = []
        for v in (self._midrib[:, ::4] - lateral, self._midrib[:, ::4] + lateral):
            y = u * sin[:, None] + v * cos[:, None] + self.plant.centre[0]
            x = u * cos[:, None] - v * sin[:, None] + self.plant.centre[1]
            corners.append(np.stack([y, x], axis=-1))  # (N, NODES / 4, 2)
        points = np.concatenate(corners, axis=1)
        return points.min(1) - MARGIN, points.max(1) + MARGIN
