"""The command line that all exporters share. It is read and checked before TensorFlow is imported."""

import argparse
import functools
import pathlib
import re
from typing import Literal

from export.formats import ExportFormat
from export.options import Options
from export.tolerances import ATOL, MIN_AGREEMENT, exceptions
from rsis_tf import outputs
from rsis_tf.errors import ArgumentParser, InputError
from rsis_tf.inference import find_model, model_path
from rsis_tf.zoo import registry


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Adds the default of an option to its help, unless the default is None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def make_parser(format: ExportFormat, *, prog: str | None = None) -> ArgumentParser:
    """Returns a parser with the shared options.

    Args:
        format: row of `export.formats.FORMATS`; decides the defaults.
        prog: name of the command in help and errors; default: `python -m` and the module.
    """
    prog = prog or f"python -m {format.module}"
    parser = ArgumentParser(
        prog=prog,
        description=f"Exports a trained model: {format.description}.\nThe result is compared with the Keras model.",
        epilog=f"example:\n  {prog} {format.example}",
        formatter_class=_Help,
    )
    fixed = format.fixed_shape is not None
    add = parser.add_argument
    add(
        "model",
        type=functools.partial(model_path, suffix=".keras"),
        metavar="RUN_or_MODEL",
        help="a name that `rsis zoo` lists, the folder of a run (best.keras is read), a .keras file, or a folder of "
        "the original code with encoder.pt, decoder.pt and args.pkl",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=argparse.SUPPRESS,
        metavar="DIR" if format.folder_with else "FILE",
        help=f"{'folder' if format.folder_with else 'file'} to write (default: {format.default_out} in the folder of "
        "the model; in the current folder for a name)",
    )
    add(
        "--size",
        type=_size,
        default="model",
        metavar="HxW|dynamic|model",
        help="size at which the network runs: a fixed size, that of the input, or that of the training",
    )
    add(
        "--resize",
        action=argparse.BooleanOptionalAction,
        default=not fixed,
        help="with a fixed size, take images of any size and resize them in the graph",
    )
    add(
        "--batch-size",
        "--batch",
        dest="batch",
        type=_batch,
        default="1" if fixed else "dynamic",
        metavar="B|dynamic",
        help="images in one run",
    )
    add("--steps", type=_positive, metavar="T", help="objects predicted at most (default: as in the model)")
    add("--input-type", choices=("uint8", "float32"), default="uint8", help="of the input, RGB 0..255 either way")
    add("--precision", choices=format.precisions, default="fp32", help="of weights and arithmetic")
    if "int8" in format.precisions:
        add(
            "--calibration",
            metavar="DIR|none",
            help="for int8: folder of images like those to be predicted, from which the ranges of activations are "
            "taken; 'none' quantises the weights only",
        )
        add("--limit", type=_positive, default=300, metavar="N", help="use at most N images of --calibration")
    else:
        parser.set_defaults(calibration=None, limit=300)
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the file with the Keras model; a file that differs is not kept",
    )
    largest = ", ".join(f"{name} {value:g}" for name, value in ATOL.items())
    add(
        "--atol",
        type=_tolerance,
        help=f"largest difference of a probability that passes (default: {largest}{exceptions(0)})",
    )
    least = ", ".join(f"{name} {value:g}" for name, value in MIN_AGREEMENT.items())
    add(
        "--min-agreement",
        type=_share,
        help=f"least agreement of the instances, 0 to 1 (default: {least}{exceptions(1)})",
    )
    add(
        "--verify-images",
        type=pathlib.Path,
        metavar="DIR",
        help="folder of images to compare on (default: the run's samples, images of --calibration, and made ones); "
        "those in which the model finds something come first",
    )
    add(
        "--stop-threshold",
        type=_share,
        metavar="P",
        help="probability below which the sequence ends; stored in the file (default: the threshold of the model)",
    )
    add(
        "--mask-threshold",
        type=_share,
        default=0.5,
        metavar="P",
        help="probability from which a pixel belongs to an object; stored in the file",
    )
    add("--license", default="MIT", help="terms of use; stored in the file")
    return parser


def read_options(arguments: argparse.Namespace, format: ExportFormat) -> Options:
    """Returns checked options.

    Args:
        arguments: of a parser of `make_parser`.
        format: row of `export.formats.FORMATS`.

    Raises:
        InputError: for a model or folder that does not exist, and for options that contradict each other.
    """
    kind, source = find_model(arguments.model)
    if kind not in ("keras", "pytorch"):
        raise InputError(
            "expected the folder of a run, a .keras file, or a checkpoint folder of the original code. "
            f"Received: {arguments.model}"
        )
    folder = source if source.is_dir() else source.parent
    if registry.holds(source):
        folder = pathlib.Path()
    out = getattr(arguments, "out", folder / format.default_out)
    outputs.check_parent(out)
    images = arguments.verify_images
    if images is not None and not images.is_dir():
        raise InputError(f"expected a folder of images for --verify-images. Received: {images}")
    calibration = arguments.calibration
    if (arguments.precision == "int8") != (calibration is not None):
        raise InputError(
            "--precision int8 and --calibration belong together (a folder of images, or none for weights only). "
            f"Received: --precision {arguments.precision}, --calibration {calibration or 'not given'}"
        )
    if calibration not in (None, "none") and not pathlib.Path(calibration).is_dir():
        raise InputError(f"expected a folder of images for --calibration, or none. Received: {calibration}")
    return Options(
        source=source,
        out=out,
        calibration=None if calibration in (None, "none") else pathlib.Path(calibration),
        **{
            name: getattr(arguments, name)
            for name in (
                "atol",
                "min_agreement",
                "size",
                "batch",
                "steps",
                "input_type",
                "resize",
                "limit",
                "precision",
                "verify",
                "verify_images",
                "stop_threshold",
                "mask_threshold",
                "license",
            )
        },
    )


def _size(text: str) -> tuple[int, int] | Literal["model"] | None:
    if text == "dynamic":
        return None
    if text == "model":
        return "model"
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(
            f"expected HEIGHTxWIDTH in pixels (256x256), dynamic or model. Received: {text!r}"
        )
    height, width = text.split("x")
    return int(height), int(width)


def _batch(text: str) -> int | None:
    return None if text == "dynamic" else _positive(text, "a positive number or dynamic")


def _positive(text: str, expected: str = "a positive number") -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text!r}")
    return int(text)


def _share(text: str) -> float:
    return _number(text, 0, 1)


def _tolerance(text: str) -> float:
    return _number(text, 0, float("inf"))


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}. Received: {text!r}")
    return value
