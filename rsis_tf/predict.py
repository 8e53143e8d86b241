"""Predicts the objects of pictures: `python -m rsis_tf.predict MODEL PATH…`."""

import argparse
import collections
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image
from rsis_tf.prediction import video
from rsis_tf.prediction.results import DEFAULT, KINDS, Results
from rsis_tf.prediction.sources import Source, find_sources
from rsis_tf.predictor import MODEL_HELP, open_predictor
from rsis_tf.progress import ProgressLine

_EPILOG = """examples:
  python -m rsis_tf.predict runs/synthetic/model.onnx photos --out found
      every picture in photos and the folders in it
  python -m rsis_tf.predict runs/synthetic 'plates/**/*.tif' clip.mp4 --what labels,json --every 10
      every TIFF file in plates, and every tenth frame of a video

What --what can name, for each picture NAME:
""" + "\n".join(f"  {kind:<10} {text}" for kind, text in KINDS.items())
_EPILOG += """

NAME is the name of the file without its suffix. If two pictures share it, results lie in subfolders as the pictures do.
What cannot be read is reported and left out; the exit code is then 2.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m rsis_tf.predict",
        description="Finds the objects in pictures, one after the other, and draws them.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture of any size, folder, pattern, or video")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("predictions"), metavar="DIR",
                        help="folder for the results (default: predictions)")  # fmt: skip
    parser.add_argument("--what", type=_kinds, default=DEFAULT, metavar="KIND,…",
                        help=f"results to write: all, or some of {','.join(KINDS)} "
                        f"(default: {','.join(DEFAULT)})")  # fmt: skip
    parser.add_argument("--route", action="store_true", help="draw the way from object to object into overlays")
    parser.add_argument("--stop-threshold", type=float, metavar="P",
                        help="probability from which there is an object (default: the model's own)")  # fmt: skip
    parser.add_argument("--stop", choices=("first", "each"), default="first",
                        help="first: the sequence ends at the first step without an object; each: every step is "
                        "judged alone (default: first)")  # fmt: skip
    parser.add_argument("--batch-size", type=_positive, metavar="B",
                        help="pictures in one run of the model (default: as the file wants it, else 8)")  # fmt: skip
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="take every N-th frame of a video")
    return parser.parse_args(argv)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(KINDS) if text == "all" else tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, or all. Received: {', '.join(unknown)}")
    return kinds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1. Received: {text}")
    return int(text)


class Reader:
    """Reads sources one after the other; reports what cannot be read and goes on.

    Attributes:
        refused: sources that could not be read, or not to their end.
        total: pictures there are, frames included as far as videos tell.
        waiting: pictures that were read but not yet predicted.
    """

    def __init__(self, sources: list[Source], *, every: int, line: ProgressLine) -> None:
        self._sources = sources
        self._every = every
        self._line = line
        self.refused = 0
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
            except InputError as error:  # the other pictures are still wanted
                self._line.clear()
                print(f"error: {error}", file=sys.stderr)
                self.refused += 1

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
        predictor = open_predictor(
            arguments.model,
            stop_mode=arguments.stop,
            stop_threshold=arguments.stop_threshold,
            batch_size=arguments.batch_size,
        )
        results = Results(arguments.out, kinds=arguments.what, class_names=predictor.class_names, route=arguments.route)
        _keep_pictures(sources, results)
        line = ProgressLine()
        reader = Reader(sources, every=arguments.every, line=line)
        done = 0
        with results:
            for instances in predictor.stream(reader):
                source, image = reader.waiting.popleft()
                results.add(source, image, instances)
                done += 1
                found = ", ".join(f"{instance.class_name} {instance.score:.2f}" for instance in instances)
                line.clear()
                print(f"{source.path}: {_counted(len(instances), 'object')}{': ' if found else ''}{found}", flush=True)
                line(done + reader.refused, reader.total)
        line.clear()
        if done:
            print(f"{arguments.out}: {', '.join(arguments.what)} of {_counted(done, 'picture')}")
        if reader.refused:
            print(f"{_counted(reader.refused, 'path')} could not be read")
            raise SystemExit(2)


def _keep_pictures(sources: list[Source], results: Results) -> None:
    """Makes sure that no result takes the place of a picture asked for."""
    pictures = {source.path.resolve() for source in sources}
    for source in sources:
        for path in results.paths(source.name).values():
            if path.resolve() in pictures:
                raise InputError(f"expected --out to be a folder in which no picture is overwritten. Received: {path}")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    main()
