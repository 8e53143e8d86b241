"""Scores a model on a dataset: arguments → predictor and pictures → table, JSON and result files."""

import argparse
import contextlib
import pathlib
from collections.abc import Sequence

from rsis_tf.cli import evaluation_options as command
from rsis_tf.cli.data_options import coco_fields
from rsis_tf.cli.predictor_options import class_ids
from rsis_tf.data import category_ids
from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation import runner
from rsis_tf.evaluation.benchmarks import protocols
from rsis_tf.progress import ProgressLine

_EXAMPLES = """python evaluate.py runs/synthetic
      the run's best model on its own validation set
  python evaluate.py model.onnx --dataset coco --data photos --split test --pictures found
      an exported model on other pictures, some of them drawn"""
_MORE = """
Scores in a benchmark's own way: python -m rsis_tf.evaluation.benchmarks.voc, .cityscapes, .leaves_submission (--help).
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser(
        "Scores a model: average precision, average recall, best Dice and counting errors, with 95 % intervals.",
        _EXAMPLES,
        more=_MORE,
    )
    command.add_model_and_data(parser, stop=None)
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME|ID",
                        help="score this class only, by its name or its number in COCO files; may be given several "
                        "times. Objects of other classes count as background, predictions of others are left out, "
                        "in result files too")  # fmt: skip
    add = parser.add_argument_group("results").add_argument
    add("--out", type=pathlib.Path, metavar="FILE",
        help="JSON file for the scores (default: metrics.json in the run's folder, metrics-PROTOCOL.json for "
        "another protocol than plain, if MODEL is a run's folder and no other pictures are asked for)")  # fmt: skip
    add("--coco-results", type=pathlib.Path, metavar="FILE", help="predictions as a COCO result file")
    add("--cityscapes-results", type=pathlib.Path, metavar="DIR", help="predictions as Cityscapes' server takes them")
    add("--leaves-submission", type=pathlib.Path, metavar="DIR", help="label images as the CVPPP challenge takes them")
    add("--pictures", type=pathlib.Path, metavar="DIR", help="overlays and strips of the first pictures, with truth")
    add("--pictures-count", type=int, default=12, metavar="P", help="how many (default: %(default)s)")
    protocols.add_options(parser, default=protocols.PLAIN.name, scored_by=("every_class", "overlap", "max_dets"))
    return parser.parse_args(argv)


def open_sinks(
    arguments: argparse.Namespace,
    class_names: Sequence[str],
    protocol: protocols.Protocol,
    numbers: Sequence[int],
    stack: contextlib.ExitStack,
) -> list[runner.Sink]:
    """Opens the result files asked for; what must be closed is left to the stack.

    Args:
        arguments: of the command line.
        class_names: K names, the first of them the background.
        numbers: K numbers by which COCO files call the classes; empty for 0 … K−1.
        stack: closes the files.
    """
    sinks: list[runner.Sink] = []
    if arguments.coco_results:
        from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile

        file = ResultsFile(arguments.coco_results, category_ids=numbers, every_class=protocol.every_class)
        sinks.append(stack.enter_context(file))
    if arguments.cityscapes_results:
        from rsis_tf.evaluation.benchmarks.cityscapes_results import ResultFiles

        sinks.append(ResultFiles(arguments.cityscapes_results, class_names, every_class=protocol.every_class))
    if arguments.leaves_submission:
        from rsis_tf.evaluation.benchmarks.leaves_submission import SubmissionFolder

        sinks.append(SubmissionFolder(arguments.leaves_submission, overlap=protocol.overlap))
    if arguments.pictures:
        from rsis_tf.evaluation.image_files import PictureFiles

        sinks.append(PictureFiles(arguments.pictures, count=arguments.pictures_count))
    return sinks


def scores_file(arguments: argparse.Namespace) -> pathlib.Path | None:
    """Returns where the scores go: they are those of the run only if its own pictures were all scored."""
    if arguments.out is not None:
        if not arguments.out.absolute().parent.is_dir():
            raise InputError(f"expected a file in a folder that is there. Received: --out {arguments.out}")
        return arguments.out
    asked_for_others = (
        arguments.dataset
        or arguments.data
        or arguments.limit
        or arguments.classes
        or arguments.split != "val"
        or coco_fields(arguments)
    )
    of_the_run = (arguments.model / "config.json").is_file() and not asked_for_others
    return arguments.model / protocols.metrics_file(arguments.protocol) if of_the_run else None


def main(argv: Sequence[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        out = scores_file(arguments)
        protocol = protocols.chosen(arguments)
        dataset, predictor = command.open_both(arguments)
        # The dataset's own numbers come first: result files are compared with its annotations.
        numbers = category_ids(dataset) or getattr(predictor, "category_ids", ())
        classes = class_ids(arguments.classes, dataset.class_names, numbers)
        with contextlib.ExitStack() as stack:
            sinks = open_sinks(arguments, dataset.class_names, protocol, numbers, stack)
            scores = runner.evaluate(
                predictor, dataset, progress=ProgressLine(), sinks=sinks, classes=classes, protocol=protocol
            )
        print(runner.table(scores))
        written = [
            arguments.coco_results,
            arguments.cityscapes_results,
            arguments.leaves_submission,
            arguments.pictures,
        ]
        if out is not None:
            measured = {"dataset": command.data_config(arguments).dataset, "split": arguments.split}
            measured |= {"protocol": protocol.settings()}
            if classes is not None:
                measured["classes"] = list(scores.per_class)
            if numbers:
                measured["category_ids"] = dict(zip(dataset.class_names[1:], numbers[1:], strict=True))
            measured |= {"stop": protocol.stop_mode, "stop_threshold": predictor.stop_threshold}
            measured |= {"mask_threshold": predictor.mask_threshold}
            runner.write_json(out, {**measured, **scores.to_dict()})
            written.append(out)
        if any(written):
            print(f"\nwritten: {', '.join(str(path) for path in written if path)}")


if __name__ == "__main__":
    main()
