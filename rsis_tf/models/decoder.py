"""The recurrent decoder: from skip projections and states to one object per step."""

from typing import Any

import keras
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.models.conv_lstm import ConvLSTMCell, Prepared, State, Tensor
from rsis_tf.ops import resize, spatial_size

Context = tuple[Prepared, Tensor | None]
"""What a stage reads unchanged at every step: the cell's part, and the projection (skip mode "mul" only)."""


def stage_channels(config: ModelConfig) -> tuple[int, ...]:
    """Returns the hidden channels of each stage, deepest first: D, D/2, D/4, D/8, D/16, or `min_channels` if more."""
    return tuple(max(config.hidden_size >> stage, config.min_channels) for stage in range(config.decoder_stages))


def projection_channels(config: ModelConfig) -> tuple[int, ...]:
    """Returns the channels of each skip projection, deepest first: D, then those of the stage before."""
    hidden = stage_channels(config)
    return (config.hidden_size, *hidden[:-1])


class Decoder(keras.layers.Layer):
    """A chain of ConvLSTM stages with skip connections and three heads (paper, section 3.2).

    The interface has two halves. `prepare` reads the skip projections once per image; `step` advances the states by
    one object and reads nothing else. Whoever drives the steps (the model, an export, a loop in a graph) needs only
    these, `mask_logits` and `heads`.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip_mode = config.skip_mode
        hidden = stage_channels(config)
        skip = projection_channels(config)
        self.cells = [
            ConvLSTMCell(
                filters=hidden[stage],
                context_channels=skip[stage] if stage == 0 or config.skip_mode == "concat" else 0,
                input_channels=0 if stage == 0 else hidden[stage - 1],
                kernel_size=config.kernel_size,
                name=f"stage_{stage}",
            )
            for stage in range(config.decoder_stages)
        ]
        self.full_depth = config.decoder_stages == 5
        features = sum(hidden)
        torch_uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
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

    def prepare(self, projections: list[Tensor]) -> list[Context]:
        """Reads the skip projections once, for all steps.

        Args:
            projections: one (B, h, w, C) per stage, deepest first.

        Returns:
            One context per stage for `step`.
        """
        contexts: list[Context] = []
        for stage, (cell, projection) in enumerate(zip(self.cells, projections, strict=True)):
            if stage == 0 or self.skip_mode == "concat":
                contexts.append((cell.prepare(projection), None))
            elif self.skip_mode == "sum":
                contexts.append((cell.prepare(projection, shared_kernel=True), None))
            else:
                contexts.append((cell.prepare(None), projection))
        return contexts

    def step(
        self,
        contexts: list[Context],
        sizes: list[tuple[Any, Any]],
        states: list[State] | None,
        *,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor, list[State]]:
        """Finds one object.

        Args:
            contexts: from `prepare`.
            sizes: (height, width) of each stage.
            states: of every stage, or None before the first object.
            training: whether dropout is on.

        Returns:
            The last stage's hidden map (B, h, w, C), the pooled features (B, F) for `heads`, and the next states.
        """
        pooled, next_states = [], []
        hidden = None
        for stage, (cell, (prepared, projection)) in enumerate(zip(self.cells, contexts, strict=True)):
            inputs = None
            if stage > 0:
                inputs = resize(hidden, sizes[stage])
                if self.skip_mode == "mul":
                    inputs = inputs * projection
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
