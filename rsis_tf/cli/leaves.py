"""`rsis leaves MODEL`: writes label images for the CVPPP leaf challenge, or scores a folder of them."""

import argparse
from collections.abc import Sequence

from rsis_tf import outputs
from rsis_tf.cli.evaluation_options import add_model_and_data, new_parser, open_both
from rsis_tf.cli.protocol_options import add_protocol_options, chosen_protocol
from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation.benchmarks import leaves_submission
from rsis_tf.evaluation.predictions import predict_dataset
from rsis_tf.progress import ProgressLine


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "leaves",
        "Writes the folder of label images for the CVPPP leaf challenge; with --score, scores such a folder.",
        "rsis leaves runs/leaves --data CVPPP2017 --split test --out submission\n"
        "  rsis leaves --score submission/A1 CVPPP2017/training/A1",
    )
    parser.add_argument("--score", nargs=2, metavar=("PREDICTED", "TRUTH"), help="score a folder of *_label.png")
    parser.add_argument("--csv", metavar="FILE", help="with --score: write the scores, one row for each plant")
    add_model_and_data(parser, dataset="cvppp", stop=None, optional=True)
    parser.add_argument(
        "--set", default="A1", choices=leaves_submission.SETS, help="subfolder of --out (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder for the label images")
    add_protocol_options(parser, default="paper-cvppp", scored_by=("overlap",))
    arguments = parser.parse_args(argv)
    with command_line():
        if arguments.csv and not arguments.score:
            raise InputError(f"--csv is for --score. Received: --csv {arguments.csv} without it")
        if arguments.score and (arguments.model or arguments.out):
            received = f"MODEL {arguments.model}" if arguments.model else f"--out {arguments.out}"
            raise InputError(f"--score compares two folders, without MODEL and --out. Received: {received}")
        if arguments.score:
            _score(arguments)
        elif arguments.model and arguments.out:
            _predict(arguments)
        else:
            raise InputError("expected MODEL and --out FOLDER, or --score PREDICTED TRUTH. Received: neither")


def _score(arguments: argparse.Namespace) -> None:
    if arguments.csv:
        outputs.check_file(arguments.csv, option="--csv")
    scores = leaves_submission.score_folders(*arguments.score)
    if arguments.csv:
        leaves_submission.write_csv(arguments.csv, scores)
    print("\n".join([*leaves_submission.unpaired(*arguments.score), leaves_submission.table(scores)]))


def _predict(arguments: argparse.Namespace) -> None:
    outputs.check_folder(arguments.out)
    protocol = chosen_protocol(arguments)
    dataset, predictor = open_both(arguments, protocol)
    folder = leaves_submission.SubmissionFolder(arguments.out, leaf_set=arguments.set, overlap=protocol.overlap)
    predict_dataset(predictor, dataset, [folder], progress=ProgressLine())
    print(f"written: {len(dataset)} label images in {folder.folder}")


if __name__ == "__main__":
    main()
