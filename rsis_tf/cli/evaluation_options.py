"""What the commands of this folder share: a model file and a dataset from the command line."""

import argparse
import dataclasses
import pathlib

from rsis_tf.cli.data_options import add_coco_options, coco_fields
from rsis_tf.cli.predictor_options import add_options, predictor_options
from rsis_tf.config import DataConfig, RunConfig
from rsis_tf.config.json_file import load
from rsis_tf.data import DATASETS, SPLITS, Subset, load_dataset
from rsis_tf.data.preflight import check_evaluation
from rsis_tf.data.sample import Dataset
from rsis_tf.errors import ArgumentParser, InputError
from rsis_tf.evaluation import masks
from rsis_tf.evaluation.benchmarks import protocols
from rsis_tf.evaluation.runner import Predictor
from rsis_tf.inference import MODEL_HELP, find_model, open_predictor


def parser(description: str, example: str, *, more: str = "") -> ArgumentParser:
    """Returns a parser whose help ends in an example.

    Args:
        description: one sentence.
        example: command lines; the first begins with the command's own name.
        more: said below the example.
    """
    words = example.split()
    command = " ".join(words[:3] if words[1] == "-m" else words[:2])
    return ArgumentParser(prog=command, description=description, epilog=f"example:\n  {example}\n{more}")


def add_model_and_data(
    arguments: argparse.ArgumentParser,
    *,
    dataset: str | None = None,
    stop: str | None = "first",
    optional: bool = False,
) -> None:
    """Adds MODEL (or MODEL that may be left out) and the options that choose images and say how the model runs.

    `dataset` fixes the reader, `stop` is the default of --stop. With `stop=None` the protocol says how a sequence ends
    (`protocols.add_options`).
    """
    arguments.add_argument(
        "model", type=pathlib.Path, metavar="MODEL", nargs="?" if optional else None, help=MODEL_HELP
    )
    if dataset is None:
        arguments.add_argument("--dataset", choices=DATASETS, help="how pictures are stored (default: as in the run)")
    arguments.add_argument("--data", metavar="FOLDER", help="the dataset's folder (default: the run's)")
    if dataset in (None, "coco"):
        add_coco_options(arguments)
    arguments.add_argument("--no-check", dest="check", action="store_false",
                           help="do not read all annotations before the first image")  # fmt: skip
    arguments.add_argument("--split", default="val", choices=SPLITS, help="(default: %(default)s)")
    arguments.add_argument("--limit", type=int, metavar="N", help="use the first N pictures only")
    settings = () if stop else ("stop_threshold", "stop_mode", "mask_threshold")
    add_options(arguments, stop=stop, defaults={name: protocols.defaults(name) for name in settings})
    if dataset is not None:
        arguments.set_defaults(dataset=dataset)


def open_data(arguments: argparse.Namespace) -> Dataset:
    """Opens the dataset asked for, or that of the run the model lies in.

    Raises:
        InputError: if it cannot be read, or there is neither.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit must be at least 1. Received: {arguments.limit}")
    dataset = load_dataset(data_config(arguments), _split(arguments))
    return dataset if arguments.limit is None else Subset(dataset, arguments.limit)


def data_root(arguments: argparse.Namespace) -> str:
    """Returns the dataset's folder: `--data`, or that of the run."""
    return data_config(arguments).root or "."


def open_model(arguments: argparse.Namespace) -> Predictor:
    """Opens the model asked for, in the protocol asked for.

    Raises:
        InputError: if it cannot be used, or a setting of the protocol is out of range.
    """
    protocol = protocols.chosen(arguments)
    options = predictor_options(arguments)
    options |= {name: getattr(protocol, name) for name in ("stop_mode", "stop_threshold", "mask_threshold")}
    return masks.follow(open_predictor(arguments.model, **options), protocol)


def open_both(arguments: argparse.Namespace) -> tuple[Dataset, Predictor]:
    """Opens the dataset and the model, reads all annotations (`--no-check` skips that) and prints what was found.

    Raises:
        InputError: if one of them cannot be used, or an annotation cannot be read.
    """
    dataset, predictor = open_data(arguments), open_model(arguments)
    if arguments.check:
        for line in check_evaluation(_split(arguments), dataset, num_steps=predicted_steps(predictor)):
            print(line, flush=True)
    return dataset, predictor


def predicted_steps(predictor: Predictor) -> int | None:
    """Returns T, the most objects that the model predicts of an image, None if it does not say."""
    model = getattr(predictor, "model", None)
    if model is not None:
        return model.config.num_steps
    stored = getattr(predictor, "metadata", {}).get("num_steps")
    return None if stored is None else int(stored)


def data_config(arguments: argparse.Namespace) -> DataConfig:
    """Returns what the command line says of the data, or the run the model lies in.

    Raises:
        InputError: if neither says anything.
    """
    # A run's own folder, or the run an exported file lies in.
    settings = [folder / "config.json" for folder in (arguments.model, arguments.model.absolute().parent)]
    stored = next((load(RunConfig, path).data for path in settings if path.is_file()), None)
    given = coco_fields(arguments)
    dataset = arguments.dataset or ("coco" if "annotations" in given else None)
    if dataset is not None and (
        stored is None or stored.dataset != dataset or arguments.data or "annotations" in given
    ):
        return DataConfig(dataset=dataset, root=arguments.data, **given)
    if stored is None:
        find_model(arguments.model)  # a path that is wrong is the first thing to say
        raise InputError(f"expected --dataset, or a model in a run's folder. Received: {arguments.model}")
    if arguments.data:
        # Files and parts that the run names are those of its own folder.
        nowhere = {"annotations": None, "val_annotations": None, "images": None, "val_images": None, "val_share": None}
        return dataclasses.replace(stored, **{"root": arguments.data, **nowhere, **given})
    return dataclasses.replace(stored, **given)


def _split(arguments: argparse.Namespace) -> str:
    """Returns the split to read: a file that is named is read whole."""
    fields = coco_fields(arguments)
    return "all" if "annotations" in fields and "val_share" not in fields else arguments.split


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
