"""Evaluation protocols by name: how the output of a network becomes the objects that are scored.

A protocol is one row of `PROTOCOLS`. `protocol_masks.follow` makes a predictor follow one; metrics and result files
take the settings that concern them; `rsis_tf.cli.protocol_options` has an option for every setting. docs/protocols.md
gives the source of each value.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsis_tf.errors import InputError

MASK_RESIZES = ("probabilities", "corners", "stretched", "binary")
OVERLAPS = ("earliest", "latest")
STOP_MODES = ("first", "each")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the output of a network is read and scored.

    Attributes:
        name: key in `PROTOCOLS`.
        summary: one line for `--help`.
        stop_mode: "first" ends the sequence at the first step without an object; "each" decides every step separately.
        stop_threshold: lowest objectness of a step that holds an object, 0 … 1; None for the model's own.
        mask_threshold: lowest probability of a pixel of an object, 0 … 1; None for the model's own.
        mask_resize: how a mask is resized to the image, see `protocol_masks.draw`.
        largest_component: keep only the largest connected part of each mask.
        min_size: drop masks that cover less than this share of the image, 0 … 1.
        class_threshold: drop objects with a lower score (`rsis_tf.runtime.Instance.score`), 0 … 1.
        every_class: count each mask once for every class, with score class probability × objectness; if false, count
            it for its best class only.
        overlap: the step that keeps a pixel of several masks in a label map: "earliest" or "latest".
        max_dets: increasing numbers of proposals per image at which average recall is measured. Average precision
            takes the best 100 of each class, or the last of these numbers if it is larger.

    Raises:
        InputError: if a value is out of range.
    """

    name: str
    summary: str
    stop_mode: str = "first"
    stop_threshold: float | None = None
    mask_threshold: float | None = None
    mask_resize: str = "probabilities"
    largest_component: bool = False
    min_size: float = 0.0
    class_threshold: float = 0.0
    every_class: bool = False
    overlap: str = "earliest"
    max_dets: tuple[int, ...] = (10, 50)

    def __post_init__(self) -> None:
        for name in ("stop_threshold", "mask_threshold", "min_size", "class_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:  # false for NaN too
                raise InputError(f"{name} must be in 0..1. Received: {name}={value:g}")
        for name, known in (("stop_mode", STOP_MODES), ("mask_resize", MASK_RESIZES), ("overlap", OVERLAPS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}. Received: {getattr(self, name)!r}")
        if not self.max_dets or min(self.max_dets) < 1 or list(self.max_dets) != sorted(set(self.max_dets)):
            received = " ".join(map(str, self.max_dets)) or "none"
            raise InputError(f"max_dets must be increasing numbers from 1. Received: {received}")

    def settings(self) -> dict[str, Any]:
        """Returns the name and every setting as plain values for JSON."""
        values = dataclasses.asdict(self) | {"max_dets": list(self.max_dets)}
        return {name: value for name, value in values.items() if name != "summary"}

    def changes(self, stored: Mapping[str, Any]) -> list[str]:
        """Returns the stored settings that differ from those of the protocol, each as "name=value".

        Args:
            stored: result of `settings`, possibly of another protocol or with fewer settings.
        """
        return [f"{name}={stored[name]}" for name, value in self.settings().items() if stored.get(name, value) != value]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="plain",
            summary="the sequence ends at the first step without an object (paper, section 3.2); best class only",
        ),
        Protocol(
            name="paper-voc",
            summary="tables 3 to 5: every step is decided separately; each mask counts for every class, if not tiny",
            stop_mode="each",
            stop_threshold=0.5,
            mask_threshold=0.5,
            mask_resize="corners",
            min_size=0.001,
            every_class=True,
        ),
        Protocol(
            name="paper-cityscapes",
            summary="table 2: all steps; each mask counts for every class; only its largest connected part is kept",
            stop_mode="each",
            stop_threshold=0.0,
            mask_threshold=0.5,
            mask_resize="binary",
            largest_component=True,
            every_class=True,
        ),
        Protocol(
            name="paper-cvppp",
            summary="table 1: every step is decided separately at a low threshold; later steps overwrite earlier ones",
            stop_mode="each",
            stop_threshold=0.2,
            mask_threshold=0.5,
            mask_resize="stretched",
            overlap="latest",
        ),
    )
}
"""Name → protocol: the project's own, and one for each of the original's three evaluations."""

PLAIN = PROTOCOLS["plain"]

OTHER_PREDICTIONS = ("steps", "tile", "tile_overlap", "flips", "classes")
"""Keys of a file of scores that say what was predicted or scored in another way, beside the protocol; absent if not."""


def differences(metrics: Mapping[str, Any], protocol: Protocol) -> list[str]:
    """Returns how scores were measured differently from a protocol on whole images, each as "name=value".

    Args:
        metrics: content of a file of scores, such as `metrics.json`.
        protocol: the one that its scores should follow.
    """
    options = [f"{name}={metrics[name]}" for name in OTHER_PREDICTIONS if name in metrics]
    return [*protocol.changes(metrics.get("protocol", {})), *options]


def metrics_file(name: str) -> str:
    """Returns the name of the file in a run's folder that holds the scores in the protocol called `name`."""
    return "metrics.json" if name == PLAIN.name else f"metrics-{name}.json"
