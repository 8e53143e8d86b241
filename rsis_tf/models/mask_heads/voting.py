"""Masks by voting: every pixel votes for the centre of its object, and each step points at one object.

The paper's head draws each mask from the last ConvLSTM's hidden map alone, which takes long to learn: for many epochs
all steps draw the same blur. Here each pixel votes for the centre of the object it belongs to, once per image. The
recurrent part only has to point at an object that has not been found yet. The mask consists of the pixels whose votes
agree with the vote of the pixel pointed at.
"""

from typing import Any, NotRequired, Self, TypedDict, cast

import keras
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.models.mask_heads.interface import Found, HeadStep, ImageContext, MaskHead, Size, Tensor
from rsis_tf.ops import resize, spatial_size

UNIT = 16.0
"""Pixels of the input image in one unit of votes and radii; it keeps the numbers near 1."""

LOG_RADII = (-3.0, 3.0)
"""Smallest and largest logarithm of a radius: 0.8 and 321 pixels."""

_FARTHEST = 16.0
"""Largest squared distance, in squared radii. A pixel so far away is outside anyway, and float16 would overflow."""


class PixelVotes(TypedDict):
    """The votes of all pixels of an image, computed once, all float32.

    Keys:
        foreground_logits: (B, h, w, 1), logits of "belongs to an object", on the finest map.
        votes: (B, h, w, 2), the (y, x) of the centre that each pixel votes for, in units of `UNIT` pixels.
        candidates: (B, h', w', 4), votes, log radius and foreground logit on the map of the last stage, where a step
            points.
        appearance: (B, h, w, C), the finest map itself, if the class is predicted from the pixels under the mask.
    """

    foreground_logits: Tensor
    votes: Tensor
    candidates: Tensor
    appearance: NotRequired[Tensor]


class VotingHead(MaskHead):
    """Points at one object per step; its mask is where the pixels' votes agree with the vote pointed at.

    Its state is `found` (B, h', w', 1) in 0..1, at the size of the last stage: the union of the masks so far and of the
    pixels whose votes agree with them. Every stage reads it.

    The model's outputs gain `pointing_logits` (B, h', w', T), and once per image `foreground_logits` (B, h, w, 1),
    `votes` (B, h, w, 2) and `log_radius` (B, h, w, 1), the logarithm of the radius of a disc of the object's area in
    units of `UNIT` pixels. Only training reads them.

    Args:
        channels: of the finest map.
        hidden_channels: of the last stage's hidden map.
        kernel_size: of the layers that read the hidden map.
        keep_appearance: whether classes also read the mean of the finest map under the mask.
        kwargs: of `keras.layers.Layer`.
    """

    before_cells = True
    input_channels = 1

    def __init__(
        self, *, channels: int, hidden_channels: int, kernel_size: int, keep_appearance: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.keep_appearance = keep_appearance
        self.feature_channels = 1 + (channels if keep_appearance else 0)
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

    @classmethod
    def for_model(cls, config: ModelConfig, *, hidden_channels: int, initializer: Any, name: str) -> Self:
        return cls(
            channels=config.neck_channels,
            hidden_channels=hidden_channels,
            kernel_size=config.kernel_size,
            keep_appearance=config.class_features == "mask",
            name=name,
        )

    def prepare(
        self, maps: list[Tensor], sizes: list[Size], image_size: Size
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        finest = maps[-1]
        # Positions have more digits than 16 bits hold: votes and pointing are float32 in every precision.
        dense = ops.cast(self.dense_head(finest), "float32")  # (B, h, w, 4)
        foreground, offset, log_radius = dense[..., :1], dense[..., 1:3], dense[..., 3:]
        votes = offset + pixel_positions(spatial_size(finest), image_size)
        log_radius = ops.clip(log_radius, *LOG_RADII)
        outputs = {"foreground_logits": foreground, "votes": votes, "log_radius": log_radius}
        candidates = ops.concatenate([votes, log_radius, foreground], axis=-1)
        context = {"foreground_logits": foreground, "votes": votes, "candidates": resize(candidates, sizes[-1])}
        if self.keep_appearance:
            context["appearance"] = ops.cast(finest, "float32")
        return context, outputs

    def start(self, context: ImageContext, found: Found | None) -> dict[str, Tensor]:
        candidates = context.head["candidates"]
        if found is None:
            return {"found": ops.zeros_like(candidates[..., :1])}
        covered = resize(ops.cast(found.covered, candidates.dtype)[..., None], context.sizes[-1])
        if found.points is not None:
            covered = ops.maximum(covered, self.covered_by_votes(candidates, found.points, context.image_size))
        return {"found": covered}

    def covered_by_votes(self, candidates: Tensor, points: Tensor, image_size: Size) -> Tensor:
        """Returns (B, h', w', 1) in 0..1: pixels whose votes agree with those at some points, as in `step`.

        Args:
            candidates: (B, h', w', 4), of the image.
            points: (B, N, 2) integer, (y, x) in the image; -1 for none.
            image_size: (H, W).
        """
        batch, (height, width) = ops.shape(candidates)[0], spatial_size(candidates)
        scale = [(small - 1) / max(large - 1, 1) for small, large in zip((height, width), image_size, strict=True)]
        places = ops.cast(ops.round(ops.cast(points, "float32") * ops.convert_to_tensor(scale, "float32")), "int32")
        places = ops.maximum(places[..., 0] * width + places[..., 1], 0)  # (B, N)
        pixels = ops.reshape(candidates, (batch, -1, 4))  # (B, P, 4)
        chosen = ops.take_along_axis(pixels, places[..., None], axis=1)  # (B, N, 4)
        agreement = self.agreement(pixels[:, None, :, :2], chosen[:, :, None])  # (B, N, P, 1)
        valid = ops.cast(points[..., :1] >= 0, agreement.dtype)  # (B, N, 1)
        covered = ops.max(valid * ops.sigmoid(agreement[..., 0]), axis=1)  # (B, P)
        return ops.stop_gradient(ops.reshape(covered, (batch, height, width, 1)))

    def stage_inputs(self, state: dict[str, Tensor], context: ImageContext) -> list[Tensor]:
        maps = [state["found"]]
        # From one stage's size to the next, so that every pixel contributes to the smaller maps.
        for size in context.sizes[-2::-1]:
            maps.append(resize(maps[-1], size))
        return [ops.cast(covered, self.compute_dtype) for covered in maps[::-1]]

    def step(self, hidden: Tensor, context: ImageContext, state: dict[str, Tensor]) -> HeadStep:
        votes, found = cast(PixelVotes, context.head), state["found"]
        evidence, refinement = self.read(hidden)
        pointing = self.point(evidence, votes, found)
        chosen = self.choose(pointing, votes)
        mask = self.mask_logits(chosen, refinement, votes)
        # Pixels whose votes agree count as found whether they are foreground or not. Otherwise a background pixel that
        # votes for the object could be pointed at again in every later step.
        covered = ops.maximum(
            resize(ops.sigmoid(mask), context.sizes[-1]),
            ops.sigmoid(self.agreement(votes["candidates"][..., :2], chosen)),
        )
        # Without this the choice of later objects would change the mask of this one.
        covered = ops.stop_gradient(covered)
        features = [ops.cast(ops.max(pointing, axis=(1, 2)), self.compute_dtype)]
        if self.keep_appearance:
            features.append(ops.cast(self.pool_under_mask(mask, votes), self.compute_dtype))
        return HeadStep(
            mask_logits=mask,
            state={"found": ops.maximum(found, covered)},
            features=ops.concatenate(features, axis=-1),
            outputs={"pointing_logits": pointing},
        )

    def read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what `pointer` and `refinement` compute, each (B, h', w', 1) float32.

        One convolution of two channels computes both: libraries compute many channels at a time, and one alone takes as
        long as two.

        Args:
            hidden: (B, h', w', C), of the last stage.
        """
        kernel, bias = (
            ops.concatenate([ops.convert_to_tensor(part) for part in parts], axis=-1)
            for parts in (
                (self.pointer.kernel, self.refinement.kernel),
                (self.pointer.bias, self.refinement.bias),
            )
        )
        both = ops.conv(hidden, ops.cast(kernel, hidden.dtype), strides=1, padding="same")  # (B, h', w', 2)
        both = ops.cast(both + ops.cast(bias, both.dtype), "float32")
        return both[..., :1], both[..., 1:]

    def point(self, evidence: Tensor, votes: PixelVotes, found: Tensor) -> Tensor:
        """Returns the logits (B, h', w', 1) of pointing at each pixel; pixels that count as found get low ones.

        Args:
            evidence: (B, h', w', 1) float32, from `read`.
            votes: of the image.
            found: (B, h', w', 1) float32 in 0..1.
        """
        pointing = evidence + votes["candidates"][..., 3:]
        return pointing - ops.cast(self.inhibition, "float32") * found

    def choose(self, pointing: Tensor, votes: PixelVotes) -> Tensor:
        """Returns (B, 1, 1, 4): vote, log radius and foreground logit of the pixel with the highest logit.

        Args:
            pointing: (B, h', w', 1), from `point`.
            votes: of the image.
        """
        # Exactly one pixel has the highest logit, except for ties, which are averaged.
        strongest = ops.cast(pointing >= ops.max(pointing, axis=(1, 2), keepdims=True), pointing.dtype)
        strongest = ops.stop_gradient(strongest / ops.sum(strongest, axis=(1, 2), keepdims=True))
        return ops.sum(strongest * votes["candidates"], axis=(1, 2), keepdims=True)

    def agreement(self, votes: Tensor, chosen: Tensor) -> Tensor:
        """Returns logits (B, h, w, 1), positive where a vote lies within the radius around the chosen one.

        Args:
            votes: (B, h, w, 2).
            chosen: (B, 1, 1, 4), from `choose`; other shapes that broadcast work too.
        """
        offset = (votes - chosen[..., :2]) * ops.exp(-chosen[..., 2:3])
        distance = ops.minimum(ops.sum(ops.square(offset), axis=-1, keepdims=True), _FARTHEST)
        return ops.cast(self.sharpness, "float32") * (1 - distance)

    def mask_logits(self, chosen: Tensor, refinement: Tensor, votes: PixelVotes) -> Tensor:
        """Returns the mask logits (B, h, w, 1) of an object: positive where a pixel is foreground and its vote agrees.

        Args:
            chosen: from `choose`.
            refinement: (B, h', w', 1) float32, from `read`.
            votes: of the image.
        """
        inside = self.agreement(votes["votes"], chosen)
        inside = inside + resize(refinement, spatial_size(inside))
        # The soft minimum of the two logits, −log(e^−a + e^−b), in operations that every export format has.
        foreground = votes["foreground_logits"]
        return ops.minimum(inside, foreground) - ops.softplus(-ops.abs(inside - foreground))

    def pool_under_mask(self, mask_logits: Tensor, votes: PixelVotes) -> Tensor:
        """Returns (B, C) float32, the mean of the finest map under a mask.

        No gradient flows into the mask, so that the class loss does not change masks.

        Args:
            mask_logits: (B, h, w, 1).
            votes: of the image.
        """
        appearance = votes["appearance"]
        batch, channels = ops.shape(mask_logits)[0], appearance.shape[-1]
        share = ops.reshape(ops.stop_gradient(ops.sigmoid(mask_logits)), (batch, 1, -1))  # (B, 1, P)
        share = share / (ops.sum(share, axis=2, keepdims=True) + 1e-3)
        return ops.matmul(share, ops.reshape(appearance, (batch, -1, channels)))[:, 0]


def pixel_positions(size: Size, image_size: Size) -> Tensor:
    """Returns (1, h, w, 2), the position (y, x) in the image of each pixel of a map, in units of `UNIT` pixels.

    The corners of the map lie on the corners of the image, as in `rsis_tf.ops.resize`.

    Args:
        size: of the map.
        image_size: of the image.
    """
    axes = []
    for n, length in zip(size, image_size, strict=True):
        scale = ops.cast(length - 1, "float32") / ops.cast(ops.maximum(n - 1, 1), "float32")
        axes.append(ops.cast(ops.arange(n), "float32") * (scale / UNIT))
    rows, columns = axes
    y = ops.broadcast_to(rows[:, None], size)
    x = ops.broadcast_to(columns[None, :], size)
    return ops.stack([y, x], axis=-1)[None]  # (1, h, w, 2)
