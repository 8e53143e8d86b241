"""The table of mask heads: what each one needs and brings, for code that must not import Keras."""

import dataclasses
from collections.abc import Mapping

SKIP_MODES = ("concat", "sum", "mul", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskHeadSpec:
    """One row of `MASK_HEADS`.

    Attributes:
        implementation: "module:Class" of the Keras layer, imported when a model is built.
        needs_neck: whether it reads the maps of the neck (`ModelConfig.neck_channels` > 0).
        skip_modes: values of `ModelConfig.skip_mode` that it works with.
        class_features: values of `ModelConfig.class_features` that it works with.
        partial_sequences: whether it can be told which objects count as found before the first step.
        loss_weights: loss term that it adds to the paper's three → default weight in the sum.
        fp16_tolerance: (largest difference, least agreement of instances) that the verification of a float16 export
            lets pass; None for the defaults of the exporter.
        static_int8: whether its activations can be quantised to 8 bits in a TFLite file.
    """

    implementation: str
    needs_neck: bool = False
    skip_modes: tuple[str, ...] = SKIP_MODES
    class_features: tuple[str, ...] = ("pooled",)
    partial_sequences: bool = False
    loss_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fp16_tolerance: tuple[float, float] | None = None
    static_int8: bool = True


MASK_HEADS: dict[str, MaskHeadSpec] = {
    "convolution": MaskHeadSpec(implementation="rsis_tf.models.mask_heads.convolution:ConvolutionHead"),
    "voting": MaskHeadSpec(
        implementation="rsis_tf.models.mask_heads.voting:VotingHead",
        needs_neck=True,
        skip_modes=("concat",),
        class_features=("pooled", "mask"),
        partial_sequences=True,
        loss_weights={"voting_loss": 1.0, "pointing_loss": 0.2},
        # Two objects with almost the same pointing logit may swap their steps in float16, and then whole masks differ.
        # The instances decide there, not the difference of a probability.
        fp16_tolerance=(1.0, 0.9),
        # 256 values are too few for the coordinates that pixels vote for.
        static_int8=False,
    ),
}
"""Mask head → what it needs and brings. A new head is one module and one row here."""
