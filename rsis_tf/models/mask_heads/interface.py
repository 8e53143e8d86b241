"""What the decoder asks of a mask head, and `build_mask_head`, which finds a head in the table."""

import importlib
from typing import Any, NamedTuple, Self

import keras

from rsis_tf.config import ModelConfig
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.models.conv_lstm import CellContext

Tensor = Any
Size = tuple[Any, Any]
"""(height, width): integers where they are known, otherwise scalar tensors."""


class StageContext(NamedTuple):
    """What one ConvLSTM stage reads at every step.

    Attributes:
        cell: the part that the cell has computed from the encoder's features.
        projection: (B, h, w, C), the features themselves; None unless the skip mode is "mul".
    """

    cell: CellContext
    projection: Tensor | None


class ImageContext(NamedTuple):
    """What every step reads, computed once per image.

    Attributes:
        stages: one context per ConvLSTM stage, deepest first.
        sizes: size of each stage's map.
        image_size: size of the image.
        head: what the mask head reads at every step, each (B, h, w, C). Exported graphs use the same names.
        outputs: what the mask head adds to the outputs of the model, apart from the steps.
    """

    stages: list[StageContext]
    sizes: list[Size]
    image_size: Size
    head: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Found(NamedTuple):
    """Objects that count as found before the first step.

    Attributes:
        covered: (B, H, W), 1 where there is a found object.
        points: (B, N, 2) integer, (y, x) of one pixel of each found object that is not in `covered`: the model covers
            it by its own votes, as if it had pointed there. -1 for no object; None for none at all.
    """

    covered: Tensor
    points: Tensor | None = None


class HeadStep(NamedTuple):
    """What a mask head returns for one step.

    Attributes:
        mask_logits: (B, h, w, 1); the model resizes them to the image.
        state: the head's state for the next step.
        features: (B, `MaskHead.feature_channels`), further input of the class head and the stop head; None for none.
        outputs: each (B, h, w, 1); the model joins those of all steps along the last axis and returns them.
    """

    mask_logits: Tensor
    state: dict[str, Tensor]
    features: Tensor | None = None
    outputs: dict[str, Tensor] = {}  # noqa: RUF012  (never changed)


class MaskHead(keras.layers.Layer):
    """The interface of mask heads. The defaults are those of a head that only reads the last hidden map.

    A new head is a module in this package with a subclass, and a row in `rsis_tf.config.mask_heads`. If it adds loss
    terms, they are a function in `rsis_tf/training/losses/`, which the row names.

    Attributes:
        before_cells: whether its weights precede those of the ConvLSTM cells in `model.weights`. The order is that of
            the arrays in the saved states of runs.
        input_channels: channels that `stage_inputs` adds to the input of every stage.
        feature_channels: channels that it adds to the features of the class head and the stop head.
    """

    before_cells = False
    input_channels = 0
    feature_channels = 0

    @classmethod
    def for_model(cls, config: ModelConfig, *, hidden_channels: int, initializer: Any, name: str) -> Self:
        """Builds the head, weights included.

        Args:
            config: of the model.
            hidden_channels: channels of the last stage's hidden map.
            initializer: for kernels that are initialised as the paper's; None for a head with `before_cells`.
            name: of the layer.
        """
        raise NotImplementedError

    def prepare(
        self, maps: list[Tensor], sizes: list[Size], image_size: Size
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns `ImageContext.head` and `ImageContext.outputs`, computed once per image.

        Args:
            maps: (B, h, w, C), the encoder's features as the decoder reads them, deepest first.
            sizes: size of each stage's map.
            image_size: size of the image.
        """
        return {}, {}

    def start(self, context: ImageContext, found: Found | None) -> dict[str, Tensor]:
        """Returns the head's state before the first step, each (B, h, w, C).

        Without found objects it must be all zero: exported graphs start with zeros.

        Args:
            context: of the image.
            found: the objects that count as found; None for none.
        """
        return {}

    def stage_inputs(self, state: dict[str, Tensor], context: ImageContext) -> list[Tensor] | None:
        """Returns what each stage reads beside its usual input, (B, h, w, `input_channels`) each; None for nothing."""
        return None

    def step(self, hidden: Tensor, context: ImageContext, state: dict[str, Tensor]) -> HeadStep:
        """Draws the mask of one object.

        Args:
            hidden: (B, h, w, `hidden_channels`), the hidden map of the last stage.
            context: of the image.
            state: the head's state, from `start` or from the step before.
        """
        raise NotImplementedError


def mask_head_class(name: str) -> type[MaskHead]:
    """Returns the class of a mask head.

    Args:
        name: a key of `MASK_HEADS`.
    """
    module, _, attribute = MASK_HEADS[name].implementation.partition(":")
    head: type[MaskHead] = getattr(importlib.import_module(module), attribute)
    return head
