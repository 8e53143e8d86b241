"""`rsis evaluate MODEL`: scores a model on a dataset and writes scores, result files and overlays."""

import argparse
import contextlib
import pathlib
from collections.abc import Sequence
from typing import Any

from rsis_tf import files, outputs
from rsis_tf.cli.data_options import coco_fields
from rsis_tf.cli.evaluation_options import add_model_and_data, data_config, new_parser, open_both, read_split
from rsis_tf.cli.predictor_options import class_ids, other_predictions
from rsis_tf.cli.protocol_options import add_protocol_options, chosen_protocol
from rsis_tf.data import category_ids
from rsis_tf.errors import command_line
from rsis_tf.evaluation import scoring
from rsis_tf.evaluation.predictions import Predictor, Sink, of_classes
from rsis_tf.evaluation.protocols import PLAIN, PROTOCOLS, Protocol, metrics_file
from rsis_tf.progress import ProgressLine

_EXAMPLES = """rsis evaluate runs/leaves
      the run's best model on the run's validation images
  rsis evaluate model.onnx --dataset coco --data photos --split test --overlays found
      an exported model on other images, some of them drawn"""
_MORE = """
Scores by the rules of a benchmark: rsis voc, rsis cityscapes, rsis leaves.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = new_parser(
        "evaluate",
        "Scores a model: average precision, average recall, best Dice and counting errors, with 95 % intervals.",
        _EXAMPLES,
        more=_MORE,
    )
    add_model_and_data(parser, stop=None)
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME|ID",
                        help="score only this class, given by its name or its number in COCO files; repeat the option "
                        "for several classes. Objects of other classes count as background, predictions of other "
                        "classes are dropped, also from result files")  # fmt: skip
    add = parser.add_argument_group("results").add_argument
    add("--out", type=pathlib.Path, metavar="FILE",
        help="JSON file for the scores (default: metrics.json in the run's folder, or metrics-PROTOCOL.json for a "
        "protocol other than plain, if MODEL is a run's folder and all its validation images are scored, "
        "without --tile, --flips and --steps, and no option changes a setting of the protocol)")  # fmt: skip
    add("--coco-results", type=pathlib.Path, metavar="FILE", help="predictions as a COCO result file")
    add("--cityscapes-results", type=pathlib.Path, metavar="DIR", help="predictions in the format of Cityscapes")
    add("--leaves-submission", type=pathlib.Path, metavar="DIR", help="label images for the CVPPP leaf challenge")
    add("--overlays", type=pathlib.Path, metavar="DIR",
        help="overlays and step-by-step strips of the first images, with the truth")  # fmt: skip
    add("--overlays-count", type=int, default=12, metavar="N",
        help="number of images for --overlays (default: %(default)s)")  # fmt: skip
    # Spellings of earlier releases.
    add("--pictures", dest="overlays", type=pathlib.Path, help=argparse.SUPPRESS)
    add("--pictures-count", dest="overlays_count", type=int, help=argparse.SUPPRESS)
    add_protocol_options(parser, default=PLAIN.name, scored_by=("every_class", "overlap", "max_dets"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        arguments = parse(argv)
        protocol = chosen_protocol(arguments)
        out = _scores_file(arguments, protocol)
        _check_outputs(arguments, out)
        dataset, predictor = open_both(arguments, protocol)
        # The dataset's own numbers come first, because result files are compared with its annotations.
        numbers = category_ids(dataset) or getattr(predictor, "category_ids", ())
        classes = class_ids(arguments.classes, dataset.class_names, numbers)
        with contextlib.ExitStack() as stack:
            sinks = _open_sinks(arguments, dataset.class_names, protocol, numbers, classes, stack)
            scores = scoring.evaluate(
                predictor, dataset, progress=ProgressLine(), sinks=sinks, classes=classes, protocol=protocol
            )
        print(scoring.table(scores))
        if out is not None:
            measured: dict[str, Any] = {"dataset": data_config(arguments).dataset, "split": read_split(arguments)}
            measured["protocol"] = protocol.settings()
            if classes is not None:
                measured["classes"] = list(scores.per_class)
            if numbers:
                measured["category_ids"] = dict(zip(dataset.class_names[1:], numbers[1:], strict=True))
            measured |= _thresholds(predictor, protocol) | other_predictions(arguments)
            files.write_json(out, measured | scores.to_dict())
        results = (arguments.coco_results, arguments.cityscapes_results, arguments.leaves_submission)
        written = [str(path) for path in (*results, arguments.overlays, out) if path is not None]
        if written:
            print(f"\nwritten: {', '.join(written)}")


def _open_sinks(
    arguments: argparse.Namespace,
    class_names: Sequence[str],
    protocol: Protocol,
    numbers: Sequence[int],
    classes: frozenset[int] | None,
    stack: contextlib.ExitStack,
) -> list[Sink]:
    """Opens the result files that the arguments name.

    Args:
        arguments: arguments of the command line.
        class_names: K names, the first of them the background.
        protocol: the protocol of the scores.
        numbers: K numbers of the classes in COCO files; empty for 0 … K−1.
        classes: ids of the classes to write; None for all.
        stack: closes the files at its end.
    """
    sinks: list[Sink] = []
    if arguments.coco_results:
        from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile

        file = ResultsFile(
            arguments.coco_results, category_ids=numbers, every_class=protocol.every_class, classes=classes
        )
        sinks.append(stack.enter_context(file))
    if arguments.cityscapes_results:
        from rsis_tf.evaluation.benchmarks.cityscapes_files import ResultFiles

        folder = arguments.cityscapes_results
        sinks.append(ResultFiles(folder, class_names, every_class=protocol.every_class, classes=classes))
    if arguments.leaves_submission:
        from rsis_tf.evaluation.benchmarks.leaves_submission import SubmissionFolder

        sinks.append(_of_best(SubmissionFolder(arguments.leaves_submission, overlap=protocol.overlap), classes))
    if arguments.overlays:
        from rsis_tf.evaluation.overlays import OverlayFiles

        sinks.append(_of_best(OverlayFiles(arguments.overlays, count=arguments.overlays_count), classes))
    return sinks


def _of_best(sink: Sink, classes: frozenset[int] | None) -> Sink:
    """Returns a sink that receives the predictions whose best class is one of the classes."""
    return lambda sample, instances: sink(sample, of_classes(instances, classes))


def _scores_file(arguments: argparse.Namespace, protocol: Protocol) -> pathlib.Path | None:
    """Returns the file for the scores.

    Without `--out` there is one only if exactly the run's images are scored, each as a whole and once, with the
    settings of a protocol as they are.
    """
    if arguments.out is not None:
        return arguments.out
    other_images = (
        arguments.dataset
        or arguments.data
        or arguments.limit
        or arguments.classes
        or arguments.split != "val"
        or coco_fields(arguments)
    )
    is_run = (arguments.model / "config.json").is_file()
    as_they_are = protocol == PROTOCOLS[protocol.name]
    usual = is_run and not other_images and not other_predictions(arguments) and as_they_are
    return arguments.model / metrics_file(protocol.name) if usual else None


def _check_outputs(arguments: argparse.Namespace, scores: pathlib.Path | None) -> None:
    """Checks before the work that all its results can be written.

    Raises:
        InputError: the message names the option.
    """
    if scores is not None:
        outputs.check_file(scores)
    if arguments.coco_results is not None:
        outputs.check_file(arguments.coco_results, option="--coco-results")
    for option in ("cityscapes_results", "leaves_submission", "overlays"):
        folder = getattr(arguments, option)
        if folder is not None:
            outputs.check_folder(folder, option=f"--{option.replace('_', '-')}")


def _thresholds(predictor: Predictor, protocol: Protocol) -> dict[str, Any]:
    """Returns the stop rule and the thresholds that were used, the model's own where the protocol has none."""
    return {
        "stop": protocol.stop_mode,
        **{name: getattr(predictor, name) for name in ("stop_threshold", "mask_threshold")},
    }


if __name__ == "__main__":
    main()
