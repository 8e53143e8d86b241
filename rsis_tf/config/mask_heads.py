"""The table of mask heads: what each one needs and adds, for code that must not import Keras."""

import dataclasses
from collections.abc import Mapping

SKIP_MODES = ("concat", "sum", "mul", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskHeadSpec:
    """One row of `MASK_HEADS`.

    Attributes:
        implementation: "module:class" of the Keras layer, a `rsis_tf.models.mask_heads.interface.MaskHead`; imported
            when a model is built.
        layer: name of that layer in the decoder. It is part of the paths inside `.keras` files and of the names of
            nodes in exported graphs, so it never changes.
        needs_neck: whether the head reads the maps of the neck (`ModelConfig.neck_channels` > 0).
        skip_modes: values of `ModelConfig.skip_mode` that it works with.
        class_features: values of `ModelConfig.class_features` that it works with.
        partial_sequences: whether it can be given objects that count as found before the first step.
        losses: "module:function" of the loss terms that it adds to the paper's three, as described in
            `rsis_tf.training.losses.criterion`; None for no terms.
        loss_weights: loss term that it adds → default weight in the sum.
        fp16_tolerance: (largest difference of a probability, smallest agreement of the instances) that the
            verification of a float16 export accepts; None for the defaults of the exporter.
    """

    implementation: str
    layer: str
    needs_neck: bool = False
    skip_modes: tuple[str, ...] = SKIP_MODES
    class_features: tuple[str, ...] = ("pooled",)
    partial_sequences: bool = False
    losses: str | None = None
    loss_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fp16_tolerance: tuple[float, float] | None = None


MASK_HEADS: dict[str, MaskHeadSpec] = {
    "convolution": MaskHeadSpec(
        implementation="rsis_tf.models.mask_heads.convolution:ConvolutionHead",
        layer="mask_head",
    ),
    "voting": MaskHeadSpec(
        implementation="rsis_tf.models.mask_heads.voting:VotingHead",
        layer="voting",
        needs_neck=True,
        skip_modes=("concat",),
        class_features=("pooled", "mask"),
        partial_sequences=True,
        losses="rsis_tf.training.losses.voting:voting_losses",
        loss_weights={"voting_loss": 1.0, "pointing_loss": 0.2},
        # Two objects with almost the same pointing logit may swap their steps in float16, and then whole masks differ.
        # The agreement of the instances decides there, not the difference of a probability.
        fp16_tolerance=(1.0, 0.9),
    ),
}
"""Mask head → what it needs and adds. A new head is one module and one row here (and one module for its losses)."""
