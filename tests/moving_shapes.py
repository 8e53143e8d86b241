"""Sequences of moving objects with known identities, and predictions of them with the errors of a network."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from rsis_tf.runtime import Instance, Instances

NAMES = ("background", "disc", "leaf")
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mover:
    """An object.

    Attributes:
        path: number of the frame → (x, y) of its centre; None while it is not in the scene.
        radius: of a disc in pixels; a leaf is as long and half as wide.
        class_id: 1 for a disc, 2 for a leaf.
        turn: angle of a leaf in radians, and its change in each frame.
        hidden: frames in which it is behind something that is not an object.
    """

    path: Callable[[int], Point | None]
    radius: float = 6
    class_id: int = 1
    turn: tuple[float, float] = (0, 0)
    hidden: Sequence[int] = ()


def line(start: Point, velocity: Point, *, first: int = 0, last: int = 10**6) -> Callable[[int], Point | None]:
    """Returns a straight path that begins and ends at frames."""
    return lambda frame: (
        (start[0] + (frame - first) * velocity[0], start[1] + (frame - first) * velocity[1])
        if first <= frame <= last
        else None
    )


def arc(centre: Point, radius: float, phase: float, step: float) -> Callable[[int], Point]:
    """Returns a path on a circle; `step` is the angle of a frame in radians."""
    return lambda frame: (
        centre[0] + radius * np.cos(phase + step * frame),
        centre[1] + radius * np.sin(phase + step * frame),
    )


def scene(movers: Sequence[Mover], frame: int, size: tuple[int, int]) -> np.ndarray:
    """Draws a frame as an (H, W) int32 map: i for the i-th object, from 1; earlier ones are in front."""
    labels = np.zeros(size, np.int32)
    for number, mover in reversed(list(enumerate(movers, start=1))):
        at = mover.path(frame)
        if at is None or frame in mover.hidden:
            continue
        angle = mover.turn[0] + mover.turn[1] * frame
        top, left = (max(0, int(value - mover.radius) - 1) for value in (at[1], at[0]))
        bottom, right = (max(0, int(value + mover.radius) + 2) for value in (at[1], at[0]))
        window = labels[top:bottom, left:right]
        rows, columns = np.indices(window.shape)
        down, across = rows + top + 0.5 - at[1], columns + left + 0.5 - at[0]
        u, v = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
        half = mover.radius if mover.class_id == 1 else mover.radius / 2
        window[(u / mover.radius) ** 2 + (v / half) ** 2 <= 1] = number
    return labels


def instance(mask: np.ndarray, class_id: int = 1, step: int = 0, score: float = 0.9) -> Instance:
    return Instance(
        mask=mask,
        class_id=class_id,
        class_name=NAMES[class_id],
        score=score,
        step=step,
        objectness=score,
        class_probs=np.eye(3, dtype=np.float32)[class_id],
    )


def truth(movers: Sequence[Mover], labels: np.ndarray, least: int = 4) -> dict[int, Instance]:
    """Returns number → object for those with at least some visible pixels."""
    masks = {number: labels == number for number in range(1, len(movers) + 1)}
    return {
        number: instance(mask, movers[number - 1].class_id) for number, mask in masks.items() if mask.sum() >= least
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
    """What a network does wrong.

    Attributes:
        missed: probability that it misses an object in a frame.
        flicker: mean number of objects in a frame that do not exist.
        shift: standard deviation of the shift of a mask, in pixels.
        ragged: probability that a mask is dilated or eroded by a pixel.
    """

    missed: float = 0
    flicker: float = 0
    shift: float = 0
    ragged: float = 0


def predicted(objects: dict[int, Instance], size: tuple[int, int], errors: Errors, generator: np.random.Generator):
    """Returns the objects of a frame as a network with these errors would find them, in random order."""
    found = []
    for one in objects.values():
        if generator.random() < errors.missed:
            continue
        mask = one.cropped.widened(1)
        if generator.random() < errors.ragged:
            change = ndimage.binary_dilation if generator.random() < 0.5 else ndimage.binary_erosion
            mask = dataclasses.replace(mask, crop=change(mask.crop))
        down, across = np.rint(generator.normal(0, errors.shift, 2)).astype(int) if errors.shift else (0, 0)
        full = np.zeros(size, bool)
        x, y = mask.corner[0] + across, mask.corner[1] + down
        window = full[max(y, 0) : max(y + mask.crop.shape[0], 0), max(x, 0) : max(x + mask.crop.shape[1], 0)]
        top, left = max(-y, 0), max(-x, 0)
        window[:] = mask.crop[top : top + window.shape[0], left : left + window.shape[1]]
        if full.any():
            found.append(instance(full, one.class_id))
    for _ in range(generator.poisson(errors.flicker)):
        at = tuple(generator.uniform(0, size[::-1]))
        flash = Mover(path=lambda _, at=at: at, radius=generator.uniform(3, 8))
        mask = scene([flash], 0, size) > 0
        if mask.any():
            found.append(instance(mask, int(generator.integers(1, 3)), score=0.6))
    return Instances([found[i] for i in generator.permutation(len(found))], size=size)
