"""`rsis report RUN`: writes a run as one HTML file."""

import pathlib
from collections.abc import Sequence

from rsis_tf import outputs
from rsis_tf.cli.evaluation_options import new_parser
from rsis_tf.errors import command_line
from rsis_tf.evaluation.report import write_report


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "report",
        "Writes a run as one HTML file that opens offline: scores, curves, sequences and settings.",
        "rsis report runs/leaves",
    )
    parser.add_argument("run", metavar="RUN", type=pathlib.Path, help="a run's folder")
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, help="HTML file (default: report.html in the run)")
    arguments = parser.parse_args(argv)
    with command_line():
        if arguments.out is not None:
            outputs.check_file(arguments.out)
        print(f"written: {write_report(arguments.run, arguments.out)}")


if __name__ == "__main__":
    main()
