"""A rosette: where its leaves grow, how large and how old they are, and what the leaves of one species share.

Leaves appear one after the other around the centre. The angle from a leaf to the next is the golden angle, 137.5°, with
a small deviation. A leaf grows fast at first and then slower. So the oldest leaves are the largest and lie lowest, and
the youngest lie on top, in the middle.
"""

import colorsys
import dataclasses

import numpy as np

GOLDEN_ANGLE = float(np.pi * (3 - np.sqrt(5)))
"""From a leaf to the next one, in radians: 137.5°."""

_BUSHY = 6
"""Number of leaves from which a plant has its full radius; seedlings are smaller."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Species:
    """What the leaves of one plant share. Lengths are shares of the leaf's length unless stated otherwise.

    Attributes:
        petiole: length of the petiole.
        petiole_width: width of the petiole.
        width: greatest width of the blade, as a share of the blade's length.
        base, tip: how the blade narrows: the half width is proportional to tᵇᵃˢᵉ · (1 − t)ᵗⁱᵖ, with t from 0 at the
            petiole to 1 at the tip. 0.5 is the end of an ellipse, 1 is pointed.
        teeth: depth of the teeth of the margin, as a share of the blade's half width.
        bend: largest lateral shift of the tip.
        blade_colour, stem_colour: (3,) float32, RGB.
        veins: brightness of the midrib, as a share of that of the blade.
        fold: difference in brightness between the midrib and the margin.
        deviation: standard deviation of the angle between leaves, in radians.
        plastochrons: age at which a leaf has 63 % of its final length, in steps from a leaf to the next.
    """

    petiole: float
    petiole_width: float
    width: float
    base: float
    tip: float
    teeth: float
    bend: float
    blade_colour: np.ndarray
    stem_colour: np.ndarray
    veins: float
    fold: float
    deviation: float
    plastochrons: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plant:
    """The leaves of a plant, the oldest first.

    Attributes:
        species: what they share.
        centre: (y, x) in pixels.
        angles: (N,) float64, direction of each leaf in radians, from x to y.
        lengths: (N,) float64, from the centre to the tip in pixels; never increasing.
        ages: (N,) float64 in 0 … 1: 1 for the oldest leaf, close to 0 for a leaf that has just appeared.
    """

    species: Species
    centre: tuple[float, float]
    angles: np.ndarray
    lengths: np.ndarray
    ages: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


def draw_species(rng: np.random.Generator) -> Species:
    """Draws a species: round or lanceolate blades, short or long petioles, yellow-green to dark green, red stems."""
    slender = rng.random() < 0.3
    hue, saturation, value = rng.uniform(0.19, 0.36), rng.uniform(0.35, 0.72), rng.uniform(0.42, 0.8)
    blade = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
    pale = 0.5 * blade + np.float32(0.5) * np.array([200, 205, 130], np.float32)
    red = np.array([135, 75, 70], np.float32)
    redness = np.float32(rng.uniform(0.4, 0.9) if rng.random() < 0.25 else 0.0)
    return Species(
        petiole=rng.uniform(0.05, 0.25) if slender else rng.uniform(0.15, 0.48),
        petiole_width=rng.uniform(0.06, 0.1),
        width=rng.uniform(0.32, 0.5) if slender else rng.uniform(0.55, 0.92),
        base=rng.uniform(0.6, 0.9) if slender else rng.uniform(0.5, 0.85),
        tip=rng.uniform(0.55, 0.9) if slender else rng.uniform(0.42, 0.6),
        teeth=rng.uniform(0.02, 0.07) if rng.random() < 0.35 else 0.0,
        bend=rng.uniform(0.02, 0.12),
        blade_colour=blade,
        stem_colour=pale + redness * (red - pale),
        veins=rng.uniform(0.06, 0.26),
        fold=rng.uniform(0.05, 0.22),
        deviation=np.deg2rad(rng.uniform(3, 9)),
        plastochrons=rng.uniform(2.5, 5.0),
    )


def grow(rng: np.random.Generator, leaves: int, size: tuple[int, int]) -> Plant:
    """Grows a plant.

    Args:
        rng: source of all variation.
        leaves: N, at least 1.
        size: (H, W) of the image in pixels; the plant stands near its middle.
    """
    species = draw_species(rng)
    side = min(size)
    radius = side * rng.uniform(0.34, 0.5) * (0.7 + 0.3 * min(1.0, leaves / _BUSHY))
    steps = np.arange(leaves)[::-1] + rng.uniform(0.7, 1.6)  # plastochrons since each leaf appeared
    grown = 1 - np.exp(-steps / species.plastochrons)
    lengths = radius * grown / grown[0] * rng.uniform(0.86, 1.08, leaves)
    turn = GOLDEN_ANGLE if rng.random() < 0.5 else -GOLDEN_ANGLE
    angles = rng.uniform(0, 2 * np.pi) + turn * np.arange(leaves) + rng.normal(0, species.deviation, leaves)
    offset = rng.uniform(-0.06, 0.06, 2) * side
    return Plant(
        species=species,
        centre=(size[0] / 2 + float(offset[0]), size[1] / 2 + float(offset[1])),
        angles=angles,
        lengths=np.sort(lengths)[::-1],
        ages=steps / steps[0],
    )
