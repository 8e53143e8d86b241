"""The options of `train.py`, and the settings that they make."""

import argparse
import dataclasses
import os
import pathlib
from typing import Any

from rsis_tf import config
from rsis_tf.cli.data_options import add_coco_options
from rsis_tf.config import json_file as config_file
from rsis_tf.config.presets import PRESETS, preset
from rsis_tf.data import DATASETS
from rsis_tf.errors import ArgumentParser, InputError

_EPILOG = """examples:
  python train.py
      scenes made by the project, a few minutes on a CPU
  python train.py --dataset coco --data photos --image-size 320 --epochs 100
      an export of Roboflow, CVAT, Label Studio, labelme … as it is (docs/datasets.md)
  python train.py --dataset coco --data export --val-share 0.2
      the same without a validation split
  python train.py --preset cvppp --data CVPPP/A1
      the paper's schedule, from ImageNet weights
  python train.py --resume runs/synthetic
      goes on where a run was interrupted, by whatever means

The run's folder receives config.json, log.csv, stages.json, curves.png, sequences.png, metrics.json, samples/,
best.keras, last.keras and state/, from which --resume goes on. Epochs are counted from 0 in options, from 1 on the
screen.

--strategy mirrored divides every batch over the devices of this machine, multi_worker over those of several: the same
command is started on each, with its own TF_CONFIG and with --out (or --resume) a folder that all of them reach and only
the first one writes. --batch-size is that of all replicas together, and the losses are those of one device.
"""
_RANGES = ("rotation", "translation", "shear", "zoom", "border")
"""Options that change single ranges of the augmentation."""

_FLAG = {"action": argparse.BooleanOptionalAction, "default": None}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description="Trains a recurrent instance segmentation model.",
        epilog=_EPILOG,
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="settings to start from (default: synthetic without --data, else custom; paper is the paper's decoder "
        "with either)",
    )
    run.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder of the run (default: a new one in runs/)")
    run.add_argument("--resume", type=pathlib.Path, metavar="RUN",
                     help="go on with an interrupted run, with its own settings; --epochs may be added if the learning "
                     "rate is constant")  # fmt: skip
    run.add_argument("--transfer", metavar="RUN",
                     help="start from the weights of a run or model; other classes get a new class layer")  # fmt: skip
    run.add_argument("--seed", type=int, metavar="S", help="of weights, order, augmentation and scenes")
    run.add_argument("--tensorboard", **_FLAG, help="curves and sequences for TensorBoard, in RUN/tensorboard")
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", choices=DATASETS, help="how the pictures are stored (default: synthetic)")
    data.add_argument("--data", metavar="DIR", help="the dataset's folder")
    add_coco_options(data, training=True)
    data.add_argument("--no-check", dest="check", action="store_false", default=None,
                      help="do not read all annotations and image headers before the training (the result is kept, so "
                      "that the same files are checked once)")  # fmt: skip
    data.add_argument("--image-size", type=_size, metavar="S|HxW", help="images are resized to this size")
    data.add_argument("--aspect", choices=config.ASPECTS,
                      help="images of another shape than --image-size: scale each axis by itself (stretch), or keep "
                      "the shape and pad with black (keep), in training, evaluation, prediction and every exported "
                      "file (default: stretch, or keep with --crop)")  # fmt: skip
    data.add_argument("--crop", **_FLAG,
                      help="training images keep their shape, are scaled until they cover --image-size, and a random "
                      "part is taken; everything else sees whole images")  # fmt: skip
    data.add_argument("--draft", **_FLAG,
                      help="decode JPEG files at 1/2, 1/4 or 1/8 of their size for training, where that is no smaller "
                      "than the network needs (default: yes in the presets for datasets with JPEG files)")  # fmt: skip
    data.add_argument("--cache", metavar="memory|DIR",
                      help="keep samples at the size that training needs, in memory or in a folder that later runs "
                      "share; changed files or settings get new entries, and old ones are not removed "
                      "(default: no cache)")  # fmt: skip
    data.add_argument("--gt-maxseqlen", type=int, metavar="N", help="objects kept of a picture, the largest ones")
    data.add_argument("--batch-size", type=int, metavar="B")
    data.add_argument("--augment", **_FLAG, help="flip, rotate, shift, shear, zoom")
    data.add_argument("--augmentation", choices=config.AUGMENTATIONS,
                      help="its ranges: those of the paper, or quarter turns and colours too (strong)")  # fmt: skip
    data.add_argument("--rotation", type=float, metavar="DEG", help="largest angle, either way (paper: 10)")
    data.add_argument("--translation", type=float, metavar="SHARE",
                      help="largest shift as a share of height and width, either way (paper: 0.1)")  # fmt: skip
    data.add_argument("--shear", type=float, metavar="DEG",
                      help="largest shear angle, either way (paper: 0.1 radians, 5.7 degrees; its code: 0.1 "
                      "degrees)")  # fmt: skip
    data.add_argument("--zoom", type=float, nargs=2, metavar=("LOW", "HIGH"),
                      help="side of the part shown, as a share of the image's; below 1 enlarges the objects, 1 1 is "
                      "none (paper: 0.7 1; presets: voc 0.7 1.4, cityscapes 1 1, cvppp 0.7 1)")  # fmt: skip
    data.add_argument("--border", choices=config.BORDERS,
                      help="what lies outside of a warped image: black background, or its outermost pixels and their "
                      "labels as in the original (default: black; replicate in voc, cityscapes, cvppp)")  # fmt: skip
    data.add_argument("--begin-anywhere", type=float, metavar="P",
                      help="share of training sequences that begin with some objects found (voting only)")  # fmt: skip
    data.add_argument("--train-size", type=int, metavar="P", help="pictures of the training set (default: all)")
    data.add_argument("--val-size", type=int, metavar="P", help="pictures of the validation set (default: all)")
    model = parser.add_argument_group("model")
    model.add_argument("--encoder", choices=config.ENCODERS)
    model.add_argument("--encoder-weights", metavar="W",
                       help="what the encoder starts from: imagenet (downloaded once), a file (torchvision .pth, Keras "
                       ".h5) or none, and then it learns as fast as the rest (default: imagenet but for synthetic and "
                       "the encoder compact, which has no weights)")  # fmt: skip
    model.add_argument("--hidden-size", type=int, metavar="D", help="channels of the deepest ConvLSTM")
    model.add_argument("--min-channels", type=int, metavar="C", help="no stage has fewer channels (paper: 0)")
    model.add_argument("--neck-channels", type=int, metavar="C",
                       help="channels of a top-down path over the encoder's levels (paper: 0, none)")  # fmt: skip
    model.add_argument("--mask-head", choices=sorted(config.MASK_HEADS),
                       help="draw a mask from the last hidden map (convolution, as in the paper), or point at an "
                       "object and let pixels vote (voting)")  # fmt: skip
    model.add_argument("--class-features", choices=config.CLASS_FEATURES,
                       help="tell classes by the maxima of hidden maps (pooled, as in the paper), or also by what lies "
                       "under the mask (mask, for voting)")  # fmt: skip
    model.add_argument("--skip-mode", choices=config.SKIP_MODES)
    model.add_argument("--kernel-size", type=int, choices=(1, 3))
    model.add_argument("--decoder-stages", type=int, choices=(1, 2, 3, 4, 5), help="ConvLSTM stages kept (paper: 5)")
    model.add_argument("--dropout", type=float, metavar="P", help="share of hidden channels dropped")
    model.add_argument("--dropout-class", type=float, metavar="P", help="the same before the class layer")
    model.add_argument("--dropout-stop", type=float, metavar="P", help="the same before the stop layer")
    train = parser.add_argument_group("training")
    train.add_argument("--maxseqlen", type=int, metavar="T", help="objects predicted of a picture")
    train.add_argument("--train-steps", type=int, metavar="S",
                       help="cut training sequences to so many steps; for those that begin anywhere")  # fmt: skip
    train.add_argument("--epochs", type=int)
    train.add_argument("--learning-rate", type=float, metavar="R", help="of decoder and skip projections")
    train.add_argument("--encoder-learning-rate", type=float, metavar="R")
    train.add_argument("--weight-decay", type=float, metavar="L", help="L2 penalty, part of the gradient as in PyTorch")
    train.add_argument("--encoder-weight-decay", type=float, metavar="L",
                       help="the same for the encoder (default: as --weight-decay; the paper's presets keep "
                       "1e-6)")  # fmt: skip
    train.add_argument("--optimizer", choices=config.OPTIMIZERS,
                       help="each as PyTorch computes it, and each with learning rates of its own (paper: "
                       "adam)")  # fmt: skip
    train.add_argument("--encoder-optimizer", choices=config.OPTIMIZERS,
                       help="the same for the encoder (default: as --optimizer; the paper's presets keep "
                       "adam)")  # fmt: skip
    train.add_argument("--momentum", type=float, metavar="M", help="of sgd (default: 0.9)")
    train.add_argument("--schedule", choices=("constant", "cosine"),
                       help="of the learning rates; cosine warms up and falls to 1 %% by the end, for an encoder that "
                       "starts late too")  # fmt: skip
    train.add_argument("--clip-norm", type=float, metavar="G", help="largest norm of each part's gradients")
    train.add_argument("--ema", type=float, metavar="M",
                       help="validate and keep an average of the weights with this decay, such as 0.999")  # fmt: skip
    train.add_argument("--stop-threshold", type=_threshold, metavar="P|auto",
                       help="objectness from which a step counts as an object (paper: 0.5); auto chooses at the end "
                       "the one that counts the training pictures best")  # fmt: skip
    train.add_argument("--precision", choices=config.PRECISIONS, help="of the computation; weights stay float32")
    train.add_argument("--strategy", choices=config.STRATEGIES, help="devices that share every batch (TensorFlow only)")
    train.add_argument("--encoder-batch-norm", choices=("train", "frozen"),
                       help="follow the batch's statistics or keep the stored ones")  # fmt: skip
    train.add_argument("--mask-weight", type=float, metavar="W", help="of the mask loss (soft IoU) in the sum")
    train.add_argument("--class-weight", type=float, metavar="W", help="of the class loss in the sum")
    train.add_argument("--stop-weight", type=float, metavar="W", help="of the stop loss in the sum")
    train.add_argument("--stop-balance", type=float, metavar="B",
                       help="in the stop loss, steps with an object weigh 1 - B, the step after the last object weighs "
                       "B (paper: 0.5)")  # fmt: skip
    train.add_argument("--voting-weight", type=float, metavar="W", help="of the loss of votes in the sum")
    train.add_argument("--pointing-weight", type=float, metavar="W", help="of the loss of pointing in the sum")
    train.add_argument(
        "--mask-cross-entropy", type=float, metavar="W", help="of cross-entropy beside soft IoU (paper: 0)"
    )
    stages = parser.add_argument_group("stages", "what is learnt from when on; patience may begin a stage early")
    stages.add_argument("--class-loss-after", type=int, metavar="E", help="first epoch of the class loss, -1 = never")
    stages.add_argument("--stop-loss-after", type=int, metavar="E", help="first epoch of the stop loss, -1 = never")
    stages.add_argument("--finetune-after", type=int, metavar="E",
                        help="first epoch that updates the encoder, -1 = never")  # fmt: skip
    stages.add_argument("--patience", type=int, metavar="E",
                        help="after more than so many epochs without a better validation loss, the next stage begins: "
                        "class loss, one step more, encoder, stop loss")  # fmt: skip
    stages.add_argument("--patience-stop", type=int, metavar="E", help="the same, to end the training")
    stages.add_argument("--min-delta", type=float, metavar="L", help="a loss is better if lower by more than this")
    stages.add_argument("--smooth-curves", **_FLAG,
                        help="an average (0.9 of the one before, 0.1 new) of the validation loss decides on the best "
                        "model and on patience, and is drawn in curves.png")  # fmt: skip
    stages.add_argument("--curriculum-learning", **_FLAG,
                        help="start with two steps and add more each time patience runs out")  # fmt: skip
    stages.add_argument("--steps-cl", type=int, metavar="S", help="steps that a curriculum adds at a time")
    stages.add_argument("--min-steps", type=int, metavar="S",
                        help="in a curriculum the stop loss waits until there are more steps than this")  # fmt: skip
    return parser.parse_args(argv)


def configure(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the preset with what the command line changes in it (class names come from the dataset)."""
    given_data = [name for name in ("data", "annotations", "val_annotations") if getattr(arguments, name) is not None]
    if arguments.preset is None and arguments.dataset is None and given_data:
        option = f"--{given_data[0].replace('_', '-')}"
        raise InputError(
            f"expected --dataset with {option}, one of {', '.join(DATASETS)}. "
            f"Received: {option} {getattr(arguments, given_data[0])}"
        )
    synthetic = arguments.dataset == "synthetic" or (arguments.dataset is None and not given_data)
    start = preset(arguments.preset, synthetic=synthetic)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    given = implied(given, start) | given
    renamed = {"data": "root", "gt_maxseqlen": "max_objects", "maxseqlen": "num_steps"}
    given = {renamed.get(name, name): value for name, value in given.items()}
    if "stop_threshold" in given:
        given["choose_stop_threshold"] = given["stop_threshold"] == "auto"
    if given.get("choose_stop_threshold"):
        del given["stop_threshold"]
    parts = {
        field.name: dataclasses.replace(part, **_fields_of(part, given))
        for field in dataclasses.fields(start)
        for part in [getattr(start, field.name)]
    }
    settings = config.RunConfig(**parts)
    kinds = {settings.train.optimizer, settings.train.encoder_optimizer}
    if arguments.momentum is not None and "sgd" not in kinds:
        raise InputError(
            f"--momentum is of --optimizer sgd or --encoder-optimizer sgd. Received: --momentum {arguments.momentum} "
            f"with --optimizer {settings.train.optimizer}"
        )
    weights = settings.train.encoder_weights
    if settings.train.transfer and weights != "none":
        raise InputError(f"--transfer brings the encoder's weights with it. Received: --encoder-weights {weights}")
    if settings.train.strategy == "multi_worker" and arguments.out is None:
        raise InputError("--strategy multi_worker needs --out, a folder that all workers reach. Received: no --out")
    return settings


def implied(given: dict[str, Any], preset: config.RunConfig) -> dict[str, Any]:
    """Returns what options of the command line change beside themselves, unless they are given too.

    A preset that starts from ImageNet weights does so with every encoder that has them. An encoder that starts from
    nothing learns as fast as the rest and from the beginning, and its batch normalisation has no statistics to keep.
    Ranges of a preset do not outlive its augmentation. Images that are cropped undistorted are shown undistorted. Only
    a head that votes is told what counts as found, and only sequences that begin anywhere can be cut short without
    missing how they end.
    """
    train, follows = preset.train, {}
    if given.keys() & {"augmentation", *_RANGES}:
        follows["augment"] = True
    if "augmentation" in given:
        follows |= dict.fromkeys(_RANGES)
    if given.get("crop"):
        follows["aspect"] = "keep"
    if not config.MASK_HEADS[given.get("mask_head", preset.model.mask_head)].partial_sequences:
        follows["begin_anywhere"], follows["class_features"] = 0.0, "pooled"
    if not {"begin_anywhere": preset.data.begin_anywhere, **follows, **given}["begin_anywhere"]:
        follows["train_steps"] = None
    untrained = given.get("encoder", preset.model.encoder) in config.UNTRAINED_ENCODERS
    follows["encoder_weights"] = "none" if untrained or "transfer" in given else train.encoder_weights
    if given.get("encoder_weights", follows["encoder_weights"]) == "none" and "transfer" not in given:
        follows["encoder_batch_norm"] = "train"
        follows["encoder_learning_rate"] = given.get("learning_rate", train.learning_rate)
        follows["encoder_optimizer"] = None
        follows["finetune_after"] = 0
    return follows


def resumed(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the settings of an interrupted run, with more epochs if asked for."""
    run = arguments.resume
    given = [
        name
        for name, value in vars(arguments).items()
        if value is not None and name not in ("resume", "epochs", "check")
    ]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given))
        raise InputError(f"--resume goes on with the settings of the run. Received: {options} beside --resume {run}")
    settings = config_file.load(config.RunConfig, run / "config.json")
    if arguments.epochs is None or arguments.epochs == settings.train.epochs:
        return settings
    if settings.train.schedule != "constant":
        raise InputError(
            f"--epochs can be changed with a constant learning rate only. Received: --epochs {arguments.epochs}, "
            f"where the {settings.train.schedule} schedule of {run} ends at {settings.train.epochs}"
        )
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, epochs=arguments.epochs))


def write_config(settings: config.RunConfig, run: pathlib.Path) -> None:
    """Writes `config.json`, whole or not at all."""
    partial = run / ".config.json.partial"
    partial.write_text(config_file.to_json(settings), encoding="utf-8")
    os.replace(partial, run / "config.json")


def _fields_of(part: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(part)}
    return {name: value for name, value in given.items() if name in names}


def _threshold(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, or auto. Received: {text}") from None


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise argparse.ArgumentTypeError(f"expected a size such as 256 or 256x512. Received: {text}")
    return int(sides[0]), int(sides[-1])
