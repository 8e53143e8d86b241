"""The function that every format exports, made from a Keras model: `image` → `masks`, `classes`, `stop`."""

import dataclasses
from typing import Any

import tensorflow as tf

from export.options import Options
from rsis_tf.errors import InputError
from rsis_tf.inference import load_model
from rsis_tf.models import RSIS
from rsis_tf.models.encoders import ENCODERS
from rsis_tf.runtime import ModelInfo

Tensor = Any  # TensorFlow has no type information


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """Shape and type of an exported graph.

    Attributes:
        size: (height, width) at which the network runs; None for the size of the input.
        batch: B, or None for any.
        steps: T.
        input_type: dtype of `image`, "uint8" or "float32"; values 0..255 either way.
        resize: whether a graph of fixed size takes images of any size and resizes them.
        aspect: "stretch" or "keep": how images of another shape are resized, see `rsis_tf.runtime.resize_image`.
    """

    size: tuple[int, int] | None
    batch: int | None
    steps: int
    input_type: str = "uint8"
    resize: bool = True
    aspect: str = "stretch"

    @property
    def input_shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Shape of `image`, with None for a dynamic axis."""
        height, width = (None, None) if self.size is None or self.resize else self.size
        return self.batch, height, width, 3

    @property
    def named_input_shape(self) -> tuple[int | str, int | str, int | str, int]:
        """Shape of `image`, with the name of a dynamic axis."""
        batch, height, width, channels = self.input_shape
        return batch or "batch", height or "height", width or "width", channels

    @property
    def fixed_size(self) -> tuple[int, int]:
        """`size`, where it must be fixed."""
        if self.size is None:
            raise ValueError("expected a fixed size. Received: None")
        return self.size


def open_source(options: Options) -> tuple[RSIS, Options]:
    """Reads the model to export, and takes from it the stop threshold that the options leave open.

    Raises:
        InputError: if the model cannot be read.
    """
    model = load_model(options.source)
    if options.stop_threshold is None:
        options = dataclasses.replace(options, stop_threshold=model.config.stop_threshold)
    return model, options


def make_spec(model: RSIS, options: Options) -> GraphSpec:
    """Returns shape and type of the graph; steps and size come from the model where the options leave them open.

    Raises:
        InputError: for a size below the smallest that the encoder takes, or above the largest that the runtime takes.
    """
    size = model.config.image_size if options.size == "model" else options.size
    smallest = ENCODERS[model.config.encoder].min_size
    if size is not None and min(size) < smallest:
        raise InputError(
            f"the encoder {model.config.encoder} takes sides of {smallest} or more pixels. "
            f"Received: --size {size[0]}x{size[1]}"
        )
    if size is not None:
        ModelInfo(image_size=size, batch=options.batch)  # the limits of the runtime
    return GraphSpec(
        size=size,
        batch=options.batch,
        steps=options.steps or model.config.num_steps,
        input_type=options.input_type,
        resize=options.resize and size is not None,
        aspect=model.config.aspect,
    )


def infer(model: RSIS, image: Tensor, spec: GraphSpec) -> dict[str, Tensor]:
    """Computes what a file computes.

    Args:
        model: the network.
        image: (B, H, W, 3) uint8 or float32, RGB 0..255.
        spec: whether to resize to a fixed size first, and the number of steps.

    Returns:
        `masks` (B, T, h, w), `classes` (B, T, K) and `stop` (B, T), float32 probabilities; h, w is `spec.size`, or the
        size of the image.
    """
    if spec.resize:
        image = resample(image, spec.fixed_size, spec.aspect)
    outputs = model(image, num_steps=spec.steps, training=False)
    return {
        "masks": tf.sigmoid(outputs["mask_logits"], name="masks"),
        "classes": tf.identity(outputs["class_probs"], name="classes"),
        "stop": tf.sigmoid(outputs["stop_logits"], name="stop"),
    }


def resample(image: Tensor, size: tuple[int, int], aspect: str = "stretch") -> Tensor:
    """Resizes images as `rsis_tf.runtime.resize_image` does, with an antialiased triangle filter, inside a graph.

    Resizing operators differ between formats, and most of them sample without a filter. An image reduced by one of
    them would differ from the images of the training. Matrix products give the same result in every format. Images of
    the right size pass unchanged, bit for bit.

    By default, GPUs since Ampere round the operands of float32 matrix products to 11 binary digits (TensorFloat-32).
    The weights are therefore split into two matrices of 11 binary digits or fewer. The values of 8-bit images have
    fewer as well, so that every product is exact on these GPUs too.

    Args:
        image: (B, H, W, 3) uint8 or float32.
        size: (h, w) of the result.
        aspect: "stretch", or "keep" for an undistorted image in the middle of a black frame.

    Returns:
        (B, h, w, 3) float32. For uint8 input the values are integers and differ from Pillow's by one at most. For
        float32 input, TensorFloat-32 rounds fractions (by 0.06 at most).
    """
    whole = image.dtype == tf.uint8
    x = tf.cast(tf.transpose(image, (0, 3, 1, 2)), tf.float32)  # (B, 3, H, W)
    height, width = tf.shape(x)[2], tf.shape(x)[3]
    inner_height, inner_width = _inner_size(height, width, size) if aspect == "keep" else size
    parts = _triangle_weights(width, size[1], inner_width)
    x = tf.add_n([tf.matmul(x, part, transpose_b=True) for part in parts])  # (B, 3, H, w)
    x = tf.floor(x + 0.5) if whole else x
    parts = _triangle_weights(height, size[0], inner_height)
    x = tf.add_n([tf.matmul(part, x) for part in parts])  # (B, 3, h, w)
    x = tf.floor(x + 0.5) if whole else x
    return tf.transpose(x, (0, 2, 3, 1))  # (B, h, w, 3)


def _inner_size(height: Tensor, width: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns height and width of an undistorted image in a frame, equal to those of `rsis_tf.runtime.letterbox`."""
    tall = height * size[1] >= width * size[0]
    inner_height = tf.maximum((2 * height * size[1] + width) // (2 * width), 1)
    inner_width = tf.maximum((2 * width * size[0] + height) // (2 * height), 1)
    return tf.where(tall, size[0], inner_height), tf.where(tall, inner_width, size[1])


def _triangle_weights(n_in: Tensor, n_out: int, n_inner: Tensor | int) -> tuple[Tensor, Tensor]:
    """Returns the weight of each input pixel in each output pixel, as the sum of two (n_out, n_in) float32 matrices.

    The input is resized to `n_inner` pixels in the middle of `n_out`; rows outside are zero. If `n_inner` is an
    integer, it equals `n_out`.

    The first matrix holds multiples of 2⁻¹¹, the second one the remainder in multiples of 2⁻²², the precision of
    Pillow's weights. Both have 11 binary digits or fewer.
    """
    position = tf.range(n_out, dtype=tf.float32)  # (n_out,)
    if not isinstance(n_inner, int):
        position -= tf.cast((n_out - n_inner) // 2, tf.float32)
    # TensorFlow's optimiser turns a division by a constant into a product, which rounds in another way. A product as
    # written is the same in every engine.
    scale = tf.cast(n_in, tf.float32)
    scale = scale * (1 / n_inner) if isinstance(n_inner, int) else scale / tf.cast(n_inner, tf.float32)
    centres = (position + 0.5) * scale
    distance = tf.abs(tf.cast(tf.range(n_in), tf.float32)[None, :] + 0.5 - centres[:, None])
    weights = tf.nn.relu(1 - distance / tf.maximum(scale, 1))
    if isinstance(n_inner, int):
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    else:
        inside = tf.cast((position >= 0) & (position < tf.cast(n_inner, tf.float32)), tf.float32)[:, None]  # (n_out, 1)
        # Far outside, all weights are zero; the lower bound avoids 0 / 0.
        weights = inside * weights / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1e-6)
    coarse = tf.floor(weights * 2.0**11) * 2.0**-11
    fine = tf.floor((weights - coarse) * 2.0**22 + 0.5) * 2.0**-22
    return coarse, fine
