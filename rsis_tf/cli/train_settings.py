"""The settings that the options of `rsis train` make."""

import argparse
import os
import pathlib
from typing import Any

from rsis_tf import config
from rsis_tf.cli.data_options import FILE_FIELDS, PATH_FIELDS, SIZE_FIELDS
from rsis_tf.cli.train_options import FLAGS
from rsis_tf.config import json_file
from rsis_tf.config.presets import preset
from rsis_tf.data import DATASETS
from rsis_tf.errors import InputError
from rsis_tf.run import SETTINGS, resumed_settings

NOT_SETTINGS = (
    "preset",
    "config",
    "out",
    "resume",
    "print_config",
    "check",
    "accept_changed_data",
    "max_hours",
    "threads",
    "callback",
)
"""Names in the parsed arguments that are no settings."""

_RANGES = ("rotation", "translation", "shear", "zoom", "border")


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that the command line names."""
    return {name: value for name, value in vars(arguments).items() if value is not None and name not in NOT_SETTINGS}


def starting_settings(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the settings that the options change: those of `--config`, or a preset.

    Raises:
        InputError: if both are given, the file cannot be read, or a preset cannot be chosen.
    """
    if arguments.config is not None:
        if arguments.preset is not None:
            raise InputError(f"--config and --preset exclude each other. Received: --preset {arguments.preset}")
        return stored_settings(arguments.config)
    located = [name for name in ("root", "annotations", "val_annotations") if getattr(arguments, name) is not None]
    if arguments.preset is None and arguments.dataset is None and located:
        option = _flag(located[0])
        raise InputError(
            f"expected --dataset with {option}, one of {', '.join(DATASETS)}. "
            f"Received: {option} {getattr(arguments, located[0])}"
        )
    return preset(arguments.preset, dataset=arguments.dataset or (None if located else "leaves"))


def stored_settings(path: pathlib.Path) -> config.RunConfig:
    """Returns the settings of an earlier run, without what its dataset and its training decided.

    Args:
        path: `config.json`, or the folder of a run.
    """
    settings = json_file.load(config.RunConfig, path / SETTINGS if os.path.isdir(path) else path)
    decided: dict[str, Any] = {"class_names": (), "category_ids": ()}
    if settings.train.calibrate_objectness:
        decided["stop_threshold"] = config.ModelConfig.stop_threshold
    return settings.changed(**decided)


def configure(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the settings of a new run; class names come from the dataset later.

    Raises:
        InputError: for options out of range, or that do not work together.
    """
    if arguments.accept_changed_data is not None:
        raise InputError("--accept-changed-data needs --resume. Received: no --resume")
    start = starting_settings(arguments)
    given = given_settings(arguments)
    given = implied(given, start) | given
    if "stop_threshold" in given:
        given["calibrate_objectness"] = given["stop_threshold"] == "auto"
        if given["calibrate_objectness"]:
            given["stop_threshold"] = config.ModelConfig.stop_threshold
    settings = start.changed(**given)
    if arguments.found_by_votes and not settings.data.partial_sequences:
        raise InputError(
            "--found-by-votes is for partial sequences (--partial-sequences, --mask-head voting). "
            f"Received: --found-by-votes {arguments.found_by_votes} without them"
        )
    optimization, initial = settings.train.optimization, settings.train.start
    if arguments.momentum is not None and "sgd" not in (optimization.optimizer, optimization.encoder_optimizer):
        raise InputError(
            "--momentum needs --optimizer sgd or --encoder-optimizer sgd. "
            f"Received: --momentum {arguments.momentum} with --optimizer {optimization.optimizer}"
        )
    if initial.transfer and initial.encoder_weights != "none":
        raise InputError(
            f"--transfer includes the encoder's weights. Received: --encoder-weights {initial.encoder_weights}"
        )
    if settings.train.strategy == "multi_worker" and arguments.out is None:
        raise InputError("--strategy multi_worker needs --out, a folder that all workers reach. Received: no --out")
    return settings


def implied(given: dict[str, Any], start: config.RunConfig) -> dict[str, Any]:
    """Returns the settings that given options change besides their own, unless they are given too.

    - A range switches augmentation on. Another `--augmentation` replaces the ranges of the preset.
    - `--crop` keeps the shape of training images, so prediction keeps it too (`aspect`).
    - Another folder replaces the annotation files of a stored run; a generated dataset has none. The numbers of images
      to use belong to the folder or dataset that they were given for.
    - A mask head that does not support partial sequences or class features gets none. Only partial sequences can be cut
      short: others would never show how a sequence ends.
    - An encoder without weights keeps none; others keep the preset's choice. An encoder that starts from random weights
      learns with the rate and optimiser of the rest, from the first epoch, and with the batch's statistics, because it
      has none of its own.

    Args:
        given: settings of the command line.
        start: the settings that they change.
    """
    follows: dict[str, Any] = {}
    if given.keys() & {"augmentation", *_RANGES}:
        follows["augment"] = True
    if "augmentation" in given:
        follows |= dict.fromkeys(_RANGES)
    if given.get("crop"):
        follows["aspect"] = "keep"
    dataset = given.get("dataset", start.data.dataset)
    generated = dataset in DATASETS and not DATASETS[dataset].in_folder
    if "root" in given or generated:
        follows |= dict.fromkeys(FILE_FIELDS)
    if generated:
        follows["root"] = None
    other = dataset != start.data.dataset
    if other or ("root" in given and not generated):
        follows |= dict.fromkeys(SIZE_FIELDS)
    if other:
        follows["crowds"] = config.DataConfig.crowds
    head = config.MASK_HEADS[given.get("mask_head", start.model.mask_head)]
    if not head.partial_sequences:
        follows["partial_sequences"] = 0.0
    if start.model.class_features not in head.class_features:
        follows["class_features"] = head.class_features[0]
    partial = {"partial_sequences": start.data.partial_sequences, **follows, **given}["partial_sequences"]
    if start.data.partial_sequences and not partial:
        follows["sequence_length"] = None
    return follows | _encoder_follows(given, start)


def _encoder_follows(given: dict[str, Any], start: config.RunConfig) -> dict[str, Any]:
    """Returns the settings of the encoder that follow from its weights."""
    follows: dict[str, Any] = {}
    optimization = start.train.optimization
    if "transfer" in given or given.get("encoder") in config.UNTRAINED_ENCODERS:
        follows["encoder_weights"] = "none"
    weights = {"encoder_weights": start.train.start.encoder_weights, **follows, **given}["encoder_weights"]
    if weights != "none" or "transfer" in given or start.train.start.transfer:
        return follows
    one_rate = optimization.encoder_learning_rate == optimization.learning_rate
    chosen = bool(given.keys() & {"encoder", "encoder_weights"})
    if chosen or ("learning_rate" in given and one_rate):
        follows["encoder_learning_rate"] = given.get("learning_rate", optimization.learning_rate)
    if chosen:
        follows |= {"encoder_batch_norm": "train", "encoder_optimizer": None, "finetune_after": 0}
    return follows


_WHERE_DATA_LIES = ("root", *PATH_FIELDS)
"""Settings that a resumed run may change: its data may have moved, and its record says whether they are the same."""


def resumed(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the settings of the run to resume, with another number of epochs or other paths of its data if asked for.

    Raises:
        InputError: for options that are other settings.
    """
    given = given_settings(arguments)
    others = [name for name in given if name not in ("epochs", *_WHERE_DATA_LIES)]
    others += [name for name in ("preset", "config", "out") if getattr(arguments, name) is not None]
    if others:
        options = ", ".join(sorted(_flag(name) for name in others))
        raise InputError(
            f"--resume continues with the settings of the run. Received: {options} with --resume {arguments.resume}"
        )
    moved = {name: given[name] for name in _WHERE_DATA_LIES if name in given}
    return resumed_settings(arguments.resume, epochs=arguments.epochs).changed(**moved)


def _flag(name: str) -> str:
    return FLAGS.get(name, f"--{name.replace('_', '-')}")
