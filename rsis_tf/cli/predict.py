"""`rsis predict MODEL PATH…`: finds the objects of images and videos."""

import argparse
import pathlib
from collections.abc import Sequence

from rsis_tf.batch_prediction import DEFAULT_KINDS, KINDS, predict_paths
from rsis_tf.cli.predictor_options import add_options, class_ids, positive, predictor_options
from rsis_tf.errors import ArgumentParser, command_line
from rsis_tf.inference import MODEL_HELP, model_path, open_model
from rsis_tf.outputs import check_folder

_EPILOG = """examples:
  rsis predict runs/leaves/model.onnx photos --out found
      every image in the folder photos and its subfolders
  rsis predict runs/leaves 'plates/**/*.tif' clip.mp4 --what labels,json --every 10
      every TIFF file in plates, and every tenth frame of a video

results that --what can name, for each image NAME:
""" + "\n".join(f"  {kind:<10} {text}" for kind, text in KINDS.items())
_EPILOG += """

NAME is the name of the file without its suffix. If two images share it, the results go into subfolders as the images
do; if they share the subfolder too, NAME keeps the suffix. The command then prints one line about it. results.txt lists
the files written. A file that cannot be read, has not the suffix of an image or a video, or on which the model fails,
is reported and left out; the exit code is then 2.
"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = ArgumentParser(
        prog="rsis predict",
        description="Finds the objects in images, one after the other, and draws them.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=model_path, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image of any size, folder, pattern, or video")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("predictions"), metavar="DIR",
                        help="folder for the results (default: predictions)")  # fmt: skip
    parser.add_argument("--what", type=_kinds, default=DEFAULT_KINDS, metavar="KIND,…",
                        help=f"results to write: all, or some of {','.join(KINDS)} "
                        f"(default: {','.join(DEFAULT_KINDS)})")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true",
                        help="remove the results of an earlier run in --out (only the files listed in its "
                        "results.txt) and replace files of the same names; without this option the command fails if "
                        "there are any")  # fmt: skip
    parser.add_argument("--route", action="store_true", help="draw a line from object to object into the overlays")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME|ID",
                        help="write only objects of this class, given by its name or its number in COCO files; may be "
                        "repeated. The model still finds the other objects: steps keep their numbers")  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="use every N-th frame of a video")
    add_options(parser)
    return parser


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(KINDS) if text == "all" else tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, or all. Received: {', '.join(unknown)}")
    return kinds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        arguments = make_parser().parse_args(argv)
        check_folder(arguments.out)
        predictor = open_model(arguments.model, **predictor_options(arguments))
        skipped = predict_paths(
            predictor,
            arguments.paths,
            out=arguments.out,
            kinds=arguments.what,
            classes=class_ids(arguments.classes, predictor.class_names, predictor.category_ids),
            every=arguments.every,
            route=arguments.route,
            overwrite=arguments.overwrite,
        )
        if skipped:
            raise SystemExit(2)


if __name__ == "__main__":
    main()
