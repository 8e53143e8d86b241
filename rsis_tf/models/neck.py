"""A top-down path that adds the coarse levels of the encoder to the fine ones, so that fine maps have context."""

from typing import Any

import keras
from keras import ops

from rsis_tf.models.normalization import BatchNorm
from rsis_tf.ops import resize, spatial_size

Tensor = Any


class TopDownNeck(keras.layers.Layer):
    """Feature pyramid (Lin et al., arXiv 1612.03144): from deep to fine, the map of each level is added to the next.

    P₅ = f(x₅), Pᵢ = f(lateral(xᵢ) + up(Pᵢ₊₁)), where lateral is a 1×1 convolution, f a 3×3 convolution with batch
    normalisation and ReLU, and up a bilinear resize. It is computed once per image, before the first step.

    Args:
        channels: of every map.
        encoder_channels: of the encoder's maps, deepest first.
    """

    def __init__(self, channels: int, encoder_channels: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.laterals, self.convolutions, self.norms = [], [], []
        for level, width in enumerate(encoder_channels):
            lateral = keras.layers.Conv2D(channels, 1, name=f"lateral_{level}")
            lateral.build((None, None, None, width))
            convolution = keras.layers.Conv2D(
                channels,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"convolution_{level}",
            )
            convolution.build((None, None, None, channels))
            norm = BatchNorm(name=f"norm_{level}")
            norm.build((None, None, None, channels))
            self.laterals.append(lateral)
            self.convolutions.append(convolution)
            self.norms.append(norm)
        self.built = True

    def call(self, features: list[Tensor], training: bool | None = None) -> list[Tensor]:
        """Returns one map (B, h, w, channels) per level, from the encoder's maps (B, h, w, C), deepest first."""
        maps: list[Tensor] = []
        for feature, lateral, convolution, norm in zip(
            features, self.laterals, self.convolutions, self.norms, strict=True
        ):
            x = lateral(feature)
            if maps:
                x = x + resize(maps[-1], spatial_size(x))
            maps.append(ops.relu(norm(convolution(x), training=training)))
        return maps
