"""`rsis order MODEL`: studies the order in which a model finds objects."""

from collections.abc import Sequence

from rsis_tf import outputs
from rsis_tf.cli.evaluation_options import add_model_and_data, new_parser, open_both
from rsis_tf.cli.protocol_options import chosen_protocol
from rsis_tf.errors import command_line
from rsis_tf.evaluation.studies import order
from rsis_tf.evaluation.studies.order_results import study_order
from rsis_tf.inference import load_model
from rsis_tf.progress import ProgressLine


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = new_parser(
        "order",
        "Studies the order in which a model finds objects (paper, section 4.7).",
        "rsis order runs/nuclei --out runs/nuclei/order",
    )
    add_model_and_data(parser, tiles=False)  # merged objects are in the order of the tiles, not of the model
    parser.add_argument(
        "--before", metavar="MODEL", help="a .keras file or a run, such as one before training: compare its encoder"
    )
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for order.json and the plots")
    arguments = parser.parse_args(argv)
    with command_line():
        outputs.check_folder(arguments.out)
        dataset, predictor = open_both(arguments, chosen_protocol(arguments))
        before = load_model(arguments.before) if arguments.before else None
        scores, written = study_order(predictor, dataset, arguments.out, before=before, progress=ProgressLine())
        print(order.table(scores))
        if not scores.most_active_first:
            print("\nno activations: only .keras models have an encoder to study")
        print(f"\nwritten: {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
