"""The paper's mask head: one convolution draws the mask from the last hidden map (section 3.2)."""

from typing import Any, Self

import keras

from rsis_tf.config import ModelConfig
from rsis_tf.models.mask_heads.interface import HeadStep, ImageContext, MaskHead, Tensor
from rsis_tf.ops import resize, spatial_size


class ConvolutionHead(MaskHead, keras.layers.Conv2D):
    """A convolution with one output channel over the enlarged hidden map.

    Five stages end at half the image's size, and their map is doubled. The map of a shorter chain (paper, table 5) is
    resized to the image.

    Args:
        doubles: whether the map is doubled; otherwise it is resized to the image.
        kwargs: of `keras.layers.Conv2D`.
    """

    def __init__(self, *, doubles: bool, **kwargs: Any) -> None:
        super().__init__(1, padding="same", **kwargs)
        self.doubles = doubles

    @classmethod
    def for_model(cls, config: ModelConfig, *, hidden_channels: int, initializer: Any, name: str) -> Self:
        head = cls(
            doubles=config.decoder_stages == 5,
            kernel_size=config.kernel_size,
            kernel_initializer=initializer,
            name=name,
        )
        head.build((None, None, None, hidden_channels))
        return head

    def step(self, hidden: Tensor, context: ImageContext, state: dict[str, Tensor]) -> HeadStep:
        height, width = spatial_size(hidden)
        size = (2 * height, 2 * width) if self.doubles else context.image_size
        return HeadStep(self(resize(hidden, size)), state)
