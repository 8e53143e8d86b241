"""`rsis ablation RUN…`: compares runs in the form of the paper's table 5."""

import dataclasses
import pathlib
from collections.abc import Sequence

from rsis_tf import files, outputs
from rsis_tf.cli.evaluation_options import new_parser
from rsis_tf.errors import command_line
from rsis_tf.evaluation.json_values import plain
from rsis_tf.evaluation.studies import ablation

_MORE = """
The columns (table 5) are the scores of rsis evaluate RUN --protocol paper-voc,
the others those of rsis evaluate RUN. docs/protocols.md explains the difference.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "ablation",
        "Compares runs as in table 5 of the paper; score each with rsis evaluate --protocol paper-voc first.",
        "rsis ablation runs/concat runs/sum runs/none --out ablation.json",
        more=_MORE,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, scored by rsis evaluate")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="add AP50 of this class (default: person, where available)"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, help="JSON file for the rows")
    arguments = parser.parse_args(argv)
    with command_line():
        if arguments.out is not None:
            outputs.check_file(arguments.out)
        rows = ablation.read_runs(arguments.runs, class_name=arguments.class_name)
        print(ablation.table(rows, markdown=arguments.markdown))
        missing = ablation.not_in_the_papers_protocol(rows)
        if missing:
            hint = "rsis evaluate RUN --protocol paper-voc"
            print(f"\nnot scored in the protocol of table 5 ({hint}): {', '.join(missing)}")
        if arguments.out is not None:
            files.write_json(arguments.out, [plain(dataclasses.asdict(row)) for row in rows])
            print(f"\nwritten: {arguments.out}")


if __name__ == "__main__":
    main()
