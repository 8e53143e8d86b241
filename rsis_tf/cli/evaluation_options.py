"""The options that the evaluation commands share: a model file and a dataset."""

import argparse
import dataclasses
from collections.abc import Collection

from rsis_tf.cli.data_options import FILE_FIELDS, SIZE_FIELDS, add_coco_options, coco_fields
from rsis_tf.cli.predictor_options import add_options, predictor_options
from rsis_tf.cli.protocol_options import describe_defaults
from rsis_tf.config import DataConfig, RunConfig
from rsis_tf.config.data import dataset_name
from rsis_tf.config.json_file import load
from rsis_tf.config.presets import PRESETS
from rsis_tf.data import DATASETS, SPLITS, Subset, load_dataset
from rsis_tf.data.preflight import check_evaluation
from rsis_tf.data.sample import Dataset
from rsis_tf.errors import ArgumentParser, InputError
from rsis_tf.evaluation.predictions import Predictor
from rsis_tf.evaluation.protocol_masks import follow
from rsis_tf.evaluation.protocols import Protocol
from rsis_tf.inference import MODEL_HELP, find_model, model_path, open_predictor


def new_parser(name: str, description: str, examples: str, *, more: str = "") -> ArgumentParser:
    """Returns a parser whose help ends with examples.

    Args:
        name: name of the command, as in `rsis NAME`.
        description: one sentence.
        examples: command lines, each possibly followed by an explanation.
        more: text below the examples.
    """
    return ArgumentParser(prog=f"rsis {name}", description=description, epilog=f"examples:\n  {examples}\n{more}")


def add_model_and_data(
    parser: argparse.ArgumentParser,
    *,
    dataset: str | None = None,
    stop: str | None = "first",
    optional: bool = False,
    tiles: bool = True,
) -> None:
    """Adds MODEL and the options that choose images and say how the model runs.

    Args:
        parser: the command's parser.
        dataset: name of the only dataset that the command reads; None to add `--dataset`.
        stop: default of `--stop`; None if the protocol decides (`add_protocol_options`).
        optional: whether MODEL may be left out.
        tiles: whether to add `--tile`.
    """
    parser.add_argument("model", type=model_path, metavar="MODEL", nargs="?" if optional else None, help=MODEL_HELP)
    if dataset is None:
        parser.add_argument("--dataset", type=dataset_name, choices=tuple(DATASETS),
                            help="format of the dataset (default: as in the run)")  # fmt: skip
    parser.add_argument("--data", metavar="FOLDER", help="the dataset's folder (default: the run's)")
    if dataset in (None, "coco"):
        add_coco_options(parser)
    parser.add_argument(
        "--no-check", dest="check", action="store_false", help="do not read all annotations before the first image"
    )
    parser.add_argument("--split", default="val", choices=SPLITS, help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N images")
    settings = () if stop else ("stop_threshold", "stop_mode", "mask_threshold")
    add_options(parser, stop=stop, defaults={name: describe_defaults(name) for name in settings}, tiles=tiles)
    if dataset is not None:
        parser.set_defaults(dataset=dataset)


def open_data(arguments: argparse.Namespace, class_names: Collection[str] = ()) -> Dataset:
    """Opens the dataset that the arguments name, or that of the run that contains the model.

    Args:
        arguments: arguments of the command line.
        class_names: see `rsis_tf.data.load_dataset`.

    Raises:
        InputError: if there is neither, or it cannot be read.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit must be at least 1. Received: {arguments.limit}")
    dataset = load_dataset(data_config(arguments), read_split(arguments), class_names=class_names)
    return dataset if arguments.limit is None else Subset(dataset, arguments.limit)


def open_following(arguments: argparse.Namespace, protocol: Protocol) -> Predictor:
    """Opens the model that the arguments name, as a predictor that follows a protocol.

    Args:
        arguments: arguments of the command line.
        protocol: the one they choose, from `rsis_tf.cli.protocol_options.chosen_protocol`.

    Raises:
        InputError: if it cannot be used.
    """
    options = predictor_options(arguments)
    options |= {name: getattr(protocol, name) for name in ("stop_mode", "stop_threshold", "mask_threshold")}
    return follow(open_predictor(arguments.model, **options), protocol)


def open_both(arguments: argparse.Namespace, protocol: Protocol) -> tuple[Dataset, Predictor]:
    """Opens the dataset and the model, checks all annotations unless `--no-check` is given, and prints what it found.

    Args:
        arguments: arguments of the command line.
        protocol: what the predictor follows.

    Raises:
        InputError: if one of them cannot be used, or an annotation cannot be read.
    """
    dataset, predictor = open_data(arguments), open_following(arguments, protocol)
    classes = tuple(predictor.class_names)[1:]
    if not set(classes).isdisjoint(getattr(dataset, "dropped_categories", ())):
        dataset = open_data(arguments, classes)
    if arguments.check:
        for line in check_evaluation(read_split(arguments), dataset, num_steps=predicted_steps(predictor)):
            print(line, flush=True)
    return dataset, predictor


def predicted_steps(predictor: Predictor) -> int | None:
    """Returns T, the most objects that the model predicts in an image; None if unknown or, with tiles, unlimited."""
    if getattr(predictor, "tile", None) is not None:
        return None
    asked = getattr(predictor, "steps", None)
    if asked is not None:
        return int(asked)
    model = getattr(predictor, "model", None)
    if model is not None:
        return model.config.num_steps
    stored = getattr(predictor, "metadata", {}).get("num_steps")
    return None if stored is None else int(stored)


def data_config(arguments: argparse.Namespace) -> DataConfig:
    """Returns the dataset's settings from the arguments, or from the run that contains the model.

    Raises:
        InputError: if neither names a dataset.
    """
    # MODEL is a run's folder, or an exported file inside one.
    settings = [folder / "config.json" for folder in (arguments.model, arguments.model.absolute().parent)]
    stored = next((load(RunConfig, path).data for path in settings if path.is_file()), None)
    given = coco_fields(arguments)
    dataset = arguments.dataset or ("coco" if "annotations" in given else None)
    if dataset is not None and (
        stored is None or stored.dataset != dataset or arguments.data or "annotations" in given
    ):
        if not DATASETS[dataset].in_folder:
            usual = PRESETS[dataset]().data
            given |= {"image_size": usual.image_size, "max_objects": usual.max_objects}
        return DataConfig(dataset=dataset, root=arguments.data, **given)
    if stored is None:
        find_model(arguments.model)  # if the path is wrong, report that first
        raise InputError(f"expected --dataset, or a model in a run's folder. Received: {arguments.model}")
    if arguments.data:
        # Files, shares and numbers of images in the run's settings belong to the run's own dataset.
        unset = dict.fromkeys((*FILE_FIELDS, *SIZE_FIELDS))
        return dataclasses.replace(stored, **{"root": arguments.data, **unset, **given})
    return dataclasses.replace(stored, **given)


def data_root(arguments: argparse.Namespace) -> str:
    """Returns the dataset's folder: `--data`, or that of the run."""
    return data_config(arguments).root or "."


def read_split(arguments: argparse.Namespace) -> str:
    """Returns the split to read: "all" if `--annotations` names a file that has no split."""
    fields = coco_fields(arguments)
    return "all" if "annotations" in fields and "val_share" not in fields else arguments.split
