"""The options of every command that predicts: how the model runs, and which classes are kept."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rsis_tf.errors import InputError


def add_options(
    parser: argparse.ArgumentParser,
    *,
    stop: str | None = "first",
    defaults: Mapping[str, str] | None = None,
    tiles: bool = True,
) -> None:
    """Adds the options that `predictor_options` reads.

    Args:
        parser: of the command.
        stop: default of --stop; None if the caller chooses it later.
        defaults: text of `--help` on the defaults of "stop_mode", "stop_threshold" and "mask_threshold".
        tiles: whether images may be cut into tiles; if not, there is no --tile.
    """
    said = {
        "stop_mode": "default: %(default)s",
        "stop_threshold": "default: the model's own",
        "mask_threshold": "default: the file's own, else 0.5",
        **(defaults or {}),
    }
    add = parser.add_argument_group("how the model runs").add_argument
    add("--stop-threshold", type=_share, metavar="P",
        help=f"probability from which a step holds an object ({said['stop_threshold']})")  # fmt: skip
    add("--stop", default=stop, choices=("first", "each"),
        help="first: the sequence ends at the first step without an object, as in the paper; each: every step is "
        f"judged by itself, as in the original's evaluation ({said['stop_mode']})")  # fmt: skip
    add("--mask-threshold", type=_share, metavar="P",
        help=f"probability from which a pixel belongs to an object ({said['mask_threshold']})")  # fmt: skip
    add("--batch-size", type=positive, metavar="B",
        help="images, or tiles, in one run of the model (default: the batch that the file is made for, "
        "else 8)")  # fmt: skip
    if tiles:
        add("--tile", nargs="?", const="auto", type=_tile, metavar="SIZE",
            help="cut images into overlapping tiles of SIZE×SIZE pixels (or HxW) and merge the objects; for large "
            "images and many objects. Without SIZE, or with auto: the model's own size (default: images are resized "
            "as a whole)")  # fmt: skip
        add("--tile-overlap", type=whole(0, "a number of pixels"), metavar="N",
            help="pixels that neighbouring tiles share: more than the largest object (default: a quarter of the "
            "tile)")  # fmt: skip
    else:
        parser.set_defaults(tile=None, tile_overlap=None)
    add("--flips", action="store_true",
        help="predict mirror images too and average, in four times the time")  # fmt: skip
    add("--steps", type=positive, metavar="T",
        help="most objects in one sequence; for Keras models and ONNX exports of the layouts stepwise and loop "
        "(default: the model's own)")  # fmt: skip
    add("--provider", metavar="NAME",
        help="where ONNX Runtime computes: cpu, cuda, tensorrt, or the full name of an execution provider. A "
        "provider that does not start is an error; it is never replaced by the CPU. Other model files run where "
        "TensorFlow or LiteRT runs (default: cpu)")  # fmt: skip
    add("--threads", type=positive, metavar="N", help="CPU threads for one operation (default: one per core)")
    add("--verify", action=argparse.BooleanOptionalAction, default=True,
        help="compare an exported file with the SHA-256 in the JSON file beside it, if there is one "
        "(default: --verify)")  # fmt: skip


def predictor_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the keyword arguments of `open_model` for the options of `add_options`."""
    provider = arguments.provider
    # What TensorRT cannot compute goes to the next provider in the list, which is otherwise the CPU.
    providers = ["tensorrt", "cuda"] if provider in ("tensorrt", "TensorrtExecutionProvider") else provider
    return {
        "providers": providers,
        "threads": arguments.threads,
        "stop_mode": arguments.stop,
        "stop_threshold": arguments.stop_threshold,
        "mask_threshold": arguments.mask_threshold,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "tile": arguments.tile,
        "tile_overlap": arguments.tile_overlap,
        "flips": arguments.flips,
        "verify": arguments.verify,
    }


def other_predictions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options, with their values, that make a sequence differ from that of the whole image as it is."""
    given = {name: getattr(arguments, name) for name in ("steps", "tile", "tile_overlap", "flips")}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def class_ids(
    asked: Sequence[str], class_names: Sequence[str], category_ids: Sequence[int] | None = None
) -> frozenset[int] | None:
    """Returns the classes that --class names.

    Args:
        asked: names or numbers; names are tried first.
        class_names: K names, the first of them the background, or none if the model knows none.
        category_ids: K numbers of the classes in COCO files; None for 0 … K−1.

    Returns:
        Class ids, 1 … K−1; None, which stands for all classes, if `asked` is empty.

    Raises:
        InputError: for a class that does not exist.
    """
    if not asked:
        return None
    names = {name: k for k, name in enumerate(class_names) if k > 0}
    if category_ids:
        numbers = {str(number): k for k, number in enumerate(category_ids) if k > 0}
    else:
        numbers = {str(k): k for k in range(1, len(class_names))}
    found = set()
    for text in asked:
        if text in names:
            found.add(names[text])
        elif text in numbers:
            found.add(numbers[text])
        elif not class_names and text.isdecimal() and int(text) > 0:
            found.add(int(text))
        else:
            known = ", ".join(f"{name} ({number})" for name, number in zip(names, numbers, strict=True))
            raise InputError(f"expected --class to be one of {known or 'the numbers from 1'}. Received: {text}")
    return frozenset(found)


def whole(least: int, expected: str) -> Callable[[str], int]:
    """Returns a converter of whole numbers of the command line.

    Args:
        least: the smallest number.
        expected: what the message about another text names.
    """

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text}")
        return int(text)

    return convert


positive = whole(1, "a number from 1")
"""Converts a positive integer of the command line."""


def _tile(text: str) -> str | int | tuple[int, int]:
    if text == "auto":
        return text
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text)
    if sides is None:
        raise argparse.ArgumentTypeError(f"expected a number of pixels, HxW or auto. Received: {text}")
    return int(sides[1]) if sides[2] is None else (int(sides[1]), int(sides[2]))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1. Received: {text}")
    return value
