"""The ConvLSTM cell: one fused gate convolution, with the part that does not change from step to step split off."""

from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any
State = tuple[Tensor, Tensor]
"""Hidden and cell state of one stage, each (B, h, w, filters)."""


class Prepared(NamedTuple):
    """What a cell reads unchanged at every step.

    Attributes:
        gates: (B, h, w, 4·filters), the context's share of the gates and the bias; the bias (4·filters,) alone
            without a context.
        kernel: (k, k, input_channels + filters, 4·filters), the part of the kernel that reads input and hidden state.
            Taken out here, once: the gradient of a slice is as large as the whole kernel.
    """

    gates: Tensor
    kernel: Tensor


def _remember(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
    """Starts the forget gates at 1 and the others at 0, so that a fresh cell keeps what it has seen."""
    gate = ops.arange(shape[0]) // (shape[0] // 4)
    return ops.cast(gate == 1, dtype)


@keras.saving.register_keras_serializable(package="rsis_tf")
class ConvLSTMCell(keras.layers.Layer):
    """Convolutional LSTM without peepholes (Shi et al., 2015), gates in the order input, forget, output, candidate.

    c = σ(f)·c + σ(i)·tanh(g) and h = σ(o)·tanh(c), all four gates from one convolution with bias over the channels
    [context, input, previous hidden]. A convolution is linear in its input, so the context's share, which is the same
    at every step, is computed once per image by `prepare` and added at each step.

    Args:
        filters: channels of the hidden state.
        context_channels: channels of what stays the same over the steps, 0 for none.
        input_channels: channels of what changes, 0 for none.
        kernel_size: 1 or 3.
    """

    def __init__(
        self, *, filters: int, context_channels: int, input_channels: int, kernel_size: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
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
        self.gate_bias = self.add_weight(name="gate_bias", shape=(4 * filters,), initializer=_remember)
        self.built = True

    def prepare(self, context: Tensor | None, *, shared_kernel: bool = False) -> Prepared:
        """Does what is the same at every step: the context's share of the gates, and the rest of the kernel.

        Args:
            context: (B, h, w, C), or None if the cell has none.
            shared_kernel: the context is added to the input before the convolution (skip mode "sum"), so the input's
                part of the kernel reads it.
        """
        kernel, gates = ops.convert_to_tensor(self.gate_kernel), ops.convert_to_tensor(self.gate_bias)
        if context is not None:
            channels = self.input_channels if shared_kernel else self.context_channels
            gates = self._convolve(context, kernel[:, :, :channels]) + ops.cast(gates, context.dtype)
        return Prepared(gates, kernel[:, :, self.context_channels :])

    def call(self, prepared: Prepared, inputs: Tensor | None, state: State | None) -> State:
        """One step.

        Args:
            prepared: from `prepare`.
            inputs: (B, h, w, input_channels), or None if the cell has none.
            state: hidden and cell state, or None at the first step (both zero).

        Returns:
            The next (hidden, cell), each (B, h, w, filters).
        """
        gates, kernel = prepared
        if state is None:
            kernel = kernel[:, :, : self.input_channels]
        changing = [part for part in (inputs, state and state[0]) if part is not None]
        if changing:
            changing = changing[0] if len(changing) == 1 else ops.concatenate(changing, axis=-1)
            gates = gates + self._convolve(changing, kernel)
        in_gate, forget, out_gate, candidate = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(in_gate) * ops.tanh(candidate)
        if state is not None:
            cell = cell + ops.sigmoid(forget) * state[1]
        return ops.sigmoid(out_gate) * ops.tanh(cell), cell

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(x, ops.cast(kernel, x.dtype), strides=1, padding="same")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "context_channels": self.context_channels,
            "input_channels": self.input_channels,
            "kernel_size": self.kernel_size,
        }
