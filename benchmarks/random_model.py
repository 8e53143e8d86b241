"""The paper's network with random weights whose outputs can be compared: activations keep their scale, masks contrast.

He initialisation makes the activations of a deep ResNet without training grow from block to block, until float16
overflows. Here every convolution of the encoder keeps the mean square of its input, and each block adds half of its
branch. Weights may be rounded to few values, which makes archives of the files small.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rsis_tf.config import ModelConfig
    from rsis_tf.models import RSIS

STEP = {2: 0.996, 3: 0.586, 4: 0.335}
"""Bits of a weight → the step of the uniform quantiser with the least error for a normal distribution of variance 1
(Max, 1960, table II)."""


def random_model(config: "ModelConfig", *, weight_bits: int | None = None, seed: int = 0) -> "RSIS":
    """Builds the model.

    Args:
        config: of a network with ResNet encoder and the paper's mask head.
        weight_bits: 2, 3 or 4 to round every large kernel to that many bits; None for float32.
        seed: of the weights.
    """
    import keras

    from rsis_tf.models import build_model

    keras.utils.set_random_seed(seed)
    model = build_model(config)
    for layer in model.encoder.layers:
        if isinstance(layer, keras.layers.Conv2D):
            scale = math.sqrt(2 / np.prod(layer.kernel.shape[:3]))
            layer.kernel.assign(layer.kernel * (scale / np.std(layer.kernel)))
        elif layer.name.endswith(("-bn3", "-bn2")) and _is_last(layer, model.encoder):
            layer.gamma.assign(layer.gamma * 0.5)
    head, stop = model.decoder.mask_head, model.decoder.stop_head
    head.kernel.assign(head.kernel * 10)
    model.decoder.class_head.kernel.assign(model.decoder.class_head.kernel * 10)
    stop.bias.assign([1.0])
    if weight_bits is not None:
        for variable in model.trainable_variables:
            if len(variable.shape) == 4:
                variable.assign(rounded(np.asarray(variable), weight_bits))
    return model


def rounded(kernel: np.ndarray, bits: int) -> np.ndarray:
    """Returns the kernel rounded to 2^bits values, odd multiples of a power of two, which float16 and TF32 hold."""
    half = 2.0 ** round(math.log2(STEP[bits] * float(np.std(kernel)) / 2))
    steps = np.clip(np.floor(kernel / (2 * half)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return ((2 * steps + 1) * half).astype(np.float32)


def _is_last(layer: Any, encoder: Any) -> bool:
    """Returns whether a normalisation ends its block: there is none with the next number."""
    stem, number = layer.name[:-1], int(layer.name[-1])
    return not any(other.name == f"{stem}{number + 1}" for other in encoder.layers)
