"""The dataset "leaves": one generated rosette plant per image."""

from collections.abc import Iterable

import numpy as np

from rsis_tf.data.readers.generated import GeneratedDataset, split_arguments
from rsis_tf.data.readers.rosettes.camera import Camera
from rsis_tf.data.readers.rosettes.ground import Ground
from rsis_tf.data.readers.rosettes.leaf import Leaf, Outlines
from rsis_tf.data.readers.rosettes.plant import grow
from rsis_tf.data.readers.rosettes.surface import Brush, draw_light
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError

CLASS_NAMES = ("background", "leaf")

MIN_VISIBLE_SHARE = 0.3
MIN_VISIBLE_PIXELS = 20

_SPARE = 0.2
"""Share of leaves that are grown in addition, because others hide some of them."""


class RosetteDataset(GeneratedDataset):
    """Images of rosette plants from above, each with 1 to `max_objects` leaves.

    The plants follow the leaf segmentation challenge's A1 (arabidopsis and tobacco). Successive leaves are the golden
    angle apart, the older ones larger, farther out and lower. A leaf's label covers its visible pixels, petiole
    included; the oldest leaf has number 1, and leaves with higher numbers lie above. A leaf is left out of the plant if
    less than 30 % of it would be visible, or fewer than 20 pixels. A sample depends only on `size`, `seed`,
    `max_objects` and its index, so nothing is stored and any sample can be generated again.

    Args:
        size: (H, W) of the images in pixels, at least `min_side` each.
        length: number of samples.
        seed: 0 or more; different seeds give different plants.
        max_objects: largest number of leaves of a plant. Small images hold fewer, because of the least pixels.
    """

    class_names: tuple[str, ...] = CLASS_NAMES
    min_side = 32

    def __init__(self, *, size: tuple[int, int] = (96, 96), length: int = 4096, seed: int = 0, max_objects: int = 20):
        super().__init__(size=size, length=length, seed=seed, max_objects=max_objects)
        self._ground = Ground(size)
        self._camera = Camera(size)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        leaves: list[Leaf] = []
        while not leaves:  # a seedling in a small image can be too small to be seen
            count = int(rng.integers(1, self.max_objects + 1))
            outlines = Outlines(grow(rng, count + int(_SPARE * count), self.size), rng)
            label_map, leaves = visible_leaves(outlines.leaves(self.size), self.size, count)
        light = draw_light(rng)
        brush = Brush(outlines, light, rng)
        scene = self._ground.paint(rng)
        for leaf in leaves:
            brush.shadow(scene, leaf)
            brush.paint(scene, leaf)
        return Sample(
            image=self._camera.take(scene, light.direction, rng),
            label_map=label_map,
            classes=np.ones(len(leaves), np.int32),
            image_id=f"leaves_{self.seed}_{index}",
        )


def visible_leaves(leaves: Iterable[Leaf], size: tuple[int, int], most: int) -> tuple[np.ndarray, list[Leaf]]:
    """Chooses the leaves that can be seen well enough.

    Args:
        leaves: from the highest to the lowest.
        size: (H, W) of the image in pixels.
        most: largest number of leaves to choose.

    Returns:
        (H, W) int32, 0 or the number of the chosen leaf that is seen there, and the n chosen leaves from the lowest,
        number 1, to the highest, number n.
    """
    ranks = np.zeros(size, np.int32)  # 1 for the highest
    chosen: list[Leaf] = []
    for leaf in leaves:
        if len(chosen) == most:
            break
        part = ranks[leaf.rows, leaf.columns]
        inside = leaf.inside
        seen = inside & (part == 0)
        count = np.count_nonzero(seen)
        if count >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * np.count_nonzero(inside)):
            chosen.append(leaf)
            part[seen] = len(chosen)
    return np.where(ranks > 0, len(chosen) + 1 - ranks, 0).astype(np.int32), chosen[::-1]


def open_split(
    split: str,
    *,
    image_size: tuple[int, int],
    max_objects: int,
    train_size: int | None,
    val_size: int | None,
    seed: int,
) -> RosetteDataset:
    """Returns the plants of a split: `train_size` (default: 4096) for "train", else `val_size` (default: 128).

    Raises:
        InputError: if the images would be too small.
    """
    if min(image_size) < RosetteDataset.min_side:
        raise InputError(
            f"images of leaves are at least {RosetteDataset.min_side} pixels on each side. "
            f"Received: image_size={image_size}"
        )
    return RosetteDataset(
        size=image_size,
        max_objects=max_objects,
        **split_arguments(split, train_size=train_size, val_size=val_size, seed=seed),
    )
