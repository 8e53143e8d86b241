"""`rsis voc MODEL`: scores a model on Pascal VOC as the paper does."""

from collections.abc import Sequence

from rsis_tf import files, outputs
from rsis_tf.cli.evaluation_options import add_model_and_data, new_parser, open_both
from rsis_tf.cli.protocol_options import add_protocol_options, chosen_protocol
from rsis_tf.errors import command_line
from rsis_tf.evaluation.benchmarks import voc
from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile
from rsis_tf.progress import ProgressLine


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "voc",
        "Scores a model on Pascal VOC as in tables 3 and 4 of the paper.",
        "rsis voc runs/voc --data VOCdevkit/VOC2012 --out runs/voc/voc",
    )
    add_model_and_data(parser, dataset="voc", stop=None)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for voc.json and results.json (COCO)")
    add_protocol_options(parser, default=voc.PAPER.name, scored_by=("every_class", "max_dets"))
    arguments = parser.parse_args(argv)
    with command_line():
        outputs.check_folder(arguments.out)
        protocol = chosen_protocol(arguments)
        dataset, predictor = open_both(arguments, protocol)
        out = outputs.make_folder(arguments.out)
        with ResultsFile(out / "results.json", every_class=protocol.every_class) as results:
            scores = voc.evaluate_voc(predictor, dataset, progress=ProgressLine(), sinks=[results], protocol=protocol)
        files.write_json(out / "voc.json", {"protocol": protocol.settings(), **scores.to_dict()})
        print(voc.table(scores))
        print(f"\nwritten: {out / 'voc.json'}, {out / 'results.json'}")


if __name__ == "__main__":
    main()
