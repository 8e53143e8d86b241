"""`rsis export FORMAT`: writes a model in a format for deployment."""

import importlib
import sys
from collections.abc import Sequence

from rsis_tf.errors import InputError, command_line

_FORMATS = {
    "onnx": "ONNX file for ONNX Runtime, in any of three layouts",
    "saved_model": "SavedModel folder for TensorFlow and TensorFlow Serving",
    "tflite": "TFLite file for LiteRT",
}
"""Format → its line in the help. The module `export.FORMAT` holds the options."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the exporter of the format that the first argument names."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else "--help"
    with command_line():
        if first in ("-h", "--help"):
            print(usage(), end="")
        elif first in _FORMATS:
            importlib.import_module(f"export.{first}").main(arguments[1:])
        else:
            raise InputError(f"expected a format, one of {', '.join(_FORMATS)}. Received: {first}")


def usage() -> str:
    """Returns the text of `rsis export --help`."""
    width = max(map(len, _FORMATS))
    lines = ["usage: rsis export FORMAT MODEL [OPTION …]", "", "Writes a model in another format.", "", "formats:"]
    lines += [f"  {name:<{width}}  {text}" for name, text in _FORMATS.items()]
    lines += ["", "example:", "  rsis export onnx runs/nuclei --steps 20", ""]
    return "\n".join([*lines, "`rsis export FORMAT --help` shows the options of a format.", ""])


if __name__ == "__main__":
    main()
