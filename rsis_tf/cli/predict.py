"""`rsis predict MODEL PATH…`: finds the objects of images and videos."""

import argparse
import pathlib
from collections.abc import Sequence

from rsis_tf.batch_prediction import (
    DEFAULT_KINDS,
    DEFAULT_TRACK_KINDS,
    KINDS,
    TRACK_KINDS,
    Tracking,
    predict_paths,
)
from rsis_tf.cli.predictor_options import add_options, class_ids, positive, predictor_options, whole
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.inference import MODEL_HELP, model_path, open_model
from rsis_tf.outputs import check_folder

_EPILOG = """examples:
  rsis predict runs/leaves/model.onnx photos --out found
      every image in the folder photos and its subfolders
  rsis predict runs/leaves 'plates/**/*.tif' clip.mp4 --what labels,json --every 10
      every TIFF file in plates, and every tenth frame of a video
  rsis predict runs/leaves clip.mp4 --track
      an annotated video and tables in which each object keeps its number

results that --what can name, for each image NAME:
""" + "\n".join(f"  {kind:<10} {text}" for kind, text in KINDS.items())
_EPILOG += """

NAME is the name of the file without its suffix. If two images share it, the results go into subfolders as the images
do; if they share the subfolder too, NAME keeps the suffix. The command then prints one line about it. results.txt lists
the files written. A file that cannot be read, has not the suffix of an image or a video, or on which the model fails,
is reported and left out; the exit code is then 2.

With --track, NAME of a video is its name, and NAME of the images of a folder is that of the first image.
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
    parser.add_argument("--out", type=_folder, default=pathlib.Path("predictions"), metavar="DIR",
                        help="folder for the results (default: predictions)")  # fmt: skip
    parser.add_argument("--what", type=_kinds, metavar="KIND,…",
                        help=f"results to write: all, or some of {','.join(KINDS)} (default: "
                        f"{','.join(DEFAULT_KINDS)}; with --track {','.join(DEFAULT_TRACK_KINDS)})")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true",
                        help="remove the results of an earlier run in --out (only the files listed in its "
                        "results.txt) and replace files of the same names; without this option the command fails if "
                        "there are any")  # fmt: skip
    parser.add_argument("--route", action="store_true", help="draw a line from object to object into the overlays")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME|ID",
                        help="write only objects of this class, given by its name or its number in COCO files; may be "
                        "repeated. The model still finds the other objects: steps keep their numbers")  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="use every N-th frame of a video")
    add = parser.add_argument_group("identities over the frames of videos (docs/video.md)").add_argument
    add("--track", action="store_true",
        help="follow each object through the frames of a video, or through the images of a folder in the order of "
        "their names; label maps, drawings and tables then have its number. Objects that are seen too briefly are "
        "left out")  # fmt: skip
    add("--track-memory", type=whole(0, "a number of frames from 0"), metavar="N",
        help=f"frames for which an object may be hidden or missed (default: {Tracking.memory})")  # fmt: skip
    add("--track-confirm", type=positive, metavar="N",
        help="frames, of its first N + 1, in which a new object must be seen; 1 accepts each at once (default: "
        f"{Tracking.confirm})")  # fmt: skip
    add_options(parser)
    return parser


def _tracking(arguments: argparse.Namespace) -> Tracking | None:
    """Returns how identities are followed, None if they are not."""
    given = {"memory": arguments.track_memory, "confirm": arguments.track_confirm}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not arguments.track:
        raise InputError(f"expected --track. Received: --track-{next(iter(given))} without it")
    return Tracking(**given) if arguments.track else None


def _wanted(kinds: tuple[str, ...] | None, *, track: bool) -> tuple[str, ...]:
    """Returns the kinds to write: the default ones if none are given, and all that are possible for "all"."""
    if kinds is None:
        return DEFAULT_TRACK_KINDS if track else DEFAULT_KINDS
    return tuple(kind for kind in KINDS if track or kind not in TRACK_KINDS) if kinds == ("all",) else kinds


def _folder(text: str) -> pathlib.Path:
    if not text:  # an unset variable of a shell; as a path it would be the current folder
        raise argparse.ArgumentTypeError("expected a folder. Received: ''")
    return pathlib.Path(text)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = ("all",) if text == "all" else tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS and text != "all"]
    if "all" in unknown:
        raise argparse.ArgumentTypeError(f"expected all to stand alone. Received: {text}")
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, or all. Received: {', '.join(unknown)}")
    return kinds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        arguments = make_parser().parse_args(argv)
        check_folder(arguments.out)
        tracking = _tracking(arguments)
        predictor = open_model(arguments.model, **predictor_options(arguments))
        skipped = predict_paths(
            predictor,
            arguments.paths,
            out=arguments.out,
            kinds=_wanted(arguments.what, track=arguments.track),
            classes=class_ids(arguments.classes, predictor.class_names, predictor.category_ids),
            every=arguments.every,
            route=arguments.route,
            overwrite=arguments.overwrite,
            tracking=tracking,
        )
        if skipped:
            raise SystemExit(2)


if __name__ == "__main__":
    main()
