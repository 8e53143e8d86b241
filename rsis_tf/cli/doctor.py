"""`rsis doctor`: reports what is installed, what the machine offers, and what does not work."""

import json
from collections.abc import Sequence

from rsis_tf.doctor.machine import inspect
from rsis_tf.doctor.table import as_json, count, examine, text
from rsis_tf.errors import ArgumentParser, command_line

_DESCRIPTION = """\
Checks this installation and says what to do about each problem: versions and conflicts of packages, GPU and CUDA
libraries, Keras's backend, ONNX Runtime with a short computation, memory, disk, caches and folders. Works in every
installation and needs no network. The home folder is shown as ~; add the output to a bug report.
Exit code: 0 no problem, 1 a problem, 2 wrong arguments.
"""
_EPILOG = """examples:
  rsis doctor
  rsis doctor --json > doctor.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0 if there is no problem, 1 if there is one."""
    parser = ArgumentParser(prog="rsis doctor", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(argv)
    with command_line():
        findings = examine(inspect())
        print(json.dumps(as_json(findings), indent=2) if options.json else text(findings))
    return 1 if count(findings, "problem") else 0


if __name__ == "__main__":
    raise SystemExit(main())
