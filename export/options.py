"""The command-line options that all exporters share, checked before anything heavy is imported."""

import argparse
import dataclasses
import pathlib
import re

from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.errors import ArgumentParser, InputError
from rsis_tf.inference import find_model

PRECISIONS = ("fp32", "fp16", "int8")
ATOL = {"fp32": 1e-4, "fp16": 2e-2, "int8": 1.0}
"""Largest difference of an output from the Keras model's that a verification lets pass by default."""
MIN_AGREEMENT = {"fp32": 0.0, "fp16": 0.0, "int8": 0.8}
"""Least agreement of instances by default: 8 bits move single pixels at will, so there the instances decide."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to export and how.

    Attributes:
        source: the `.keras` file, or the folder of the original's checkpoint.
        out: the file (ONNX, TFLite) or folder (SavedModel) to write.
        size: (height, width) the network runs at, None for the size of the input.
        batch: B, None for any.
        steps: T, None for the model's own.
        input_type: "uint8" or "float32", the dtype of the input `image`.
        resize: whether a graph of fixed size takes pictures of any size and scales them itself.
        precision: one of `PRECISIONS`.
        verify: whether to compare the file with the Keras model.
        atol: largest difference allowed of masks, class and stop probabilities; None for what `tolerances` says.
        min_agreement: least agreement of instances, 0 to 1 (`rsis_tf.evaluation.metrics.agreement`); None as before.
        calibration: folder of pictures that show the ranges of values to an int8 quantiser; None for weights alone.
        verify_images: folder of pictures to compare on; None for the run's samples or a made-up picture.
        stop_threshold: written into the file; None for the model's own.
        mask_threshold: written into the file.
        license: terms of use written into the file.
    """

    source: pathlib.Path
    out: pathlib.Path
    size: tuple[int, int] | str | None = "model"
    batch: int | None = None
    steps: int | None = None
    input_type: str = "uint8"
    resize: bool = True
    precision: str = "fp32"
    verify: bool = True
    atol: float | None = None
    min_agreement: float | None = None
    calibration: pathlib.Path | None = None
    verify_images: pathlib.Path | None = None
    stop_threshold: float | None = None
    mask_threshold: float = 0.5
    license: str = "MIT"

    @property
    def folder(self) -> pathlib.Path:
        """Where the model lies; a run keeps `samples/` there."""
        return self.source if self.source.is_dir() else self.source.parent


def make_parser(
    *, module: str, default_out: str, example: str, batch: str = "dynamic", resize: bool = True
) -> ArgumentParser:
    """Returns a parser with the shared options.

    Args:
        module: name after `python -m`.
        default_out: name of the result in the run's folder.
        example: a command line for the help text.
        batch, resize: defaults of --batch and --resize.
    """
    parser = ArgumentParser(
        prog=f"python -m {module}",
        description=f"Writes {default_out} from a trained model and compares it with the Keras model.",
        epilog=f"example: {example}",
        formatter_class=_Help,
    )
    add = parser.add_argument
    add(
        "model",
        type=pathlib.Path,
        metavar="RUN_or_MODEL",
        help="run folder (its best.keras), a .keras file, or a folder with the original's encoder.pt, decoder.pt and "
        "args.pkl",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=argparse.SUPPRESS,
        help=f"what to write (default: {default_out} in the folder, or beside the file)",
    )
    add(
        "--size",
        type=_size,
        default="model",
        metavar="HxW|dynamic|model",
        help="size the network runs at: fixed, the input's own, or the one it was trained at",
    )
    add(
        "--resize",
        action=argparse.BooleanOptionalAction,
        default=resize,
        help="with a fixed size, take pictures of any size and scale them in the graph",
    )
    add("--batch", type=_batch, default=batch, metavar="N|dynamic", help="pictures in one run")
    add("--steps", type=_positive, metavar="T", help="objects predicted at most (default: as in the model)")
    add("--input-type", choices=("uint8", "float32"), default="uint8", help="of the input, RGB 0..255 either way")
    add("--precision", choices=PRECISIONS, default="fp32", help="of weights and arithmetic")
    add(
        "--calibration",
        metavar="DIR|none",
        help="for int8: folder of pictures like those to come, from which the ranges of values are taken; "
        "'none' quantises the weights alone",
    )
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the file with the Keras model before it gets its name",
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
        help="pictures to compare on (default: the run's samples, else one that is made up)",
    )
    add(
        "--stop-threshold",
        type=_share,
        metavar="P",
        help="objectness below which the sequence ends; kept in the file (default: the model's own)",
    )
    add("--mask-threshold", type=_share, default=0.5, help="probability from which a pixel is in; kept in the file")
    add("--license", default="MIT", help="terms of use; kept in the file")
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


def read_options(arguments: argparse.Namespace, *, default_out: str) -> Options:
    """Returns checked options.

    Raises:
        InputError: for a model or folder that is not there, or options that contradict each other.
    """
    kind, source = find_model(arguments.model)
    if kind not in ("keras", "pytorch"):
        raise InputError(
            "expected a run folder with best.keras, a .keras file, or a checkpoint folder of the original code. "
            f"Received: {arguments.model}"
        )
    out = getattr(arguments, "out", (source if source.is_dir() else source.parent) / default_out)
    check_out(out)
    images = arguments.verify_images
    if images is not None and not images.is_dir():
        raise InputError(f"expected a folder of pictures for --verify-images. Received: {images}")
    calibration = arguments.calibration
    if (arguments.precision == "int8") != (calibration is not None):
        raise InputError(
            "--precision int8 and --calibration belong together (a folder of pictures, or none for weights alone). "
            f"Received: --precision {arguments.precision}, --calibration {calibration or 'not given'}"
        )
    if calibration not in (None, "none") and not pathlib.Path(calibration).is_dir():
        raise InputError(f"expected a folder of pictures for --calibration, or none. Received: {calibration}")
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
                "precision",
                "verify",
                "verify_images",
                "stop_threshold",
                "mask_threshold",
                "license",
            )
        },
    )


def check_out(out: pathlib.Path) -> None:
    """Raises an `InputError` if nothing can be written under this name."""
    if not out.absolute().parent.is_dir():
        raise InputError(f"expected --out in a folder that exists. Received: {out}")


def _size(text: str) -> tuple[int, int] | str | None:
    if text in ("dynamic", "model"):
        return None if text == "dynamic" else text
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(
            f"expected HEIGHTxWIDTH in pixels (256x256), dynamic or model, received {text!r}"
        )
    height, width = text.split("x")
    return int(height), int(width)


def _batch(text: str) -> int | None:
    return None if text == "dynamic" else _positive(text, "a positive number or dynamic")


def _positive(text: str, expected: str = "a positive number") -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")
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
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, received {text!r}")
    return value
