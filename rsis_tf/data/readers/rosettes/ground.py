"""What lies below a plant: peat, soil, sand or gravel with moss and perlite, in a round or square pot on a tray."""

from collections.abc import Callable

import numpy as np

from rsis_tf.data.readers.generated import interpolation

Array = np.ndarray

_SOILS = np.array([[58, 46, 38], [92, 72, 54], [112, 92, 72], [140, 124, 102], [84, 82, 80], [44, 42, 44]], np.float32)
"""RGB of peat, two soils, sand, grey substrate and wet peat; an image mixes two of them."""

_MOSS = np.array([96, 104, 52], np.float32)
_PERLITE = np.array([205, 202, 196], np.float32)
_PLASTICS = np.array([[38, 38, 42], [70, 72, 76], [120, 80, 60], [60, 70, 96], [190, 190, 186]], np.float32)
"""RGB of pots and trays: black, grey, terracotta, blue and white."""

_COARSE, _MIDDLE, _FINE = 4, 9, 24
"""Nodes per side of the noise from which textures are mixed."""


class Ground:
    """Paints grounds of one size.

    Args:
        size: (H, W) in pixels.
    """

    def __init__(self, size: tuple[int, int]):
        self.size = size
        height, width = size
        side = min(size)
        self._y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / side)[:, None]  # (H, 1)
        self._x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / side)[None, :]  # (1, W)
        counts = {nodes: min(nodes, side // 3) for nodes in (_COARSE, _MIDDLE, _FINE)}
        self._weights = {
            nodes: (interpolation(count, height), interpolation(count, width).T) for nodes, count in counts.items()
        }

    def paint(self, rng: np.random.Generator) -> Array:
        """Returns (3, H, W) float32, in 0 … 255 apart from a few brighter pixels."""
        relief = self._stones(rng) if rng.random() < 0.2 else self._crumbs(rng)
        first, second = _SOILS[rng.integers(len(_SOILS), size=2)]
        mixed = self._noise(_COARSE, rng)
        mixed *= 0.25
        mixed += 0.5
        np.clip(mixed, 0, 1, out=mixed)
        soil = np.empty((3, *self.size), np.float32)
        for channel in range(3):
            np.multiply(mixed, second[channel] - first[channel], out=soil[channel])
            soil[channel] += first[channel]
        if rng.random() < 0.5:
            self._grow_moss(soil, relief, rng)
        soil *= relief
        if rng.random() < 0.5:
            self._strew_perlite(soil, rng)
        if rng.random() < 0.6:
            self._set_in_pot(soil, rng)
        return soil

    def _noise(self, nodes: int, rng: np.random.Generator) -> Array:
        """Returns (H, W) float32: smooth noise, normally distributed at the nodes."""
        rows, columns = self._weights[nodes]
        return rows @ rng.standard_normal((rows.shape[1], columns.shape[0]), np.float32) @ columns

    def _crumbs(self, rng: np.random.Generator) -> Array:
        """Returns (H, W) float32, the brightness of crumbly soil around 1."""
        height = self._noise(_FINE, rng)
        height *= 0.5
        height += self._noise(_MIDDLE, rng)
        lit = np.empty_like(height)
        np.subtract(height[:, 1:], height[:, :-1], out=lit[:, 1:])
        lit[:, 0] = 0
        lit[1:] += height[1:] - height[:-1]
        lit *= rng.uniform(0.15, 0.5)
        height *= rng.uniform(0.05, 0.15)
        lit += height
        grain = rng.random(self.size, np.float32)  # uniform: a third of the cost of a normal distribution
        grain -= np.float32(0.5)
        grain *= rng.uniform(0.14, 0.55)
        lit += grain
        lit += 1
        return np.maximum(lit, 0.25, out=lit)

    def _stones(self, rng: np.random.Generator) -> Array:
        """Returns (H, W) float32, the brightness of gravel: the cells of points on a disturbed grid."""
        step = -(-min(self.size) // 128)  # large images are computed at a lower resolution
        scale = rng.uniform(10, 26)
        y = ((self._y[::step] - self._y[0]) * scale + 1).astype(np.float32)  # (h, 1), at least 1
        x = ((self._x[:, ::step] - self._x[0, 0]) * scale + 1).astype(np.float32)  # (1, w)
        down, right = int(y[-1, 0]) + 2, int(x[0, -1]) + 2  # cells
        points_y = (rng.random((down, right), np.float32) + np.arange(down, dtype=np.float32)[:, None]).ravel()
        points_x = (rng.random((down, right), np.float32) + np.arange(right, dtype=np.float32)).ravel()
        home = y.astype(np.intp) * right + x.astype(np.intp)  # (h, w), index of the pixel's cell
        nearest = np.full(home.shape, 9, np.float32)  # squared distances
        second = nearest.copy()
        owner = home.copy()
        for shift in (-right - 1, -right, -right + 1, -1, 0, 1, right - 1, right, right + 1):
            cell = home + shift
            distance = np.square(points_y.take(cell) - y)
            distance += np.square(points_x.take(cell) - x)
            np.copyto(owner, cell, where=distance < nearest)
            np.minimum(second, np.maximum(distance, nearest), out=second)
            np.minimum(nearest, distance, out=nearest)
        shade = rng.uniform(0.6, 1.2, down * right).astype(np.float32).take(owner)
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7)
        shade += (points_y.take(owner) - y) * np.float32(depth * np.sin(angle))  # stones are round
        shade += (points_x.take(owner) - x) * np.float32(depth * np.cos(angle))
        gap = np.sqrt(second) - np.sqrt(nearest)
        shade *= np.clip(gap * 2.5 + 0.35, 0, 1)  # dark between the stones
        whole = shade.repeat(step, 0).repeat(step, 1)[: self.size[0], : self.size[1]]
        whole += rng.random(self.size, np.float32) * np.float32(0.17) - np.float32(0.085)
        return np.maximum(whole, 0.2, out=whole)

    def _grow_moss(self, soil: Array, relief: Array, rng: np.random.Generator) -> None:
        """Covers patches with moss or algae, sooner where the ground is dark."""
        patches = self._noise(_MIDDLE, rng)
        patches += self._noise(_FINE, rng) * np.float32(0.6)
        patches -= relief * np.float32(1.2)
        patches += np.float32(rng.uniform(-0.5, 1.4))
        patches *= 1.5
        np.clip(patches, 0, 0.8, out=patches)
        colour = (_MOSS * rng.uniform(0.55, 1.15) + rng.normal(0, 8, 3)).astype(np.float32)
        for channel in range(3):
            soil[channel] += patches * (colour[channel] - soil[channel])

    def _strew_perlite(self, soil: Array, rng: np.random.Generator) -> None:
        """Strews white grains, up to one on every 300 pixels."""
        height, width = self.size
        count = int(rng.uniform(0.0005, 0.0035) * height * width)
        grain = max(1, min(self.size) // 90)
        tops, lefts = rng.integers(0, height - grain, count), rng.integers(0, width - grain, count)
        bright = rng.uniform(0.5, 1.0, count).astype(np.float32)
        colour = _PERLITE[:, None] * bright
        for down in range(grain):
            for right in range(grain):
                soil[:, tops + down, lefts + right] = colour

    def _set_in_pot(self, soil: Array, rng: np.random.Generator) -> None:
        """Draws the rim of a pot around the image's middle, and the tray outside of it."""
        angle = rng.uniform(-0.2, 0.2)
        y, x = self._y - np.float32(rng.uniform(-0.06, 0.06)), self._x - np.float32(rng.uniform(-0.06, 0.06))
        inner = rng.uniform(0.4, 0.62)
        rim = rng.uniform(0.02, 0.06)
        measure: Callable[[Array, Array], Array] = np.hypot
        if rng.random() < 0.7:
            cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            y, x = cos * y + sin * x, cos * x - sin * y
            np.abs(y, out=y)
            np.abs(x, out=x)
            measure = np.maximum
        distance = measure(y, x)
        distance -= np.float32(inner)  # (H, W), as a share of the image's side
        if float(distance.max()) <= 0:
            return
        pot, tray = _PLASTICS[rng.integers(len(_PLASTICS), size=2)]
        lit = np.clip(1.1 - np.abs(distance - np.float32(rim / 2)) * np.float32(0.9 / rim), 0.55, 1.1)
        on_rim = distance < rim
        outside = distance > 0
        for channel in range(3):
            colour = np.where(on_rim, pot[channel] * lit, np.float32(0.7) * tray[channel])
            colour += soil[channel] * np.float32(0.12)
            np.copyto(soil[channel], colour, where=outside)
        soil *= np.where((distance > -0.03) & ~outside, np.float32(0.7), np.float32(1))  # the shadow of the rim
