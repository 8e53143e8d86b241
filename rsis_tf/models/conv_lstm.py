"""The ConvLSTM cell: one convolution for all gates; what is the same at every step is computed once per image."""

from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any
State = tuple[Tensor, Tensor]
"""Hidden and cell state of one stage, each (B, h, w, filters); the cell state is float32 in every precision."""


class CellContext(NamedTuple):
    """What a cell reads at every step, computed once per image.

    Attributes:
        gates: (B, h, w, 4·filters) float32, the bias and what the features contribute to the gates; only the bias,
            (4·filters,), without features.
        kernel: (k, k, input_channels + filters, 4·filters), the part of the kernel that reads the input and the hidden
            state. It is sliced once per image, because the gradient of every slice is as large as the whole kernel.
    """

    gates: Tensor
    kernel: Tensor


def _forget_bias(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
    """Initialises the bias of the forget gates with 1 and the others with 0, so that a fresh cell keeps its state."""
    gate = ops.arange(shape[0]) // (shape[0] // 4)
    return ops.cast(gate == 1, dtype)


@keras.saving.register_keras_serializable(package="rsis_tf")
class ConvLSTMCell(keras.layers.Layer):
    """Convolutional LSTM without peepholes (Shi et al., 2015), gates in the order input, forget, output, candidate.

    c = σ(f)·c + σ(i)·tanh(g) and h = σ(o)·tanh(c), all four gates from one convolution with bias over the channels
    [features, input, previous hidden]. The features of the encoder are the same at every step. A convolution is linear
    in its input, so `prepare` computes their contribution once per image, and every step adds it.

    Gates and cell state are float32 in every precision: the cell sums over all steps, and CPUs compute the sigmoid and
    tanh of 16-bit numbers slower than those of float32. Only the convolutions and the hidden state have 16 bits.

    Args:
        filters: channels of the hidden state.
        context_channels: channels of the features, which are the same at every step; 0 for none.
        input_channels: channels of the input, which changes from step to step; 0 for none.
        kernel_size: 1 or 3.
    """

    def __init__(
        self, *, filters: int, context_channels: int, input_channels: int, kernel_size: int, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # Keras would cast the cell state to 16 bits
        self.filters = filters
        self.context_channels = context_channels
        self.input_channels = input_channels
        self.kernel_size = kernel_size
        channels = context_channels + input_channels + filters
        self.gate_kernel = self.add_weight(
            name="gate_kernel",
            shape=(kernel_size, kernel_size, channels, 4 * filters),
            initializer=keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="uniform"),
        )
        self.gate_bias = self.add_weight(name="gate_bias", shape=(4 * filters,), initializer=_forget_bias)
        self.built = True

    def prepare(self, features: Tensor | None, *, shared_kernel: bool = False) -> CellContext:
        """Computes what is the same at every step.

        Args:
            features: (B, h, w, C), or None if the cell reads none.
            shared_kernel: whether the features are added to the input (skip mode "sum"), so that the input's part of
                the kernel reads them.
        """
        kernel, gates = ops.convert_to_tensor(self.gate_kernel), ops.convert_to_tensor(self.gate_bias)
        if features is not None:
            channels = self.input_channels if shared_kernel else self.context_channels
            gates = self._convolve(features, kernel[:, :, :channels]) + ops.cast(gates, "float32")
        return CellContext(ops.cast(gates, "float32"), kernel[:, :, self.context_channels :])

    def call(self, context: CellContext, inputs: list[Tensor], state: State | None) -> State:
        """Computes one step.

        Args:
            context: from `prepare`.
            inputs: (B, h, w, C) each, with `input_channels` together; empty if the cell has no input. They are joined
                with the hidden state here, because each concatenation copies all maps.
            state: hidden and cell state, or None at the first step (both zero).

        Returns:
            The next (hidden, cell), each (B, h, w, filters).
        """
        gates, kernel = context
        if state is None:
            kernel = kernel[:, :, : self.input_channels]
        parts = [*inputs, *(() if state is None else state[:1])]
        if parts:
            changing = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
            gates = gates + self._convolve(changing, kernel)
        in_gate, forget, out_gate, candidate = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(in_gate) * ops.tanh(candidate)
        if state is not None:
            cell = cell + ops.sigmoid(forget) * state[1]
        return ops.cast(ops.sigmoid(out_gate) * ops.tanh(cell), self.compute_dtype), cell

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.cast(ops.conv(x, ops.cast(kernel, x.dtype), strides=1, padding="same"), "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "context_channels": self.context_channels,
            "input_channels": self.input_channels,
            "kernel_size": self.kernel_size,
        }
