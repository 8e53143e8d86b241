"""Predicts the objects of images: `python -m rsis_tf.cli.predict MODEL PATH…`."""

import argparse
import collections
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from rsis_tf.batch_prediction import video
from rsis_tf.batch_prediction.results import DEFAULT, KINDS, Results
from rsis_tf.batch_prediction.sources import Source, find_sources, naming_note
from rsis_tf.cli.predictor_options import add_options, class_ids, positive, predictor_options
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image
from rsis_tf.inference import MODEL_HELP, open_predictor
from rsis_tf.progress import ProgressLine

_EPILOG = """examples:
  python -m rsis_tf.cli.predict runs/synthetic/model.onnx photos --out found
      every image in photos and the folders in it
  python -m rsis_tf.cli.predict runs/synthetic 'plates/**/*.tif' clip.mp4 --what labels,json --every 10
      every TIFF file in plates, and every tenth frame of a video

What --what can name, for each image NAME:
""" + "\n".join(f"  {kind:<10} {text}" for kind, text in KINDS.items())
_EPILOG += """

NAME is the name of the file without its suffix. If two images share it, results lie in subfolders as the images do; if
they share the subfolder too, NAME keeps the suffix. The command says so once. results.txt lists the files written.
What cannot be read or has no suffix of an image or video is named and left out; the exit code is then 2.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m rsis_tf.cli.predict",
        description="Finds the objects in images, one after the other, and draws them.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image of any size, folder, pattern, or video")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("predictions"), metavar="DIR",
                        help="folder for the results (default: predictions)")  # fmt: skip
    parser.add_argument("--what", type=_kinds, default=DEFAULT, metavar="KIND,…",
                        help=f"results to write: all, or some of {','.join(KINDS)} "
                        f"(default: {','.join(DEFAULT)})")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true",
                        help="remove the results of an earlier run in --out (those that its results.txt lists, "
                        "nothing else) and replace files of the same names; without it, neither is touched and the "
                        "command is refused")  # fmt: skip
    parser.add_argument("--route", action="store_true", help="draw the way from object to object into overlays")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME|ID",
                        help="write objects of this class only, by its name or its number in COCO files; may be "
                        "given several times. The model still finds the others: steps keep their numbers")  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="take every N-th frame of a video")
    add_options(parser)
    return parser.parse_args(argv)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(KINDS) if text == "all" else tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, or all. Received: {', '.join(unknown)}")
    return kinds


class Reader:
    """Reads sources one after the other; reports what cannot be read and goes on.

    Attributes:
        refused: paths that could not be read, or not to their end.
        total: images there are, frames included as far as videos tell.
        waiting: images that were read but not yet predicted.
    """

    def __init__(self, sources: list[Source], *, every: int, line: ProgressLine) -> None:
        self._sources = sources
        self._every = every
        self._line = line
        self.refused: list[pathlib.Path] = []
        self.total = len(sources)
        self.waiting: collections.deque[tuple[Source, np.ndarray]] = collections.deque()

    def __iter__(self) -> Iterator[np.ndarray]:
        for source in self._sources:
            try:
                if source.problem:
                    raise InputError(source.problem)
                for frame, image in self._frames(source) if source.is_video else self._picture(source):
                    self.waiting.append((frame, image))
                    yield image
            except InputError as error:  # the other images are still wanted
                self._line.clear()
                print(f"error: {error}", file=sys.stderr)
                self.refused.append(source.path)

    def _picture(self, source: Source) -> Iterator[tuple[Source, np.ndarray]]:
        yield source, read_image(source.path)

    def _frames(self, source: Source) -> Iterator[tuple[Source, np.ndarray]]:
        self.total += video.count_frames(source.path, every=self._every) - 1
        for number, image in video.read_frames(source.path, every=self._every):
            frame = f"{number:06d}"
            below = f"{source.below}/{frame}"
            yield Source(path=source.path / frame, name=f"{source.name}/{frame}", below=below), image


def main(argv: list[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        sources = find_sources(arguments.paths, out=arguments.out)
        predictor = open_predictor(arguments.model, **predictor_options(arguments))
        numbers = predictor.category_ids
        classes = class_ids(arguments.classes, predictor.class_names, numbers)
        results = Results(
            arguments.out,
            kinds=arguments.what,
            class_names=predictor.class_names,
            category_ids=numbers,
            route=arguments.route,
            overwrite=arguments.overwrite,
        )
        results.check_free([source for source in sources if not source.problem])
        note = naming_note(sources)
        if note:
            print(note, flush=True)
        line = ProgressLine()
        reader = Reader(sources, every=arguments.every, line=line)
        done = 0
        with results:
            for instances in predictor.stream(reader):
                if classes is not None:
                    instances = [instance for instance in instances if instance.class_id in classes]
                source, image = reader.waiting.popleft()
                results.add(source, image, instances)
                done += 1
                found = ", ".join(f"{instance.class_name} {instance.score:.2f}" for instance in instances)
                line.clear()
                print(f"{source.path}: {_counted(len(instances), 'object')}{': ' if found else ''}{found}", flush=True)
                line(done + len(reader.refused), reader.total)
        line.clear()
        if done:
            print(f"{arguments.out}: {', '.join(arguments.what)} of {_counted(done, 'image')}")
        if reader.refused:
            print(f"skipped {_counted(len(reader.refused), 'path')}: {', '.join(map(str, reader.refused))}")
            raise SystemExit(2)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    main()
