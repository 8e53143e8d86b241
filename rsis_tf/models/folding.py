"""Convolutions that contain the batch normalisation behind them, while it keeps its statistics."""

from typing import Any

import keras
from keras import ops

Tensor = Any


class FoldedConvolution(keras.layers.Layer):
    """A convolution and the batch normalisation behind it, with kept statistics, as one convolution.

    (K∗x + b − μ)·s + β = (s·K)∗x + (b − μ)·s + β, with s = γ/√(σ² + ε). K, b, γ and β get the gradients that they have
    apart, but nothing of the size of a feature map is multiplied, added or summed for them. The weights stay those of
    the two layers.

    Args:
        convolution: a `Conv2D` or `DepthwiseConv2D` without activation.
        norm: which reads its result.
    """

    def __init__(self, convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(name=f"{convolution.name}_folded", dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.norm = norm
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Returns the normalised map (B, h, w, D) of a map (B, h', w', C)."""
        convolution, norm = self.convolution, self.norm
        scale = ops.rsqrt(ops.convert_to_tensor(norm.moving_variance) + norm.epsilon)  # (D,)
        if norm.scale:
            scale = scale * norm.gamma
        shift = -norm.moving_mean * scale
        if norm.center:
            shift = shift + norm.beta
        if convolution.use_bias:
            shift = shift + convolution.bias * scale
        if depthwise := isinstance(convolution, keras.layers.DepthwiseConv2D):
            # (C · multiplier,) → (C, multiplier), the last axes of the kernel
            scale = ops.reshape(scale, tuple(convolution.kernel.shape)[2:])
        kernel = ops.cast(convolution.kernel * scale, self.compute_dtype)
        convolve = ops.depthwise_conv if depthwise else ops.conv
        outputs = convolve(
            inputs,
            kernel,
            strides=convolution.strides,
            padding=convolution.padding,
            data_format="channels_last",
            dilation_rate=convolution.dilation_rate,
        )
        return outputs + ops.cast(shift, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.convolution.compute_output_shape(input_shape)


def folded(network: keras.Model) -> keras.Model:
    """Returns a network with the same layers, in which a convolution and its batch normalisation are one operation.

    It is for training with kept statistics (`training=False` for batch normalisation). The result is the network itself
    if there is no such pair. The weights are those of the network, so the result must not be saved or tracked.

    Args:
        network: a functional model.
    """
    results: dict[int, tuple[Tensor, keras.layers.Layer, Tensor]] = {}
    pairs = 0

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        nonlocal pairs
        if isinstance(layer, keras.layers.BatchNormalization) and (before := results.get(id(args[0]))):
            pairs += 1
            _, convolution, inputs = before
            return FoldedConvolution(convolution, layer)(inputs)
        outputs = layer(*args, **kwargs)
        if _foldable(layer):
            results[id(outputs)] = (outputs, layer, args[0])  # with outputs, so that nothing else gets their id
        return outputs

    copy = keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
    return copy if pairs else network


def _foldable(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and getattr(layer, "groups", 1) == 1
    )
