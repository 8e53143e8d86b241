"""What the commands of this folder share: a model file and a dataset from the command line, and progress."""

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

from rsis_tf.config import DataConfig, RunConfig, load
from rsis_tf.data import DATASETS, SPLITS, Subset, load_dataset
from rsis_tf.data.sample import Dataset
from rsis_tf.engine import quiet_start
from rsis_tf.errors import InputError
from rsis_tf.evaluation.runner import Predictor
from rsis_tf.predictor import open_predictor


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """Returns a parser whose help ends in an example."""
    return argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_model_and_data(
    arguments: argparse.ArgumentParser, *, dataset: str | None = None, stop: str = "first", optional: bool = False
) -> None:
    """Adds MODEL (or MODEL that may be left out) and the options that choose pictures; `dataset` fixes the reader."""
    arguments.add_argument(
        "model", metavar="MODEL", nargs="?" if optional else None, help="a run's folder or a model file (.keras, .onnx)"
    )
    if dataset is None:
        arguments.add_argument("--dataset", choices=DATASETS, help="how pictures are stored (default: as in the run)")
    arguments.add_argument("--data", metavar="FOLDER", help="the dataset's folder (default: the run's)")
    arguments.add_argument("--split", default="val", choices=SPLITS, help="(default: %(default)s)")
    arguments.add_argument("--limit", type=int, metavar="N", help="use the first N pictures only")
    arguments.add_argument(
        "--stop",
        default=stop,
        choices=("first", "each"),
        help="first: the sequence ends at the first step without an object, as in the paper; "
        "each: every step is judged alone, as in the original's evaluation (default: %(default)s)",
    )
    if dataset is not None:
        arguments.set_defaults(dataset=dataset)


def open_data(arguments: argparse.Namespace) -> Dataset:
    """Opens the dataset asked for, or that of the run the model lies in.

    Raises:
        InputError: if it cannot be read, or there is neither.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit must be at least 1. Received: {arguments.limit}")
    dataset = load_dataset(_data_config(arguments), arguments.split)
    return dataset if arguments.limit is None else Subset(dataset, arguments.limit)


def data_root(arguments: argparse.Namespace) -> str:
    """Returns the dataset's folder: `--data`, or that of the run."""
    return _data_config(arguments).root or "."


def open_model(arguments: argparse.Namespace) -> Predictor:
    """Opens the model asked for.

    Raises:
        InputError: if it cannot be used.
    """
    quiet_start()
    return open_predictor(arguments.model, stop_mode=arguments.stop)


def _data_config(arguments: argparse.Namespace) -> DataConfig:
    folder = pathlib.Path(arguments.model)
    folder = folder if folder.is_dir() else folder.parent
    stored = load(RunConfig, folder / "config.json").data if (folder / "config.json").is_file() else None
    if arguments.dataset is not None and (stored is None or stored.dataset != arguments.dataset or arguments.data):
        return DataConfig(dataset=arguments.dataset, root=arguments.data)
    if stored is None:
        raise InputError(f"expected --dataset, or a model in a run's folder. Received: {arguments.model}")
    return dataclasses.replace(stored, root=arguments.data) if arguments.data else stored


def output_folder(path: str | pathlib.Path) -> pathlib.Path:
    """Makes the folder for results.

    Raises:
        InputError: if a file stands in its place or it cannot be made.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected a folder that can be written to. Received: {path} ({error.strerror})") from None
    return path


def progress_line() -> Callable[[int, int], None]:
    """Returns a callback that keeps one line with count, rate and time left on a terminal; elsewhere it is silent."""
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            rate = done / max(time.monotonic() - start, 1e-9)
            left = (total - done) / rate
            end = "\n" if done == total else ""
            print(f"\r{done}/{total} pictures, {rate:.1f}/s, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)

    return show
