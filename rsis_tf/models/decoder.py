"""The recurrent decoder (paper, section 3.2): a chain of ConvLSTMs that emits one object per step."""

from typing import Any, NamedTuple

import keras
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.models.conv_lstm import ConvLSTMCell, State, Tensor
from rsis_tf.models.mask_heads.interface import Found, ImageContext, MaskHead, Size, StageContext, mask_head_class
from rsis_tf.ops import resize, spatial_size


class StepState(NamedTuple):
    """What passes from step to step.

    Attributes:
        stages: hidden and cell state of every stage; None before the first step (all zero).
        head: the mask head's state, each (B, h, w, C); empty for the paper's head.
    """

    stages: list[State] | None
    head: dict[str, Tensor]


class Step(NamedTuple):
    """One object.

    Attributes:
        mask_logits: (B, h, w, 1), about as large as the image, or half of it.
        features: (B, F), for `Decoder.heads`.
        outputs: what the mask head adds, each (B, h', w', 1).
        state: for the next step.
    """

    mask_logits: Tensor
    features: Tensor
    outputs: dict[str, Tensor]
    state: StepState


def stage_channels(config: ModelConfig) -> tuple[int, ...]:
    """Returns the hidden channels of each stage, deepest first: D, D/2, D/4, D/8, D/16, or `min_channels` if larger."""
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
    """A chain of ConvLSTM stages with skip connections, and heads for mask, class and stop.

    `prepare` reads the encoder's features once per image. `step` takes the state of the step before and predicts one
    object. The model, the exported graphs and the loop inside a graph all use `prepare`, `start`, `step` and `heads`.

    Args:
        config: the model's configuration.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip_mode = config.skip_mode
        hidden, skip = stage_channels(config), projection_channels(config)
        head = mask_head_class(config.mask_head)
        if head.before_cells:
            self._add_head(config, hidden[-1], None)
        self.cells = [
            ConvLSTMCell(
                filters=hidden[stage],
                context_channels=skip[stage] if stage == 0 or config.skip_mode == "concat" else 0,
                input_channels=head.input_channels + (0 if stage == 0 else hidden[stage - 1]),
                kernel_size=config.kernel_size,
                name=f"stage_{stage}",
            )
            for stage in range(config.decoder_stages)
        ]
        torch_uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
        if not head.before_cells:
            self._add_head(config, hidden[-1], torch_uniform)
        features = sum(hidden) + self._head.feature_channels
        self.class_head = keras.layers.Dense(config.num_classes, kernel_initializer=torch_uniform, name="class_head")
        self.class_head.build((None, features))
        self.stop_head = keras.layers.Dense(1, kernel_initializer=torch_uniform, name="stop_head")
        self.stop_head.build((None, features))
        self.drop_hidden = keras.layers.SpatialDropout2D(config.dropout)
        self.drop_class = keras.layers.Dropout(config.dropout_class)
        self.drop_stop = keras.layers.Dropout(config.dropout_stop)
        self.built = True

    def _add_head(self, config: ModelConfig, hidden_channels: int, initializer: Any) -> None:
        name = MASK_HEADS[config.mask_head].layer
        head = mask_head_class(config.mask_head).for_model(
            config, hidden_channels=hidden_channels, initializer=initializer, name=name
        )
        setattr(self, name, head)  # Keras names weights in `.keras` files after the attribute
        self._head: MaskHead = head

    def prepare(self, maps: list[Tensor], image_size: Size) -> ImageContext:
        """Reads the encoder's features once, for all steps.

        Args:
            maps: (B, h, w, C), deepest first, at least one per stage.
            image_size: (H, W) of the image.
        """
        stages = []
        for stage, (cell, projection) in enumerate(zip(self.cells, maps, strict=False)):
            if stage == 0 or self.skip_mode == "concat":
                stages.append(StageContext(cell.prepare(projection), None))
            elif self.skip_mode == "sum":
                stages.append(StageContext(cell.prepare(projection, shared_kernel=True), None))
            else:
                stages.append(StageContext(cell.prepare(None), projection if self.skip_mode == "mul" else None))
        sizes = [spatial_size(projection) for projection in maps[: len(self.cells)]]
        head, outputs = self._head.prepare(maps, sizes, image_size)
        return ImageContext(stages, sizes, image_size, head, outputs)

    def start(self, context: ImageContext, found: Found | None = None) -> StepState:
        """Returns the state before the first step.

        Args:
            context: from `prepare`.
            found: the objects that count as found; only some mask heads read them.
        """
        return StepState(None, self._head.start(context, found))

    def step(self, context: ImageContext, state: StepState, *, training: bool | None = None) -> Step:
        """Predicts one object.

        Args:
            context: from `prepare`.
            state: from `start`, or from the step before.
            training: whether dropout is on.
        """
        head_inputs = self._head.stage_inputs(state.head, context)
        hidden, pooled, stages = None, [], []
        for stage, (cell, (cell_context, projection)) in enumerate(zip(self.cells, context.stages, strict=True)):
            inputs = []
            if stage > 0:
                x = resize(hidden, context.sizes[stage])
                inputs.append(x if projection is None else x * projection)
            if head_inputs is not None:
                inputs.append(head_inputs[stage])
            last = None if state.stages is None else state.stages[stage]
            stages.append(cell(cell_context, inputs, last))
            hidden = self.drop_hidden(stages[-1][0], training=training)
            pooled.append(ops.max(hidden, axis=(1, 2)))  # (B, D/2^stage)
        drawn = self._head.step(hidden, context, state.head)
        features = ops.concatenate(pooled if drawn.features is None else [*pooled, drawn.features], axis=-1)
        return Step(drawn.mask_logits, features, drawn.outputs, StepState(stages, drawn.state))

    def shift_stop(self, shift: float) -> None:
        """Adds `shift` to the stop logits of all predictions."""
        self.stop_head.bias.assign(self.stop_head.bias + shift)

    def heads(self, features: Tensor, *, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """Returns class probabilities (…, K) and stop logits (…) of pooled features (…, F)."""
        class_logits = self.class_head(self.drop_class(features, training=training))
        stop_logits = self.stop_head(self.drop_stop(features, training=training))
        # Softmax and losses in float32: float16 has too few digits for the log of a small probability.
        class_probs = ops.softmax(ops.cast(class_logits, "float32"), axis=-1)
        return class_probs, ops.cast(stop_logits[..., 0], "float32")
