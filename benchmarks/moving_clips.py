"""Clips of moving discs and leaves with known identities, as images and label maps."""

import pathlib
import sys
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from moving_shapes import Mover, scene

SIDE = 64
"""Height and width of a frame in pixels."""
MOST = 4
"""Largest number N of objects in a clip."""
LEAST = 12
"""Visible pixels that an object needs to count in a frame."""


class Clip(NamedTuple):
    """Attributes: `images` (F, H, W, 3) uint8; `labels` (F, H, W) uint8, n for the n-th object of the clip, from 1."""

    images: np.ndarray
    labels: np.ndarray


def movers(speed: float, generator: np.random.Generator) -> list[Mover]:
    """Returns one to `MOST` objects on curves; about a third of the curves reach beyond the image.

    Args:
        speed: of the fastest point of a curve, in radii of the object a frame.
        generator: of the random numbers.
    """
    objects = []
    for _ in range(generator.integers(1, MOST + 1)):
        radius = generator.uniform(6, 11)
        extent = SIDE / 2 * (1.3 if generator.random() < 1 / 3 else 0.8)
        phase = generator.uniform(0, 2 * np.pi, 2)
        rate = generator.uniform(0.4, 1, 2) * speed * radius / extent

        def path(frame: int, extent=extent, phase=phase, rate=rate) -> tuple[float, float]:
            x, y = SIDE / 2 + extent * np.sin(phase + rate * frame)
            return float(x), float(y)

        turn = generator.uniform(0, np.pi), generator.uniform(-0.1, 0.1)
        objects.append(Mover(path=path, radius=radius, class_id=int(generator.integers(1, 3)), turn=turn))
    return objects


def clip(frames: int, speed: float, generator: np.random.Generator) -> Clip:
    """Draws a clip: each object and the background have a colour that stays, and each frame has its own noise.

    Args:
        frames: F.
        speed: see `movers`.
        generator: of the random numbers.
    """
    objects = movers(speed, generator)
    labels = np.stack([scene(objects, frame, (SIDE, SIDE)) for frame in range(frames)]).astype(np.uint8)  # (F, H, W)
    colours = generator.uniform(30, 225, (1 + len(objects), 3))
    images = colours[labels] + generator.normal(0, 8, (frames, SIDE, SIDE, 1))  # (F, H, W, 3)
    return Clip(np.clip(images, 0, 255).astype(np.uint8), labels)


def batch(clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images (B, F, H, W, 3) uint8 and the masks (B, F, N, H, W) uint8 of clips, N = `MOST`.

    The mask of an object with fewer than `LEAST` visible pixels is empty.
    """
    images, labels = (np.stack(part) for part in zip(*clips, strict=True))
    masks = labels[:, :, None] == np.arange(1, MOST + 1)[:, None, None]  # (B, F, N, H, W)
    masks &= masks.sum(axis=(3, 4), keepdims=True) >= LEAST
    return images, masks.astype(np.uint8)
