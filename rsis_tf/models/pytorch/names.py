"""The PyTorch name of every variable of a model, and the conversion between the two layouts."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from rsis_tf.models.rsis import RSIS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """One PyTorch tensor and the Keras variable that corresponds to it.

    Attributes:
        name: in the state dictionary, e.g. "base.layer1.0.conv1.weight".
        variable: of the Keras model.
        permutation: order of the PyTorch array's axes in Keras; None if it is the same.
        channels: input channels in Keras's order, as indices into PyTorch's; None if the order is the same.
    """

    name: str
    variable: Any
    permutation: tuple[int, ...] | None = None
    channels: np.ndarray | None = None

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape of the tensor in PyTorch."""
        shape = tuple(self.variable.shape)
        if self.permutation is None:
            return shape
        return tuple(shape[axis] for axis in np.argsort(self.permutation))

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        """Returns the array in Keras's layout."""
        if self.channels is not None:
            array = array[:, self.channels]
        return array if self.permutation is None else array.transpose(self.permutation)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Returns the array in PyTorch's layout."""
        if self.permutation is not None:
            array = array.transpose(np.argsort(self.permutation))
        return array if self.channels is None else array[:, np.argsort(self.channels)]


def backbone_pairs(model: "RSIS") -> Iterator[Pair]:
    """Yields the encoder's pairs under torchvision's own names, e.g. "layer1.0.conv1.weight"."""
    for layer in model.encoder.layers:
        yield from _layer_pairs(layer.name.replace("-", "."), layer)


def encoder_pairs(model: "RSIS") -> Iterator[Pair]:
    """Yields the pairs of the original's `encoder.pt`: backbone, skip convolutions sk5…sk1 and norms bn5…bn1."""
    for pair in backbone_pairs(model):
        yield dataclasses.replace(pair, name=f"base.{pair.name}")
    for stage, (convolution, norm) in enumerate(zip(model.skip_convolutions, model.skip_norms, strict=True)):
        yield from _layer_pairs(f"sk{5 - stage}", convolution)
        yield from _layer_pairs(f"bn{5 - stage}", norm)


def decoder_pairs(model: "RSIS") -> Iterator[Pair]:
    """Yields the pairs of the original's `decoder.pt`."""
    for stage, cell in enumerate(model.decoder.cells):
        channels = None
        if stage > 0 and cell.context_channels:
            # PyTorch concatenates [upsampled, projection, hidden]; here the projection, read once, comes first.
            order = np.arange(cell.context_channels + cell.input_channels + cell.filters)
            upsampled, projection, hidden = np.split(
                order, [cell.input_channels, cell.input_channels + cell.context_channels]
            )
            channels = np.concatenate([projection, upsampled, hidden])
        name = f"clstm_list.{stage}.Gates"
        yield Pair(name=f"{name}.weight", variable=cell.gate_kernel, permutation=(2, 3, 1, 0), channels=channels)
        yield Pair(name=f"{name}.bias", variable=cell.gate_bias)
    yield from _layer_pairs("conv_out", model.decoder.mask_head)
    yield from _layer_pairs("fc_class", model.decoder.class_head)
    yield from _layer_pairs("fc_stop", model.decoder.stop_head)


def _layer_pairs(name: str, layer: keras.layers.Layer) -> Iterator[Pair]:
    if isinstance(layer, keras.layers.BatchNormalization):
        yield Pair(name=f"{name}.weight", variable=layer.gamma)
        yield Pair(name=f"{name}.bias", variable=layer.beta)
        yield Pair(name=f"{name}.running_mean", variable=layer.moving_mean)
        yield Pair(name=f"{name}.running_var", variable=layer.moving_variance)
    elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        permutation = (2, 3, 1, 0) if isinstance(layer, keras.layers.Conv2D) else (1, 0)
        yield Pair(name=f"{name}.weight", variable=layer.kernel, permutation=permutation)
        if layer.use_bias:
            yield Pair(name=f"{name}.bias", variable=layer.bias)
