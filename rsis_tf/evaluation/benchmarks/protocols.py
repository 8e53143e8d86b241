"""Evaluation protocols by name: how a network's output becomes the objects that are scored.

A protocol is one row of `PROTOCOLS`. `command.open_model` opens a predictor that follows one, the metrics and result
files take the settings that concern them, and every setting has an option. docs/protocols.md says where each value
comes from.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from rsis_tf.errors import InputError

MASK_RESIZES = ("probabilities", "corners", "stretched", "binary")
OVERLAPS = ("earliest", "latest")
STOP_MODES = ("first", "each")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the output of a network is read and scored.

    Attributes:
        name: in `PROTOCOLS`.
        summary: one line for `--help`.
        stop_mode: "first" ends the sequence at the first step without an object; "each" judges every step alone.
        stop_threshold: objectness from which a step holds an object, 0 … 1; None for the model's own.
        mask_threshold: probability from which a pixel belongs to an object, 0 … 1; None for the model's own.
        mask_resize: how a mask is brought to the size of the image, see `masks.draw`.
        largest_component: keep only the largest connected part of each mask.
        min_size: masks under this share of the image are left out, 0 … 1.
        class_threshold: objects whose score (class probability × objectness) is lower are left out, 0 … 1.
        every_class: each mask counts once for every class, with score class probability × objectness; if false once,
            for its best class.
        overlap: which step keeps a pixel that several claim, where a label map is made: "earliest" or "latest".
        max_dets: numbers of proposals in an image at which average recall is measured, rising. Average precision takes
            the best 100 of each class, or the last of these if it is more.

    Raises:
        InputError: for a value that is out of range.
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
            if value is not None and not 0 <= value <= 1:  # written so that NaN is refused too
                raise InputError(f"{name} must be in 0..1. Received: {name}={value:g}")
        for name, known in (("stop_mode", STOP_MODES), ("mask_resize", MASK_RESIZES), ("overlap", OVERLAPS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}. Received: {getattr(self, name)!r}")
        if not self.max_dets or min(self.max_dets) < 1 or list(self.max_dets) != sorted(set(self.max_dets)):
            received = " ".join(map(str, self.max_dets)) or "none"
            raise InputError(f"max_dets must be rising numbers of at least 1. Received: {received}")

    def settings(self) -> dict[str, Any]:
        """Returns plain values for JSON: the name and every setting."""
        values = dataclasses.asdict(self) | {"max_dets": list(self.max_dets)}
        return {name: value for name, value in values.items() if name != "summary"}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="plain",
            summary="the sequence ends at the first step without an object (paper, section 3.2); best class alone",
        ),
        Protocol(
            name="paper-voc",
            summary="tables 3 to 5: every step is judged alone, each mask for every class unless it is tiny",
            stop_mode="each",
            stop_threshold=0.5,
            mask_threshold=0.5,
            mask_resize="corners",
            min_size=0.001,
            every_class=True,
        ),
        Protocol(
            name="paper-cityscapes",
            summary="table 2: all steps, each mask for every class, the largest connected part of each",
            stop_mode="each",
            stop_threshold=0.0,
            mask_threshold=0.5,
            mask_resize="binary",
            largest_component=True,
            every_class=True,
        ),
        Protocol(
            name="paper-cvppp",
            summary="table 1: every step is judged alone at a low threshold, later steps over earlier ones",
            stop_mode="each",
            stop_threshold=0.2,
            mask_threshold=0.5,
            mask_resize="stretched",
            overlap="latest",
        ),
    )
}
"""Name → protocol: the project's own and those of the original's three evaluations."""

PLAIN = PROTOCOLS["plain"]
_MASKS = ("class_threshold", "min_size", "largest_component", "mask_resize")


def add_options(parser: argparse.ArgumentParser, *, default: str, scored_by: Sequence[str] = ()) -> None:
    """Adds `--protocol` and an option for each setting; those of stopping are `command.add_model_and_data`'s.

    Args:
        parser: of the command.
        default: name of the protocol if none is asked for.
        scored_by: the settings that the command's own scores or files depend on: "every_class", "overlap", "max_dets".
    """
    described = "\n".join(f"  {protocol.name:<18}{protocol.summary}" for protocol in PROTOCOLS.values())
    group = parser.add_argument_group(
        "protocol", f"How predictions are read and scored; docs/protocols.md says where each comes from.\n\n{described}"
    )
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=default,
        help="(default: %(default)s); each option below, --stop and --stop-threshold change one setting of it",
    )
    options: dict[str, dict[str, Any]] = {
        "class_threshold": {
            "type": float,
            "metavar": "P",
            "help": "leave out objects whose score, class probability × objectness, is below P",
        },
        "min_size": {
            "type": float,
            "metavar": "SHARE",
            "help": "leave out masks under this share of the image: 0.001 is 0.1 %%",
        },
        "largest_component": {
            "action": argparse.BooleanOptionalAction,
            "help": "keep only the largest connected part of each mask",
        },
        "mask_resize": {
            "choices": MASK_RESIZES,
            "help": "how a mask is brought to the image's size. probabilities: bilinear, then the threshold; corners: "
            "the same with the corner pixels' centres kept in place; stretched: each mask's own range to 0..255 first; "
            "binary: the threshold first, then every pixel that bilinear interpolation leaves above 0",
        },
        "every_class": {
            "action": argparse.BooleanOptionalAction,
            "help": "count each mask once for every class, scored class probability × objectness, or once for its "
            "best class",
        },
        "overlap": {
            "choices": OVERLAPS,
            "help": "which step keeps a pixel that several claim, where a label map is made",
        },
        "max_dets": {
            "type": int,
            "nargs": "+",
            "metavar": "N",
            "help": "numbers of proposals in an image at which average recall is measured; average precision takes "
            "the best 100 of each class, or the largest N if that is more",
        },
    }
    for name in (*_MASKS, *scored_by):
        options[name]["help"] += f" ({defaults(name)})"
        group.add_argument(f"--{name.replace('_', '-')}", **options[name])


def defaults(name: str) -> str:
    """Returns the values that a setting has in the protocols, as text for `--help`."""

    def text(value: Any) -> str:
        if isinstance(value, bool) or value is None:
            return {True: "yes", False: "no", None: "the model's own"}[value]
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    usual = getattr(PLAIN, name)
    others = [f"{p.name} {text(getattr(p, name))}" for p in PROTOCOLS.values() if getattr(p, name) != usual]
    return "default: " + ", ".join([*others, f"other protocols {text(usual)}"] if others else [text(usual)])


def metrics_file(name: str) -> str:
    """Returns the name under which a run's folder keeps its scores in a protocol."""
    return "metrics.json" if name == PLAIN.name else f"metrics-{name}.json"


def chosen(arguments: argparse.Namespace) -> Protocol:
    """Returns the protocol that the command line asks for, with the settings that it changes.

    Raises:
        InputError: for a value that is out of range.
    """
    asked = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(Protocol)}
    asked |= {"name": None, "summary": None, "stop_mode": getattr(arguments, "stop", None)}
    if asked["max_dets"] is not None:
        asked["max_dets"] = tuple(asked["max_dets"])
    changes = {name: value for name, value in asked.items() if value is not None}
    return dataclasses.replace(PROTOCOLS[getattr(arguments, "protocol", PLAIN.name)], **changes)
