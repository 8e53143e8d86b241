"""Image encoders: VGG16 and ResNets in torchvision's form, backbones of keras.applications, and a small one.

Every encoder is a functional Keras model from a normalised image (B, H, W, 3) to five feature maps, deepest first.
Layers in torchvision's form have the names of their parameters in PyTorch, with "-" for ".", which Keras on PyTorch
does not allow in a name.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from rsis_tf.models.normalization import BatchNorm

Tensor = Any
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
    """One row of the table `ENCODERS`.

    Attributes:
        build: builds the functional model.
        mean, std: normalisation per channel of an image in [0, 1].
        min_size: smallest height and width whose deepest map is not empty.
        torchvision: whether checkpoints of torchvision fit.
        pretrained: builds the same network of keras.applications with weights, given "imagenet" or a file; None where
            Keras has no weights that fit (torchvision's form differs in padding, stride and epsilon).
    """

    build: Callable[[], keras.Model]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    min_size: int = 1
    torchvision: bool = False
    pretrained: Callable[[str], keras.Model] | None = None


def build_encoder(name: str) -> keras.Model:
    """Builds the encoder: (B, H, W, 3) float, normalised → [x5, x4, x3, x2, x1], each (B, h, w, C).

    Args:
        name: a key of `ENCODERS`.
    """
    return ENCODERS[name].build()


def _conv(x: Tensor, filters: int, kernel: int, stride: int, name: str, *, bias: bool = False) -> Tensor:
    """Convolution with PyTorch's symmetric padding; "same" would pad one side only when the stride is 2."""
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2)(x)
    initializer = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
    return layers.Conv2D(
        filters, kernel, stride, padding=padding, use_bias=bias, kernel_initializer=initializer, name=name
    )(x)


def _resnet(name: str, repeats: tuple[int, ...], *, bottleneck: bool) -> keras.Model:
    """ResNet of torchvision: the stride sits on the 3×3 convolution; taps after the stem and after each layer."""
    inputs = keras.Input((None, None, 3))
    x = _conv(inputs, 64, 7, 2, "conv1")
    x = layers.ReLU()(BatchNorm(name="bn1")(x))
    levels = [x]
    # After the ReLU no value is negative, so padding with zeros has the effect of padding with minus infinity.
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for level, repeat in enumerate(repeats):
        for block in range(repeat):
            stride = 2 if level > 0 and block == 0 else 1
            x = _residual_block(x, 64 << level, stride, f"layer{level + 1}-{block}", bottleneck=bottleneck)
        levels.append(x)
    return keras.Model(inputs, levels[::-1], name=name)


def _residual_block(x: Tensor, filters: int, stride: int, name: str, *, bottleneck: bool) -> Tensor:
    if bottleneck:
        convolutions = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
    else:
        convolutions = [(filters, 3, stride), (filters, 3, 1)]
    shortcut, channels = x, convolutions[-1][0]
    for i, (width, kernel, step) in enumerate(convolutions, start=1):
        x = BatchNorm(name=f"{name}-bn{i}")(_conv(x, width, kernel, step, f"{name}-conv{i}"))
        if i < len(convolutions):
            x = layers.ReLU()(x)
    if stride > 1 or shortcut.shape[-1] != channels:
        shortcut = _conv(shortcut, channels, 1, stride, f"{name}-downsample-0")
        shortcut = BatchNorm(name=f"{name}-downsample-1")(shortcut)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _vgg16() -> keras.Model:
    """VGG16 of torchvision: taps after each of the five poolings."""
    inputs = x = keras.Input((None, None, 3))
    levels = []
    index = 0
    for filters, repeat in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeat):
            x = layers.ReLU()(_conv(x, filters, 3, 1, f"features-{index}", bias=True))
            index += 2  # torchvision counts the ReLU
        x = layers.MaxPooling2D(2)(x)
        index += 1
        levels.append(x)
    return keras.Model(inputs, levels[::-1], name="vgg16")


def _compact() -> keras.Model:
    """Five levels of two 3×3 convolutions, 0.5 million parameters, for training from scratch in minutes."""
    inputs = x = keras.Input((None, None, 3))
    levels = []
    for level, filters in enumerate((16, 32, 64, 96, 128), start=1):
        for i, stride in enumerate((2, 1), start=1):
            x = _conv(x, filters, 3, stride, f"level{level}-conv{i}")
            x = layers.ReLU()(BatchNorm(name=f"level{level}-bn{i}")(x))
        levels.append(x)
    return keras.Model(inputs, levels[::-1], name="compact")


def _application(maker: Callable[..., keras.Model], taps: tuple[str, ...], options: dict[str, Any]) -> keras.Model:
    """A backbone of keras.applications cut at the named layers (deepest first)."""
    backbone = maker(weights=None, include_top=False, input_shape=(None, None, 3), **options)
    for layer in backbone.layers:
        # TensorFlow's gradient of such a layer is nine times slower in bfloat16 on CPUs (23 % of a training step).
        strided = isinstance(layer, layers.DepthwiseConv2D) and max(layer.strides) > 1
        if strided and layer.compute_dtype == "bfloat16":
            layer.dtype_policy = keras.DTypePolicy("float32")
    return keras.Model(backbone.input, [backbone.get_layer(tap).output for tap in taps], name=backbone.name)


def _application_encoder(
    maker_name: str, taps: tuple[str, ...], options: dict[str, Any] | None = None, **fields: Any
) -> Encoder:
    options = options or {}
    return Encoder(
        build=lambda: _application(getattr(keras.applications, maker_name), taps, options),
        pretrained=lambda weights: getattr(keras.applications, maker_name)(
            weights=weights, include_top=False, input_shape=(224, 224, 3), **options
        ),
        **fields,
    )


_HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

ENCODERS: dict[str, Encoder] = {
    "compact": Encoder(build=_compact),
    "convnext_tiny": _application_encoder(
        "ConvNeXtTiny",
        # Its stem has stride 4: it takes the place of the level with stride 2, which does not exist.
        (
            "convnext_tiny_stage_3_block_2_identity",
            "convnext_tiny_stage_2_block_8_identity",
            "convnext_tiny_stage_1_block_2_identity",
            "convnext_tiny_stage_0_block_2_identity",
            "convnext_tiny_stem",
        ),
        {"include_preprocessing": False},
        min_size=32,
    ),
    "efficientnetv2_b0": _application_encoder(
        "EfficientNetV2B0",
        ("top_activation", "block5e_add", "block3b_add", "block2b_add", "block1a_project_activation"),
        {"include_preprocessing": False},
        **_HALF,
    ),
    "mobilenet_v2": _application_encoder(
        "MobileNetV2",
        ("out_relu", "block_13_expand_relu", "block_6_expand_relu", "block_3_expand_relu", "block_1_expand_relu"),
        **_HALF,
    ),
    "resnet101": Encoder(build=lambda: _resnet("resnet101", (3, 4, 23, 3), bottleneck=True), torchvision=True),
    "resnet34": Encoder(build=lambda: _resnet("resnet34", (3, 4, 6, 3), bottleneck=False), torchvision=True),
    "resnet50": Encoder(build=lambda: _resnet("resnet50", (3, 4, 6, 3), bottleneck=True), torchvision=True),
    "vgg16": Encoder(build=_vgg16, torchvision=True, min_size=32),
}
