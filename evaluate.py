"""Scores a model on a dataset: arguments → predictor and pictures → table and JSON."""

import argparse
import dataclasses
import pathlib
import sys
import time

from rsis_tf import config
from rsis_tf.data import DATASETS, SPLITS, load_dataset
from rsis_tf.engine import quiet_start
from rsis_tf.errors import ArgumentParser, InputError, command_line

_EPILOG = """examples:
  python evaluate.py runs/synthetic
      the run's best model on its own validation set
  python evaluate.py model.onnx --dataset coco --data photos --split test
      an exported model on other pictures
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description="Scores a model: average precision, best Dice and counting errors.",
        epilog=_EPILOG,
    )
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help="a run's folder, a .keras or an .onnx file")
    parser.add_argument("--dataset", choices=DATASETS, help="how the pictures are stored (default: as in the run)")
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder (default: the run's)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="(default: val)")
    parser.add_argument("--stop", choices=("first", "each"), default="first",
                        help="first: a sequence ends at the first step without an object, as in the paper; "
                        "each: every step is judged alone, as in the original code")  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE",
                        help="JSON file for the scores (default: metrics.json in the run's folder, else none)")  # fmt: skip
    return parser.parse_args(argv)


def data_config(arguments: argparse.Namespace) -> config.DataConfig:
    """Returns the run's data settings with what the command line changes in them."""
    folder = arguments.model if arguments.model.is_dir() else arguments.model.parent
    if arguments.dataset is not None:
        return config.DataConfig(dataset=arguments.dataset, root=arguments.data)
    if not (folder / "config.json").is_file():
        raise InputError(f"expected --dataset, or a model in a run's folder. Received: {arguments.model}")
    stored = config.load(config.RunConfig, folder / "config.json").data
    return dataclasses.replace(stored, root=arguments.data) if arguments.data else stored


def show_progress(started: float, done: int, total: int) -> None:
    """Draws one moving line on a terminal."""
    if sys.stderr.isatty():
        left = (time.monotonic() - started) / done * (total - done)
        end = "\r\033[K" if done == total else ""
        print(f"\r\033[K{done}/{total} pictures, {left:.0f} s left", end=end, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        data = data_config(arguments)
        if arguments.out is not None and not arguments.out.parent.is_dir():
            raise InputError(f"expected a file in a folder that is there. Received: --out {arguments.out}")
        dataset = load_dataset(data, arguments.split)
        quiet_start()
        from rsis_tf.evaluation import runner
        from rsis_tf.predictor import open_predictor

        predictor = open_predictor(arguments.model, stop_mode=arguments.stop)
        started = time.monotonic()
        scores = runner.evaluate(predictor, dataset, progress=lambda *count: show_progress(started, *count))
        print(runner.table(scores))
        out = arguments.out or (arguments.model / "metrics.json" if arguments.model.is_dir() else None)
        if out is not None:
            runner.write_json(out, {"split": arguments.split, "stop": arguments.stop, **scores.to_dict()})
            print(f"\n{out}")


if __name__ == "__main__":
    main()
