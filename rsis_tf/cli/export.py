"""`rsis export FORMAT`: writes a model in a format for deployment."""

import sys
from collections.abc import Sequence

from export.formats import FORMATS
from rsis_tf.errors import InputError, command_line


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the exporter of the format that the first argument names."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else "--help"
    with command_line():
        if first in ("-h", "--help"):
            print(usage(), end="")
        elif first in FORMATS:
            FORMATS[first].command()(arguments[1:], prog=f"rsis export {first}")
        else:
            raise InputError(f"expected a format, one of {', '.join(FORMATS)}. Received: {first}")


def usage() -> str:
    """Returns the text of `rsis export --help`."""
    width = max(map(len, FORMATS))
    lines = ["usage: rsis export FORMAT MODEL [OPTION …]", "", "Writes a model in another format.", "", "formats:"]
    lines += [f"  {name:<{width}}  {row.description}" for name, row in FORMATS.items()]
    lines += ["", "example:", "  rsis export onnx runs/nuclei --steps 20", ""]
    return "\n".join([*lines, "`rsis export FORMAT --help` shows the options of a format.", ""])


if __name__ == "__main__":
    main()
