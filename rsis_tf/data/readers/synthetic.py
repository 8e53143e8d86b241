"""Generated scenes: overlapping discs, striped squares and dotted triangles on a textured background."""

import colorsys

import numpy as np

from rsis_tf.data.readers.generated import GeneratedDataset, interpolation, split_arguments
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError

CLASS_NAMES = ("background", "circle", "square", "triangle")

_MIN_VISIBLE_SHARE = 0.5
_MIN_VISIBLE_PIXELS = 20
_ATTEMPTS = 20
"""Attempts to place an object before it is left out, and attempts to find a colour for it."""
_CONTRAST = 90
"""Smallest distance in RGB between a shape's colour and the mean colour behind it."""


class SyntheticDataset(GeneratedDataset):
    """Scenes of 1 to `max_objects` shapes; later shapes lie in front of earlier ones.

    Classes differ in outline and surface: plain discs, striped squares, dotted triangles. Colours are random and say
    nothing about the class. At least half of each shape's pixels are visible, and at least 20. A sample depends only
    on `size`, `seed`, `max_objects` and its index, so nothing is stored and any sample can be generated again.

    Args:
        size: (H, W) of the images in pixels, at least `min_side` each.
        length: number of samples.
        seed: 0 or more; different seeds give different scenes.
        max_objects: largest number of shapes in a scene.
    """

    class_names: tuple[str, ...] = CLASS_NAMES
    min_side = 24

    def __init__(self, *, size: tuple[int, int] = (64, 64), length: int = 4096, seed: int = 0, max_objects: int = 4):
        super().__init__(size=size, length=length, seed=seed, max_objects=max_objects)
        height, width = size
        self._y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]  # (H, 1)
        self._x = (np.arange(width, dtype=np.float32) + 0.5)[None, :]  # (1, W)
        self._rows = interpolation(5, height)  # (H, 5)
        self._columns = interpolation(5, width).T  # (5, W)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        canvas = self._background(rng)
        label_map = np.zeros(self.size, np.int32)
        full_sizes = [0]
        classes: list[int] = []
        for _ in range(rng.integers(1, self.max_objects + 1)):
            for _ in range(_ATTEMPTS):
                kind = int(rng.integers(1, 4))
                distance, pattern = self._shape(kind, rng)  # (H, W)
                inside = distance < 0
                proposal = np.where(inside, np.int32(len(full_sizes)), label_map)
                sizes = np.array([*full_sizes, np.count_nonzero(inside)])
                visible = np.bincount(proposal.ravel(), minlength=len(sizes))
                if np.all(visible[1:] >= np.maximum(_MIN_VISIBLE_SHARE * sizes[1:], _MIN_VISIBLE_PIXELS)):
                    label_map = proposal
                    full_sizes = sizes.tolist()
                    classes.append(kind)
                    self._paint(canvas, distance, pattern, rng)
                    break
        canvas += rng.normal(0.0, 3.0, canvas.shape).astype(np.float32)
        image = np.clip(canvas, 0, 255).astype(np.uint8)
        return Sample(
            image=image,
            label_map=label_map,
            classes=np.array(classes, np.int32),
            image_id=f"synthetic_{self.seed}_{index}",
        )

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """Returns (H, W, 3) float32: a base colour with smooth colour noise and a finer grain."""
        base = rng.uniform(70, 185, (1, 1, 3))
        coarse = (base + rng.normal(0, 16, (5, 5, 3))).astype(np.float32)
        smooth = np.stack([self._rows @ coarse[..., channel] @ self._columns for channel in range(3)], axis=-1)
        grain = rng.normal(0, rng.uniform(2, 8), (*self.size, 1)).astype(np.float32)
        return smooth + grain

    def _shape(self, kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Places a random shape.

        Returns:
            (H, W) float32, the signed distance to the edge in pixels, negative inside; and (H, W) float32 in −1 … 1,
            the pattern of the surface.
        """
        height, width = self.size
        side = min(height, width)
        radius = max(rng.uniform(0.15, 0.28) * side, 4.5)
        margin = 0.6 * radius
        y = self._y - np.float32(rng.uniform(margin, height - margin))
        x = self._x - np.float32(rng.uniform(margin, width - margin))
        angle = rng.uniform(0, 2 * np.pi)
        if kind == 1:
            return np.hypot(x, y) - np.float32(0.9 * radius), np.zeros((1, 1), np.float32)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = cos * x + sin * y, cos * y - sin * x
        period = np.float32(2 * np.pi / max(4.5, 0.07 * side))
        if kind == 2:
            half_width = np.float32(0.85 * radius)
            half_height = np.float32(0.85 * radius * rng.uniform(0.7, 1.0))
            return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height), np.sin(period / 1.5 * u)
        # Equilateral triangle as the intersection of three half-planes at the inradius.
        slope = np.float32(np.sqrt(3) / 2)
        distance = np.maximum(v, np.abs(u) * slope - v * np.float32(0.5)) - np.float32(0.7 * radius)
        return distance, np.clip(1.5 * np.sin(period * u) * np.sin(period * v), -1, 1)

    def _paint(self, canvas: np.ndarray, distance: np.ndarray, pattern: np.ndarray, rng: np.random.Generator) -> None:
        """Draws a shape with a soft edge, a darker rim, a slight gradient and its pattern."""
        coverage = np.clip(0.5 - distance, 0, 1)[..., None]
        behind = (canvas * coverage).sum((0, 1)) / coverage.sum()  # (3,)
        for _ in range(_ATTEMPTS):
            hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.45, 0.95), rng.uniform(0.45, 0.95)
            colour = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
            if np.linalg.norm(colour - behind) > _CONTRAST:
                break
        slope_y, slope_x = (rng.uniform(-0.25, 0.25, 2) / self.size).astype(np.float32)
        shade = 1 + slope_y * (self._y - self.size[0] / 2) + slope_x * (self._x - self.size[1] / 2)
        shade = (shade.astype(np.float32) + np.float32(0.22) * pattern) * (1 - 0.35 * np.clip(distance + 1.8, 0, 1))
        canvas += coverage * (shade[..., None] * colour - canvas)


def open_split(
    split: str, *, image_size: tuple[int, int], train_size: int | None, val_size: int | None, seed: int
) -> SyntheticDataset:
    """Returns the scenes of a split: `train_size` (default: 4096) for "train", else `val_size` (default: 128).

    Raises:
        InputError: if the images would be too small.
    """
    if min(image_size) < SyntheticDataset.min_side:
        raise InputError(
            f"images of shapes are at least {SyntheticDataset.min_side} pixels on each side. "
            f"Received: image_size={image_size}"
        )
    return SyntheticDataset(
        size=image_size, **split_arguments(split, train_size=train_size, val_size=val_size, seed=seed)
    )
