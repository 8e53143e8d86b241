"""The differences between a file and its model that a verification accepts."""

import dataclasses

from export.options import Options
from rsis_tf.config.mask_heads import MASK_HEADS

ATOL = {"fp32": 1e-4, "fp16": 2e-2, "int8": 1.0}
"""Largest difference of an output from the Keras model's that a verification lets pass by default."""
MIN_AGREEMENT = {"fp32": 0.0, "fp16": 0.0, "int8": 0.8}
"""Least agreement of instances by default. 8-bit graphs change single pixels, so for int8 the instances decide."""
RESOLUTION = {"fp32": 1e-5, "fp16": 3e-4, "int8": 1e-3}
"""Mean difference that rounding alone may cause. 8-bit probabilities are multiples of 1/256, rounded by 1/1024 on
average."""
MEAN_DIFFERENCE = 0.06
CORRELATION = 0.99
"""Sound exports of trained models had mean differences of 0.031 of the spread and correlations of 0.996 at worst (int8
with calibration); a layer of zeros, shuffled channels or a kernel of twice the size passed these bounds only where it
hardly changed what the network finds."""
LOOSE = 0.1
"""With a larger difference of single probabilities, objects may swap their steps."""


class VerificationError(Exception):
    """The outputs of a file differ from those of the Keras model; the message is one line with place and difference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerances:
    """What passes.

    Attributes:
        atol: largest difference of a probability.
        min_agreement: least agreement of the instances, on average over all images, see
            `rsis_tf.evaluation.metrics.agreement`.
        mean_difference: largest mean difference of an output, as a share of its spread (the mean distance of its
            values from their mean).
        correlation: least correlation of an output with the model's.
        resolution: mean difference that passes in any case.
        must_compare: whether it is an error if there was nothing that could be compared.
    """

    atol: float
    min_agreement: float = 0.0
    mean_difference: float = MEAN_DIFFERENCE
    correlation: float = CORRELATION
    resolution: float = RESOLUTION["fp32"]
    must_compare: bool = False

    @property
    def loose(self) -> bool:
        """Whether single probabilities may differ so much that only instances and means can be compared."""
        return self.atol > LOOSE


def tolerances(options: Options, mask_head: str) -> Tolerances:
    """Returns what a verification accepts.

    A lower `options.min_agreement` than the default lowers the demands on the means as well, and so does a higher
    `options.atol`.

    Args:
        options: what was asked for, or None.
        mask_head: of the model.
    """
    precision = options.precision
    atol, least = ATOL[precision], MIN_AGREEMENT[precision]
    if precision == "fp16":
        atol, least = MASK_HEADS[mask_head].fp16_tolerance or (atol, least)
    given_atol = atol if options.atol is None else options.atol
    given_least = least if options.min_agreement is None else options.min_agreement
    wider = max((1 - given_least) / (1 - least), 1.0)
    return Tolerances(
        atol=given_atol,
        min_agreement=given_least,
        mean_difference=wider * MEAN_DIFFERENCE,
        correlation=1 - wider * (1 - CORRELATION),
        resolution=max(RESOLUTION[precision], given_atol if given_atol > atol else 0),
        must_compare=precision == "int8",
    )


def exceptions(which: int) -> str:
    """Returns the tolerances of mask heads that have their own, for a help text; 0: difference, 1: agreement."""
    own = {name: spec.fp16_tolerance for name, spec in MASK_HEADS.items() if spec.fp16_tolerance}
    return "".join(f", fp16 with {name} {tolerance[which]:g}" for name, tolerance in own.items())
