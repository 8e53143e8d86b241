"""The recurrent decoder: from skip projections and states to one object per step."""

from typing import Any, NamedTuple

import keras
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.models.conv_lstm import ConvLSTMCell, Prepared, State, Tensor
from rsis_tf.models.mask_heads.voting import Ballot, VotingHead
from rsis_tf.ops import resize, spatial_size

Context = tuple[Prepared, Tensor | None]
"""What a stage reads unchanged at every step: the cell's part, and the projection (skip mode "mul" only)."""


class Reading(NamedTuple):
    """What all steps read of one batch of pictures, computed once.

    Attributes:
        contexts: one per stage, deepest first.
        sizes: (height, width) of each stage.
        image_size: (height, width) of the picture.
        ballot: the pixels' votes, if masks are voted for.
    """

    contexts: list[Context]
    sizes: list[tuple[Any, Any]]
    image_size: tuple[Any, Any]
    ballot: Ballot | None


class Memory(NamedTuple):
    """What passes from step to step.

    Attributes:
        states: hidden and cell state of every stage; None before the first step (all zero).
        found: (B, h, w, 1) in 0..1, at the last stage's size, if masks are voted for: the union of the masks so far and
            of the pixels whose votes agree with them.
    """

    states: list[State] | None
    found: Tensor | None


class Step(NamedTuple):
    """One object.

    Attributes:
        mask_logits: (B, h, w, 1), at about the picture's size or half of it.
        features: (B, F), for `Decoder.heads`.
        pointing_logits: (B, h', w', 1), where the step points, if masks are voted for.
        memory: for the next step.
    """

    mask_logits: Tensor
    features: Tensor
    pointing_logits: Tensor | None
    memory: Memory


def stage_channels(config: ModelConfig) -> tuple[int, ...]:
    """Returns the hidden channels of each stage, deepest first: D, D/2, D/4, D/8, D/16, or `min_channels` if more."""
    return tuple(max(config.hidden_size >> stage, config.min_channels) for stage in range(config.decoder_stages))


def projection_channels(config: ModelConfig) -> tuple[int, ...]:
    """Returns the channels of each skip projection, deepest first: D, then those of the stage before.

    With a neck, all maps have its channels.
    """
    hidden = stage_channels(config)
    if config.neck_channels:
        return (config.neck_channels,) * len(hidden)
    return (config.hidden_size, *hidden[:-1])


class Decoder(keras.layers.Layer):
    """A chain of ConvLSTM stages with skip connections, and heads for mask, class and stop (paper, section 3.2).

    With `mask_head="voting"` every stage also reads what is found so far, and a `VotingHead` draws the masks.

    The interface has two halves. `prepare` reads the encoder's side once per image; `step` takes the memory of the
    step before, finds one object, and reads nothing else. Whoever drives the steps (the model, an export, a loop in a
    graph) needs only these, `start` and `heads`.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip_mode = config.skip_mode
        hidden = stage_channels(config)
        skip = projection_channels(config)
        self.voting = None
        if config.mask_head == "voting":
            self.voting = VotingHead(
                channels=config.neck_channels,
                hidden_channels=hidden[-1],
                kernel_size=config.kernel_size,
                keep_appearance=config.class_features == "mask",
                name="voting",
            )
        # With voting, a stage also reads what has been found so far, and the stop head how strongly a step points.
        extra = 1 if self.voting else 0
        self.cells = [
            ConvLSTMCell(
                filters=hidden[stage],
                context_channels=skip[stage] if stage == 0 or config.skip_mode == "concat" else 0,
                input_channels=extra + (0 if stage == 0 else hidden[stage - 1]),
                kernel_size=config.kernel_size,
                name=f"stage_{stage}",
            )
            for stage in range(config.decoder_stages)
        ]
        self.full_depth = config.decoder_stages == 5
        features = sum(hidden) + extra + (config.neck_channels if config.class_features == "mask" else 0)
        torch_uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
        if not self.voting:
            self.mask_head = keras.layers.Conv2D(
                1, config.kernel_size, padding="same", kernel_initializer=torch_uniform, name="mask_head"
            )
            self.mask_head.build((None, None, None, hidden[-1]))
        self.class_head = keras.layers.Dense(config.num_classes, kernel_initializer=torch_uniform, name="class_head")
        self.class_head.build((None, features))
        self.stop_head = keras.layers.Dense(1, kernel_initializer=torch_uniform, name="stop_head")
        self.stop_head.build((None, features))
        self.drop_hidden = keras.layers.SpatialDropout2D(config.dropout)
        self.drop_class = keras.layers.Dropout(config.dropout_class)
        self.drop_stop = keras.layers.Dropout(config.dropout_stop)
        self.built = True

    def prepare(self, maps: list[Tensor], image_size: tuple[Any, Any]) -> Reading:
        """Reads the encoder's side once, for all steps.

        Args:
            maps: (B, h, w, C), deepest first, one per stage at least; voting reads the last of them, the finest.
            image_size: (H, W) of the picture.
        """
        contexts: list[Context] = []
        for stage, (cell, projection) in enumerate(zip(self.cells, maps, strict=False)):
            if stage == 0 or self.skip_mode == "concat":
                contexts.append((cell.prepare(projection), None))
            elif self.skip_mode == "sum":
                contexts.append((cell.prepare(projection, shared_kernel=True), None))
            else:
                contexts.append((cell.prepare(None), projection))
        sizes = [spatial_size(projection) for projection in maps[: len(self.cells)]]
        ballot = self.voting.prepare(maps[-1], image_size, sizes[-1]) if self.voting else None
        return Reading(contexts, sizes, image_size, ballot)

    def start(self, reading: Reading, found: Tensor | None = None) -> Memory:
        """Returns the memory before the first step.

        Args:
            reading: from `prepare`.
            found: (B, H, W), 1 where something is that counts as found; voting only.
        """
        if not self.voting:
            return Memory(None, None)
        if found is None:
            return Memory(None, ops.zeros_like(reading.ballot.candidates[..., :1]))
        found = ops.cast(found, reading.ballot.candidates.dtype)[..., None]
        return Memory(None, resize(found, reading.sizes[-1]))

    def step(self, reading: Reading, memory: Memory, *, training: bool | None = None) -> Step:
        """Finds one object.

        Args:
            reading: from `prepare`.
            memory: from `start`, or of the step before.
            training: whether dropout is on.
        """
        states, found = memory
        hidden, features, next_states = self._recur(reading, states, found, training)
        if not self.voting:
            mask = self.mask_logits(hidden, reading.image_size)
            return Step(mask, features, None, Memory(next_states, None))
        pointing = self.voting.point(hidden, reading.ballot, found)
        chosen = self.voting.choose(pointing, reading.ballot)
        mask = self.voting.mask_logits(chosen, hidden, reading.ballot)
        # Where votes agree counts as found, foreground or not: a pixel beside its object that is pointed at once would
        # be pointed at for ever. The choice of the next object shall not bend this one's mask.
        covered = ops.maximum(
            resize(ops.sigmoid(mask), reading.sizes[-1]),
            ops.sigmoid(self.voting.agreement(reading.ballot.candidates[..., :2], chosen)),
        )
        covered = ops.stop_gradient(covered)
        strongest = ops.cast(ops.max(pointing, axis=(1, 2)), features.dtype)
        parts = [features, strongest]
        if reading.ballot.appearance is not None:
            parts.append(ops.cast(self.voting.look(mask, reading.ballot), features.dtype))
        features = ops.concatenate(parts, axis=-1)
        return Step(mask, features, pointing, Memory(next_states, ops.maximum(found, covered)))

    def _recur(
        self, reading: Reading, states: list[State] | None, found: Tensor | None, training: bool | None
    ) -> tuple[Tensor, Tensor, list[State]]:
        """Returns the last stage's hidden map (B, h, w, C), the pooled features (B, F), and the next states."""
        pooled, next_states = [], []
        hidden = None
        pyramid = _shrunk(found, reading.sizes) if self.voting else [None] * len(reading.sizes)
        for stage, (cell, (prepared, projection)) in enumerate(zip(self.cells, reading.contexts, strict=True)):
            inputs = None
            if stage > 0:
                inputs = resize(hidden, reading.sizes[stage])
                if self.skip_mode == "mul":
                    inputs = inputs * projection
            if self.voting:
                covered = ops.cast(pyramid[stage], self.compute_dtype)
                inputs = covered if inputs is None else ops.concatenate([inputs, covered], axis=-1)
            state = cell(prepared, inputs, None if states is None else states[stage])
            next_states.append(state)
            hidden = self.drop_hidden(state[0], training=training)
            pooled.append(ops.max(hidden, axis=(1, 2)))
        return hidden, ops.concatenate(pooled, axis=-1), next_states

    def mask_logits(self, hidden: Tensor, image_size: tuple[Any, Any]) -> Tensor:
        """Turns the last stage's hidden map into mask logits.

        Five stages end at half the image's size and are doubled; a chain cut short (paper, table 5) is brought to the
        image's size. The 3×3 head reads the enlarged map.

        Args:
            hidden: (B, h, w, C).
            image_size: (height, width) of the image.

        Returns:
            (B, h', w', 1); of image size unless a stride did not divide it.
        """
        height, width = spatial_size(hidden)
        return self.mask_head(resize(hidden, (2 * height, 2 * width) if self.full_depth else image_size))

    def heads(self, features: Tensor, *, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """Returns class probabilities (…, K) and stop logits (…) of pooled features (…, F)."""
        class_logits = self.class_head(self.drop_class(features, training=training))
        stop_logits = self.stop_head(self.drop_stop(features, training=training))
        # Softmax and losses in float32: float16 has too few digits for the log of a small probability.
        class_probs = ops.softmax(ops.cast(class_logits, "float32"), axis=-1)
        return class_probs, ops.cast(stop_logits[..., 0], "float32")


def _shrunk(found: Tensor, sizes: list[tuple[Any, Any]]) -> list[Tensor]:
    """Brings a map of the last stage's size to every stage's, halving at a time so that nothing is skipped."""
    maps = [found]
    for size in sizes[-2::-1]:
        maps.append(resize(maps[-1], size))
    return maps[::-1]
