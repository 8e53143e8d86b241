"""Paints leaves: the shadow on what lies below, then the blade with its midrib, side veins and curvature."""

import dataclasses

import numpy as np

from rsis_tf.data.readers.rosettes.leaf import MARGIN, NODES, Leaf, Outlines

_VEINS_FROM = 22.0
"""Length in pixels from which a leaf has side veins; on shorter ones they would be finer than a pixel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Light:
    """Where the light comes from.

    Attributes:
        direction: (y, x), unit vector in the image from the light to the plant.
        strength: 0 (diffuse light) … 1 (a lamp): contrast of shading and shadows.
        height: how far the shadow of the topmost leaf is displaced, as a share of its plant's radius.
    """

    direction: tuple[float, float]
    strength: float
    height: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draws a direction and a strength."""
    angle = rng.uniform(0, 2 * np.pi)
    return Light(
        direction=(float(np.sin(angle)), float(np.cos(angle))),
        strength=rng.uniform(0.25, 1.0),
        height=rng.uniform(0.02, 0.07),
    )


class Brush:
    """Paints the leaves of one plant, one after the other, the lowest first.

    Args:
        outlines: of the plant.
        light: for shading and shadows.
        rng: source of the differences between leaves.
    """

    def __init__(self, outlines: Outlines, light: Light, rng: np.random.Generator):
        plant, species, count = outlines.plant, outlines.plant.species, len(outlines.plant)
        self._outlines = outlines
        self._light = light
        self._veins = species.veins
        self._fold = species.fold
        young = (1 - plant.ages)[:, None]  # (N, 1)
        brightness = rng.uniform(0.86, 1.1, (count, 1)) + 0.14 * young
        blade = species.blade_colour * brightness + np.array([10.0, 6.0, -6.0]) * young  # (N, 3), young: yellower
        blade += rng.normal(0, 4.0, (count, 3))
        fading = rng.random((count, 1)) * (rng.random((count, 1)) < 0.06) * plant.ages[:, None]
        blade += fading * (np.array([175.0, 165.0, 80.0]) - blade)  # old leaves turn yellow
        stem = species.stem_colour * brightness
        mixed = outlines.stem[:, None, :]  # (N, 1, NODES)
        self._colour = (blade[..., None] * (1 - mixed) + stem[..., None] * mixed).astype(np.float32)  # (N, 3, NODES)
        self._inverse = 1 / np.maximum(outlines.half_width, 1)  # (N, NODES)
        curl = rng.uniform(-0.25, 0.25, (count, 1)) + 0.1
        droop = np.square(outlines.blade) - 0.3
        facing = np.cos(plant.angles) * light.direction[1] + np.sin(plant.angles) * light.direction[0]
        self._length = (1 + (curl * (0.5 + light.strength * facing[:, None])) * droop).astype(np.float32)
        self._facing = np.cos(plant.angles) * light.direction[0] - np.sin(plant.angles) * light.direction[1]
        self._veins_per_leaf = rng.uniform(5, 8, count)

    def shadow(self, canvas: np.ndarray, leaf: Leaf) -> None:
        """Darkens what lies below a leaf, displaced away from the light.

        Args:
            canvas: (3, H, W) float32, changed in place.
            leaf: in pixels.
        """
        plant, light = self._outlines.plant, self._light
        reach = light.height * float(plant.lengths[0]) * (1.3 - float(plant.ages[leaf.number]))
        rows, source_rows = _shifted(leaf.rows, round(reach * light.direction[0]), canvas.shape[1])
        columns, source_columns = _shifted(leaf.columns, round(reach * light.direction[1]), canvas.shape[2])
        depth = 0.35 + 0.3 * light.strength
        bright = leaf.distance[source_rows, source_columns] * (0.6 / MARGIN)
        bright += 0.4  # 0 well inside the leaf, 1 at the border of its box
        np.clip(bright, 0, 1, out=bright)
        bright *= depth
        bright += 1 - depth
        canvas[:, rows, columns] *= bright

    def paint(self, canvas: np.ndarray, leaf: Leaf) -> None:
        """Draws the leaf with a soft edge.

        Args:
            canvas: (3, H, W) float32, changed in place.
            leaf: in pixels.
        """
        number, node = leaf.number, leaf.node
        slope = leaf.across * self._inverse[number].take(node)  # (h, w): −1 at one margin, 1 at the other
        np.clip(slope, -1, 1, out=slope)
        steep = np.abs(slope)
        shade = self._length[number].take(node)
        shade += slope * (-self._fold * self._light.strength * float(self._facing[number]))
        shade -= steep * steep * (0.6 * self._fold)
        length = float(self._outlines.plant.lengths[number])
        if length >= _VEINS_FROM:
            steep *= -1.1
            steep += node * (float(self._veins_per_leaf[number]) / NODES)
            steep %= 1
            steep -= 0.5
            shade += np.abs(steep, out=steep) * (0.5 * self._veins)
        ridge = np.abs(leaf.across)
        ridge *= -1 / max(0.025 * length, 0.7)
        ridge += 1
        shade += np.maximum(ridge, 0, out=ridge) * self._veins
        cover = np.subtract(0.5, leaf.distance)
        np.clip(cover, 0, 1, out=cover)
        patch = canvas[:, leaf.rows, leaf.columns]
        colour = self._colour[number].take(node, axis=1)  # (3, h, w)
        colour *= shade
        colour -= patch
        colour *= cover
        patch += colour


def _shifted(part: slice, shift: int, side: int) -> tuple[slice, slice]:
    """Returns where a part of an axis lies after a shift, and which part of it remains inside."""
    start, stop = max(0, part.start + shift), min(side, part.stop + shift)
    stop = max(start, stop)
    return slice(start, stop), slice(start - shift - part.start, stop - shift - part.start)
