"""`rsis cityscapes MODEL`: predicts Cityscapes, writes the benchmark's result files and scores them."""

from collections.abc import Sequence

from rsis_tf import files, outputs
from rsis_tf.cli.evaluation_options import add_model_and_data, data_root, new_parser, open_both
from rsis_tf.cli.protocol_options import add_protocol_options, chosen_protocol
from rsis_tf.errors import command_line
from rsis_tf.evaluation.benchmarks import cityscapes
from rsis_tf.progress import ProgressLine


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "cityscapes",
        "Predicts Cityscapes, writes the benchmark's result files and scores them with cityscapesScripts (table 2).",
        "rsis cityscapes runs/city --data cityscapes --out runs/city/cityscapes",
    )
    add_model_and_data(parser, dataset="cityscapes", stop=None)
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="folder for cityscapes.json and the result files in results/"
    )
    parser.add_argument("--cache", metavar="FILE", help="JSON file that stores the true objects for the next call")
    add_protocol_options(parser, default="paper-cityscapes", scored_by=("every_class",))
    parser.add_argument(
        "--best-class", dest="every_class", action="store_false", default=None, help="the same as --no-every-class"
    )
    arguments = parser.parse_args(argv)
    with command_line():
        outputs.check_folder(arguments.out)
        if arguments.cache is not None:
            outputs.check_file(arguments.cache, option="--cache")
        protocol = chosen_protocol(arguments)
        dataset, predictor = open_both(arguments, protocol)
        out = outputs.make_folder(arguments.out)
        scores = cityscapes.evaluate_cityscapes(
            predictor,
            dataset,
            root=data_root(arguments),
            split=arguments.split,
            results=out / "results",
            protocol=protocol,
            cache=arguments.cache,
            progress=ProgressLine(),
        )
        if scores is None:
            print(f"written: {out / 'results'} (not scored: {arguments.split} has no annotations)")
            return
        files.write_json(out / "cityscapes.json", {"protocol": protocol.settings(), **scores.to_dict()})
        print(cityscapes.table(scores))
        print(f"\nwritten: {out / 'cityscapes.json'}, {out / 'results'}")


if __name__ == "__main__":
    main()
