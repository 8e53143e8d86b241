"""The command-line options that all exporters share. They are checked before TensorFlow is imported."""

import argparse
import dataclasses
import pathlib
import re
from typing import Literal, TypedDict

from export.formats import ExportFormat
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.errors import ArgumentParser, InputError
from rsis_tf.inference import find_model

ATOL = {"fp32": 1e-4, "fp16": 2e-2, "int8": 1.0}
"""Largest difference of an output from the Keras model's that a verification lets pass by default."""
MIN_AGREEMENT = {"fp32": 0.0, "fp16": 0.0, "int8": 0.8}
"""Least agreement of instances by default. 8-bit graphs change single pixels, so for int8 the instances decide."""


class Thresholds(TypedDict):
    """The thresholds that a file holds, as keyword arguments of `rsis_tf.runtime.decode`."""

    stop_threshold: float
    mask_threshold: float


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Adds the default of an option to its help, unless the default is None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to export and how.

    Attributes:
        source: the `.keras` file, or the folder of the original's checkpoint.
        out: the file (ONNX, TFLite) or folder (SavedModel, stepwise ONNX) to write.
        size: (height, width) at which the network runs, "model" for the size it was trained at, or None for the size
            of the input.
        batch: B, or None for any.
        steps: T, or None for the number of steps of the model.
        input_type: "uint8" or "float32", the dtype of the input `image`.
        resize: whether a graph of fixed size takes images of any size and resizes them itself.
        precision: one of `export.formats.PRECISIONS`.
        verify: whether to compare the file with the Keras model.
        atol: largest difference of a mask, class or stop probability that passes; None for the default of `tolerances`.
        min_agreement: least agreement of instances that passes, 0 to 1 (`rsis_tf.evaluation.metrics.agreement`); None
            for the default of `tolerances`.
        calibration: folder of images from which an int8 quantiser takes the ranges of activations; None to quantise
            the weights only.
        limit: number of images of `calibration` that are read at most.
        verify_images: folder of images to compare on; None for the run's samples, or a synthetic image.
        stop_threshold: written into the file; None for the threshold of the model.
        mask_threshold: written into the file.
        license: terms of use, written into the file.
    """

    source: pathlib.Path
    out: pathlib.Path
    size: tuple[int, int] | Literal["model"] | None = "model"
    batch: int | None = None
    steps: int | None = None
    input_type: str = "uint8"
    resize: bool = True
    precision: str = "fp32"
    verify: bool = True
    atol: float | None = None
    min_agreement: float | None = None
    calibration: pathlib.Path | None = None
    limit: int = 300
    verify_images: pathlib.Path | None = None
    stop_threshold: float | None = None
    mask_threshold: float = 0.5
    license: str = "MIT"

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the model. A run stores its `samples/` there."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that are written into the file; `stop_threshold` must be set."""
        assert self.stop_threshold is not None, "export.graph.open_source sets the threshold"
        return Thresholds(stop_threshold=self.stop_threshold, mask_threshold=self.mask_threshold)


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
        type=pathlib.Path,
        metavar="RUN_or_MODEL",
        help="folder of a run (best.keras is read), a .keras file, or a folder of the original code with encoder.pt, "
        "decoder.pt and args.pkl",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=argparse.SUPPRESS,
        metavar="DIR" if format.folder_with else "FILE",
        help=f"{'folder' if format.folder_with else 'file'} to write (default: {format.default_out} in the folder of "
        "the model)",
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
        help=f"largest difference of a probability that passes (default: {largest}{_exceptions(0)})",
    )
    least = ", ".join(f"{name} {value:g}" for name, value in MIN_AGREEMENT.items())
    add(
        "--min-agreement",
        type=_share,
        help=f"least agreement of the instances, 0 to 1 (default: {least}{_exceptions(1)})",
    )
    add(
        "--verify-images",
        type=pathlib.Path,
        metavar="DIR",
        help="folder of images to compare on (default: the run's samples, or else a synthetic image)",
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


def tolerances(options: Options, mask_head: str) -> tuple[float, float]:
    """Returns the largest difference and the smallest agreement that a verification accepts.

    Args:
        options: what was asked for, or None.
        mask_head: of the model.
    """
    atol, least = ATOL[options.precision], MIN_AGREEMENT[options.precision]
    if options.precision == "fp16":
        atol, least = MASK_HEADS[mask_head].fp16_tolerance or (atol, least)
    return (
        atol if options.atol is None else options.atol,
        least if options.min_agreement is None else options.min_agreement,
    )


def _exceptions(which: int) -> str:
    """Returns the tolerances of mask heads that have their own, for a help text; 0: difference, 1: agreement."""
    own = {name: spec.fp16_tolerance for name, spec in MASK_HEADS.items() if spec.fp16_tolerance}
    return "".join(f", fp16 with {name} {tolerance[which]:g}" for name, tolerance in own.items())


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
    out = getattr(arguments, "out", (source if source.is_dir() else source.parent) / format.default_out)
    check_out(out)
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


def check_format(options: Options, format: ExportFormat) -> None:
    """Refuses options that a format does not support.

    Raises:
        InputError: the message gives the reason.
    """
    check_replaceable(options.out, format.folder_with)
    if options.precision not in format.precisions:
        raise InputError(
            f"expected a precision of the format {format.name}, {', '.join(format.precisions)}; other formats offer "
            f"more. Received: --precision {options.precision}"
        )
    if format.fixed_shape is None:
        return
    if options.size is None:
        raise InputError(f"{format.fixed_shape}, so the size must be fixed. Received: --size dynamic")
    if options.batch is None:
        raise InputError(f"{format.fixed_shape}, so the batch size must be fixed. Received: --batch-size dynamic")
    if options.resize:
        raise InputError(f"{format.fixed_shape}, so images must be resized before the graph. Received: --resize")


def check_replaceable(out: pathlib.Path, folder_with: str | None) -> None:
    """Refuses to replace anything but an earlier export of the same kind.

    Args:
        out: file or folder to write.
        folder_with: see `ExportFormat.folder_with`.

    Raises:
        InputError: for a folder where a file is to be written, and for a folder that is not an export.
    """
    if folder_with is None and out.is_dir():
        raise InputError(f"expected --out to be a file. Received: {out}, which is a folder")
    if folder_with is not None and out.exists() and not (out / folder_with).is_file():
        raise InputError(
            f"expected --out to be a new folder, or an earlier export with {folder_with} in it. Received: {out}"
        )


def check_out(out: pathlib.Path) -> None:
    """Raises an `InputError` if the folder in which to write does not exist."""
    if not out.absolute().parent.is_dir():
        raise InputError(f"expected --out in a folder that exists. Received: {out}")


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
