"""The options that choose an evaluation protocol and change its settings."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from rsis_tf.evaluation.protocols import MASK_RESIZES, OVERLAPS, PLAIN, PROTOCOLS, Protocol

_OF_MASKS = ("class_threshold", "min_size", "largest_component", "mask_resize")


def add_protocol_options(parser: argparse.ArgumentParser, *, default: str, scored_by: Sequence[str] = ()) -> None:
    """Adds `--protocol` and an option for each setting; `add_model_and_data` adds those of the stop rule.

    Args:
        parser: the command's parser.
        default: name of the default protocol.
        scored_by: other settings that the command's scores or files depend on: "every_class", "overlap", "max_dets".
    """
    described = "\n".join(f"  {protocol.name:<18}{protocol.summary}" for protocol in PROTOCOLS.values())
    group = parser.add_argument_group(
        "protocol",
        f"How predictions are read and scored; docs/protocols.md gives the source of each value.\n\n{described}",
    )
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=default,
        help="(default: %(default)s); each option below, --stop, --stop-threshold and --mask-threshold change one "
        "setting of it",
    )
    options: dict[str, dict[str, Any]] = {
        "class_threshold": {
            "type": float,
            "metavar": "P",
            "help": "drop objects whose score is below P",
        },
        "min_size": {
            "type": float,
            "metavar": "SHARE",
            "help": "drop masks that cover less than this share of the image: 0.001 is 0.1 %%",
        },
        "largest_component": {
            "action": argparse.BooleanOptionalAction,
            "help": "keep only the largest connected part of each mask",
        },
        "mask_resize": {
            "choices": MASK_RESIZES,
            "help": "how a mask is resized to the image. probabilities: bilinear, then the threshold; corners: the "
            "same, but the centres of the corner pixels stay in place; stretched: first scale each mask's own range to "
            "0..255; binary: first the threshold, then every pixel that bilinear interpolation leaves above 0",
        },
        "every_class": {
            "action": argparse.BooleanOptionalAction,
            "help": "count each mask once for every class, with score class probability × objectness, or only for its "
            "best class",
        },
        "overlap": {
            "choices": OVERLAPS,
            "help": "the step that keeps a pixel of several masks in a label map",
        },
        "max_dets": {
            "type": int,
            "nargs": "+",
            "metavar": "N",
            "help": "numbers of proposals per image at which average recall is measured; average precision takes the "
            "best 100 of each class, or the largest N if that is more",
        },
    }
    for name in (*_OF_MASKS, *scored_by):
        options[name]["help"] += f" ({describe_defaults(name)})"
        group.add_argument(f"--{name.replace('_', '-')}", **options[name])


def describe_defaults(setting: str) -> str:
    """Returns the values of a setting in all protocols, as text for `--help`."""

    def text(value: Any) -> str:
        if isinstance(value, bool) or value is None:
            return {True: "yes", False: "no", None: "the model's own"}[value]
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    usual = getattr(PLAIN, setting)
    others = [f"{p.name} {text(getattr(p, setting))}" for p in PROTOCOLS.values() if getattr(p, setting) != usual]
    return "default: " + ", ".join([*others, f"other protocols {text(usual)}"] if others else [text(usual)])


def chosen_protocol(arguments: argparse.Namespace) -> Protocol:
    """Returns the protocol that the command line names, with the settings that its options change.

    Raises:
        InputError: if a value is out of range.
    """
    given = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(Protocol)}
    given |= {"name": None, "summary": None, "stop_mode": getattr(arguments, "stop", None)}
    if given["max_dets"] is not None:
        given["max_dets"] = tuple(given["max_dets"])
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PROTOCOLS[getattr(arguments, "protocol", PLAIN.name)], **changes)
