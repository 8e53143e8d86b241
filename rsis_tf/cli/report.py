"""`rsis report RUN`: writes a run as one HTML file."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsis_tf import outputs
from rsis_tf.cli.evaluation_options import new_parser
from rsis_tf.errors import command_line
from rsis_tf.evaluation.report import write_report

if TYPE_CHECKING:
    from rsis_tf.evaluation.details import Details


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "report",
        "Writes a run as one HTML file that opens offline: scores, curves, sequences and settings.",
        "rsis report runs/leaves\n  rsis report runs/leaves --details",
    )
    parser.add_argument("run", metavar="RUN", type=pathlib.Path, help="a run's folder")
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, help="HTML file (default: report.html in the run)")
    parser.add_argument("--details", action="store_true",
                        help="predict the validation images and add the worst of them, precision over recall, "
                        "confusions of classes, and the calibration of the objectness")  # fmt: skip
    arguments = parser.parse_args(argv)
    with command_line():
        if arguments.out is not None:
            outputs.check_file(arguments.out)
        details = _details(arguments.run) if arguments.details else None
        print(f"written: {write_report(arguments.run, arguments.out, details=details)}")


def _details(run: pathlib.Path) -> "Details":
    """Returns the predictions of the run's best model on its validation images."""
    from rsis_tf.config import RunConfig, json_file
    from rsis_tf.data import load_dataset
    from rsis_tf.evaluation.details import Details
    from rsis_tf.evaluation.predictions import predict_dataset
    from rsis_tf.inference import open_model
    from rsis_tf.progress import ProgressLine

    dataset = load_dataset(json_file.load(RunConfig, run / "config.json").data, "val")
    details = Details(dataset.class_names)
    predict_dataset(open_model(run), dataset, [details], progress=ProgressLine())
    return details


if __name__ == "__main__":
    main()
