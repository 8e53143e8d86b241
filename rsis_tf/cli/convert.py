"""`rsis convert`: converts a checkpoint of the original PyTorch code to a Keras model."""

import argparse
import pathlib
from collections.abc import Sequence

from rsis_tf.errors import ArgumentParser, InputError, command_line


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="rsis convert",
        description="Converts a checkpoint of the original PyTorch code (imatge-upc/rsis) to a Keras model.",
        epilog="example:\n  rsis convert models/pascal --out pascal.keras",
    )
    parser.add_argument("folder", type=pathlib.Path, nargs="?", metavar="CHECKPOINT",
                        help="folder with encoder.pt, decoder.pt and args.pkl")  # fmt: skip
    parser.add_argument("--checkpoint", type=pathlib.Path, help=argparse.SUPPRESS)  # the earlier spelling
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="the .keras file to write")
    with command_line():
        arguments = parser.parse_args(argv)
        folder = arguments.folder or arguments.checkpoint
        if folder is None:
            raise InputError("expected the folder of a checkpoint. Received: none")
        from rsis_tf.models.pytorch.convert import convert

        convert(folder, arguments.out)


if __name__ == "__main__":
    main()
