"""Masks by voting: every pixel says once where the centre of its object is; a step points at one object.

The paper's head draws each mask anew from the last ConvLSTM's hidden map, which takes long to learn: for many epochs
all steps draw the same blur. Here the part of the work that is the same at every step is done once: each pixel votes
for the centre of the object it belongs to. The recurrent part has to point at one object that is not found yet, and
the mask is where the votes agree with the vote of the pixel pointed at.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from rsis_tf.ops import resize, spatial_size

Tensor = Any

UNIT = 16.0
"""Pixels of the input picture in one unit of votes and radii: keeps the numbers near 1."""

LOG_RADII = (-3.0, 3.0)
"""Smallest and largest logarithm of a radius: 0.8 and 321 pixels."""

_FARTHEST = 16.0
"""Squared distances count up to this many squared radii: beyond, a pixel is out anyway, and float16 would overflow."""


class Ballot(NamedTuple):
    """What the votes of one picture are, computed once, all float32.

    Attributes:
        foreground_logits: (B, h, w, 1), logits of "belongs to an object", on the finest map.
        votes: (B, h, w, 2), the (y, x) of the centre each pixel votes for, in units of `UNIT` pixels.
        log_radius: (B, h, w, 1), logarithm of the object's radius (that of a disc of its area) in the same unit.
        candidates: (B, h', w', 4), votes, log radius and foreground logit on the map that a step points into.
        appearance: (B, h, w, C), the finest map itself, if classes are told by what lies under a mask.
    """

    foreground_logits: Tensor
    votes: Tensor
    log_radius: Tensor
    candidates: Tensor
    appearance: Tensor | None = None


class VotingHead(keras.layers.Layer):
    """Turns the finest map into votes, and a hidden map into a choice and its mask.

    Args:
        channels: of the finest map.
        hidden_channels: of the last ConvLSTM's hidden map.
        kernel_size: of the layers that read the hidden map.
        keep_appearance: whether `look` will be asked for.
    """

    def __init__(
        self, *, channels: int, hidden_channels: int, kernel_size: int, keep_appearance: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.keep_appearance = keep_appearance
        self.dense_head = keras.layers.Conv2D(
            4,
            3,
            padding="same",
            kernel_initializer=keras.initializers.VarianceScaling(0.1),
            name="dense_head",
        )
        self.dense_head.build((None, None, None, channels))
        self.pointer = keras.layers.Conv2D(1, kernel_size, padding="same", name="pointer")
        self.pointer.build((None, None, None, hidden_channels))
        self.refinement = keras.layers.Conv2D(
            1, kernel_size, padding="same", kernel_initializer="zeros", name="refinement"
        )
        self.refinement.build((None, None, None, hidden_channels))
        self.sharpness = self.add_weight(name="sharpness", shape=(), initializer=keras.initializers.Constant(4.0))
        self.inhibition = self.add_weight(name="inhibition", shape=(), initializer=keras.initializers.Constant(8.0))
        self.built = True

    def prepare(self, finest: Tensor, image_size: tuple[Any, Any], pointing_size: tuple[Any, Any]) -> Ballot:
        """Reads the finest map once, for all steps.

        Args:
            finest: (B, h, w, C).
            image_size: (H, W) of the picture.
            pointing_size: (h', w') of the last stage.
        """
        # Positions have more digits than 16 bits hold: votes and pointing are float32 in every precision.
        dense = ops.cast(self.dense_head(finest), "float32")  # (B, h, w, 4)
        foreground, offset, log_radius = dense[..., :1], dense[..., 1:3], dense[..., 3:]
        votes = offset + pixel_positions(spatial_size(finest), image_size)
        log_radius = ops.clip(log_radius, *LOG_RADII)
        candidates = ops.concatenate([votes, log_radius, foreground], axis=-1)
        appearance = ops.cast(finest, "float32") if self.keep_appearance else None
        return Ballot(foreground, votes, log_radius, resize(candidates, pointing_size), appearance)

    def point(self, hidden: Tensor, ballot: Ballot, found: Tensor) -> Tensor:
        """Returns the logits (B, h', w', 1) of pointing at each pixel; what is found already is held down.

        Args:
            hidden: (B, h', w', C), of the last stage.
            ballot: from `prepare`.
            found: (B, h', w', 1) float32 in 0..1, see `rsis_tf.models.decoder.Memory`.
        """
        pointing = ops.cast(self.pointer(hidden), "float32") + ballot.candidates[..., 3:]
        return pointing - ops.cast(self.inhibition, "float32") * found

    def choose(self, pointing: Tensor, ballot: Ballot) -> Tensor:
        """Returns (B, 1, 1, 4), what the candidate says that is pointed at most: vote, log radius, foreground logit."""
        # Exactly one pixel is the strongest but for ties, which share.
        strongest = ops.cast(pointing >= ops.max(pointing, axis=(1, 2), keepdims=True), pointing.dtype)
        strongest = ops.stop_gradient(strongest / ops.sum(strongest, axis=(1, 2), keepdims=True))
        return ops.sum(strongest * ballot.candidates, axis=(1, 2), keepdims=True)

    def agreement(self, votes: Tensor, chosen: Tensor) -> Tensor:
        """Returns logits (B, h, w, 1): above zero where votes (B, h, w, 2) lie within the radius around the chosen."""
        offset = (votes - chosen[..., :2]) * ops.exp(-chosen[..., 2:3])
        distance = ops.minimum(ops.sum(ops.square(offset), axis=-1, keepdims=True), _FARTHEST)
        return ops.cast(self.sharpness, "float32") * (1 - distance)

    def mask_logits(self, chosen: Tensor, hidden: Tensor, ballot: Ballot) -> Tensor:
        """Returns the logits (B, h, w, 1) of an object: a pixel is in if it is foreground and its vote agrees.

        Args:
            chosen: from `choose`.
            hidden: (B, h', w', C), of the last stage.
            ballot: from `prepare`.
        """
        inside = self.agreement(ballot.votes, chosen)
        inside = inside + resize(ops.cast(self.refinement(hidden), "float32"), spatial_size(inside))
        # Both must hold: the soft minimum of the two logits, −log(e^−a + e^−b) in operations that every format knows.
        foreground = ballot.foreground_logits
        return ops.minimum(inside, foreground) - ops.softplus(-ops.abs(inside - foreground))

    def look(self, mask_logits: Tensor, ballot: Ballot) -> Tensor:
        """Returns (B, C): the mean of the finest map under a mask, float32.

        Classes shall not bend masks, so no gradient flows into them from here.

        Args:
            mask_logits: (B, h, w, 1).
            ballot: from `prepare`.
        """
        batch, channels = ops.shape(mask_logits)[0], ballot.appearance.shape[-1]
        share = ops.reshape(ops.stop_gradient(ops.sigmoid(mask_logits)), (batch, 1, -1))  # (B, 1, P)
        share = share / (ops.sum(share, axis=2, keepdims=True) + 1e-3)
        return ops.matmul(share, ops.reshape(ballot.appearance, (batch, -1, channels)))[:, 0]


def pixel_positions(size: tuple[Any, Any], image_size: tuple[Any, Any]) -> Tensor:
    """Returns (1, h, w, 2): where the pixels of a map lie in the picture, (y, x) in units of `UNIT` pixels.

    Corners lie on corners, as `rsis_tf.ops.resize` has it.
    """
    axes = []
    for n, length in zip(size, image_size, strict=True):
        scale = ops.cast(length - 1, "float32") / ops.cast(ops.maximum(n - 1, 1), "float32")
        axes.append(ops.cast(ops.arange(n), "float32") * (scale / UNIT))
    rows, columns = axes
    y = ops.broadcast_to(rows[:, None], size)
    x = ops.broadcast_to(columns[None, :], size)
    return ops.stack([y, x], axis=-1)[None]  # (1, h, w, 2)
