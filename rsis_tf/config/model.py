"""The network's settings."""

import dataclasses
from typing import Annotated

from rsis_tf.config.checks import (
    Between,
    Channels,
    OneOf,
    Share,
    ShareBelowOne,
    Side,
    Steps,
    check_fields,
    require,
)
from rsis_tf.config.mask_heads import MASK_HEADS, SKIP_MODES

ENCODER_NAMES = (
    "compact",
    "convnext_tiny",
    "efficientnetv2_b0",
    "mobilenet_v2",
    "resnet101",
    "resnet34",
    "resnet50",
    "vgg16",
)
"""The keys of `rsis_tf.models.encoders.ENCODERS`, for code that must not import Keras."""

UNTRAINED_ENCODERS = ("compact",)
"""Encoders without published ImageNet weights."""

CLASS_FEATURES = ("pooled", "mask")
ASPECTS = ("stretch", "keep")

CHECKPOINT_FILES = ("encoder.pt", "decoder.pt", "args.pkl")
"""The files in a checkpoint folder of the original code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network, and what a program needs to know to use it.

    Attributes:
        encoder: name of the image encoder, one of `ENCODER_NAMES`.
        hidden_size: D, channels of the deepest ConvLSTM; stage i has D, D/2, D/4, D/8, D/16. A multiple of 16.
        min_channels: no stage has fewer channels than this; 0 in the paper. With a small D the fine stages are narrow
            (D = 64: the mask is predicted from 4 channels), and widening them costs little.
        neck_channels: channels of a top-down path that joins the encoder's levels before the decoder reads them; 0 in
            the paper, where each level is projected separately.
        mask_head: how a step predicts its mask, a key of `rsis_tf.config.mask_heads.MASK_HEADS`: "convolution" of the
            last hidden map, as in the paper, or "voting": the step points at an object, and the mask covers the pixels
            that vote for its centre (`rsis_tf.models.mask_heads.voting`).
        class_features: what classes are predicted from: "pooled", the maxima of the hidden maps, as in the paper, or
            "mask": also the mean of the neck's finest map under the mask. Not every mask head offers the second.
        num_classes: K, classes with 0 = background.
        skip_mode: how a stage combines its input with the encoder's features: "concat", "sum", "mul" or "none" (paper,
            table 5).
        kernel_size: 3 or 1, of skip projections, gates and mask head.
        decoder_stages: number of ConvLSTM stages, 1 to 5 (paper, table 5).
        dropout: share of hidden channels dropped in training.
        dropout_class, dropout_stop: the same for the features of the class head and of the stop head.
        num_steps: T, objects predicted by a call that names no number; also T in training.
        image_size: (height, width) in pixels that images are resized to, in training and in prediction.
        aspect: how images of another shape are resized: "stretch" scales each axis separately, "keep" scales the image
            as a whole and pads it with black.
        stop_threshold: probability from which a step counts as an object, in prediction; 0.5 in the paper.
        class_names: K names, the first of them "background"; empty if unknown.
        category_ids: K integers, the class numbers in the training dataset's COCO files (0 for background); predictions
            are written with them. Empty if the dataset has none.

    Raises:
        InputError: for a value out of range, or values that do not work together.
    """

    encoder: Annotated[str, OneOf(ENCODER_NAMES)] = "resnet50"
    hidden_size: Channels = 128
    min_channels: Channels = 0
    neck_channels: Channels = 0
    mask_head: Annotated[str, OneOf(MASK_HEADS)] = "convolution"
    class_features: Annotated[str, OneOf(CLASS_FEATURES)] = "pooled"
    num_classes: Annotated[int, Between(2, 65_536)] = 21
    skip_mode: Annotated[str, OneOf(SKIP_MODES)] = "concat"
    kernel_size: Annotated[int, OneOf((1, 3))] = 3
    decoder_stages: Annotated[int, OneOf((1, 2, 3, 4, 5))] = 5
    dropout: ShareBelowOne = 0.0
    dropout_class: ShareBelowOne = 0.0
    dropout_stop: ShareBelowOne = 0.0
    num_steps: Steps = 10
    image_size: tuple[Side, Side] = (256, 256)
    aspect: Annotated[str, OneOf(ASPECTS)] = "stretch"
    stop_threshold: Share = 0.5
    class_names: tuple[str, ...] = ()
    category_ids: tuple[Annotated[int, Between(-(2**63), 2**63 - 1)], ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        size = self.hidden_size
        require(size > 0 and size % 16 == 0, "hidden_size", "a positive multiple of 16", size)
        require(self.min_channels <= size, "min_channels", "in 0..hidden_size", self.min_channels)
        self._check_mask_head()
        self._check_classes()

    def _check_mask_head(self) -> None:
        head, given = MASK_HEADS[self.mask_head], f"with mask_head={self.mask_head!r}"
        for name, choices in (("class_features", head.class_features), ("skip_mode", head.skip_modes)):
            value = getattr(self, name)
            require(value in choices, name, f"one of {', '.join(choices)} {given}", value)
        channels = self.neck_channels
        uniform = self.skip_mode in ("concat", "none")
        expected = f"0 with skip_mode={self.skip_mode!r}, whose stages differ in channels"
        require(not channels or uniform, "neck_channels", expected, channels)
        expected = f"positive {given}, which reads the neck"
        require(not head.needs_neck or channels > 0, "neck_channels", expected, channels)

    def _check_classes(self) -> None:
        number, names, ids = self.num_classes, self.class_names, self.category_ids
        require(len(names) in (0, number), "class_names", f"empty or {number} names (num_classes)", names)
        distinct = len(set(ids[1:])) == len(ids[1:])
        expected = f"empty or {number} integers (num_classes), a different one for each class"
        require(len(ids) in (0, number) and distinct, "category_ids", expected, ids)
