"""The options of `rsis train`, as tables: one row for each setting, one table for each group of the help."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rsis_tf import config
from rsis_tf.config.data import dataset_name
from rsis_tf.config.training import ENCODER_BATCH_NORMS, HEAD_LOSSES
from rsis_tf.data import DATASETS


def threshold(text: str) -> float | str:
    """Reads a number, or "auto"."""
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, or auto. Received: {text}") from None


def size(text: str) -> tuple[int, int]:
    """Reads (height, width) from "256" or "256x512"."""
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise argparse.ArgumentTypeError(f"expected a size such as 256 or 256x512. Received: {text}")
    return int(sides[0]), int(sides[-1])


@dataclasses.dataclass(frozen=True)
class Option:
    """An option that sets one field of a `RunConfig`.

    Attributes:
        flag: such as "--epochs"; without "--" and with "_" it is the field's name, unless `field` names another.
        help: one clause; the default is added.
        metavar: of the value in the help; None with `choices`. "" makes it a switch, --flag and --no-flag.
        type: reads the value.
        choices: values allowed.
        nargs: number of values, if not one.
        repeat: whether the option may be given several times; its value is then a list.
        field: name of the setting.
        old: an earlier spelling of the flag, accepted without being listed.
    """

    flag: str
    help: str
    metavar: str | tuple[str, ...] | None = None
    type: Callable[[str], Any] | None = None
    choices: tuple[Any, ...] | None = None
    nargs: int | None = None
    repeat: bool = False
    field: str = ""
    old: str | None = None

    @property
    def name(self) -> str:
        """Name of the setting."""
        return self.field or self.flag.removeprefix("--").replace("-", "_")

    def add(self, group: argparse._ArgumentGroup, default: Any) -> None:
        """Adds the option to a group; `default` is shown in the help. An option not given is None."""
        described: dict[str, Any] = {"dest": self.name, "default": None, "help": self.help + _shown(default)}
        if self.metavar == "":
            described |= {"action": argparse.BooleanOptionalAction}
        else:
            described |= {
                name: value
                for name in ("metavar", "type", "choices", "nargs")
                if (value := getattr(self, name)) is not None
            }
            if self.repeat:
                described["action"] = "append"
        group.add_argument(self.flag, **described)
        if self.old:
            group.add_argument(self.old, **{**described, "help": argparse.SUPPRESS})


def _with_head(names: Iterable[str]) -> str:
    """Returns the option that chooses one of some mask heads, for the help."""
    return f"--mask-head {' or '.join(names)}"


def _of_head(term: str) -> Option:
    """Returns the option for the weight of a mask head's loss term."""
    name = term.removesuffix("_loss")
    heads = _with_head(head for head, spec in config.MASK_HEADS.items() if term in spec.loss_weights)
    text = f"weight of the {name.replace('_', ' ')} loss in the sum, with {heads}"
    return Option(f"--{name.replace('_', '-')}-weight", text, "W", float)


_PARTIAL = [name for name, spec in config.MASK_HEADS.items() if spec.partial_sequences]
_UNDER_MASK = [name for name, spec in config.MASK_HEADS.items() if "mask" in spec.class_features]

RUN = (
    Option(
        "--transfer",
        "start from the weights of a run or model, or of a name that `rsis zoo` lists; other classes "
        "get a new class layer",
        "RUN",
    ),
    Option("--seed", "seed of weights, order, augmentation and generated images", "S", int),
    Option("--logger", "log losses and scores to TensorBoard (RUN/tensorboard), Weights & Biases (offline in RUN/wandb "
           "unless WANDB_MODE says otherwise) or MLflow (the current folder, or MLFLOW_TRACKING_URI); may be repeated",
           choices=config.LOGGER_NAMES, repeat=True, field="loggers"),
)  # fmt: skip

DATA = (
    Option("--dataset", "how the images are stored, or generated", type=dataset_name, choices=tuple(DATASETS)),
    Option("--data", "the dataset's folder", "DIR", field="root"),
)

BATCHES = (
    Option("--image-size", "resize images to this size", "S|HxW", size),
    Option("--aspect", "resize images of another shape by each axis separately (stretch), or as a whole and pad them "
           "(keep)", choices=config.ASPECTS),
    Option("--draft", "decode large JPEG files at 1/2, 1/4 or 1/8 of their size, where the batches need no more", ""),
    Option("--cache", "keep samples between epochs at the size that the batches need, in memory or in a folder; "
           "outdated entries in a folder are not removed", "memory|DIR"),
    Option("--max-objects", "largest objects of an image that are kept", "N", int, old="--gt-maxseqlen"),
    Option("--batch-size", "images per step, on all devices together", "B", int),
    Option("--partial-sequences", "share of training sequences that begin with some objects marked as found; needs "
           + _with_head(_PARTIAL), "P", float, old="--begin-anywhere"),
    Option("--found-by-votes", "share of them in which the objects found so far are covered by the model's own votes "
           "instead of their true masks", "P", float),
    Option("--train-size", "use the first N training images", "N", int),
    Option("--val-size", "use the first N validation images", "N", int),
)  # fmt: skip

AUGMENTATION = (
    Option("--augment", "flip, rotate, shift, shear and zoom training images", ""),
    Option("--augmentation", "ranges of the paper, larger ones with quarter turns and colour changes (strong), or "
           "those with changes of single channels, gamma and sharpness too (microscopy)",
           choices=config.AUGMENTATION_NAMES),
    Option("--rotation", "largest angle in both directions; 10 in the paper", "DEG", float),
    Option("--translation", "largest shift as a share of height and width, in both directions; 0.1 in the paper",
           "SHARE", float),
    Option("--shear", "largest shear angle in both directions; 0.1 radians (5.7 degrees) in the paper, 0.1 degrees in "
           "its code", "DEG", float),
    Option("--zoom", "side of the part shown, as a share of the image's side; below 1 enlarges the objects, 1 1 "
           "switches it off; 0.7 1 in the paper", ("LOW", "HIGH"), float, nargs=2),
    Option("--border", "what is shown outside of a warped image: black, or the outermost pixels and their labels "
           "(replicate, as in the original)", choices=config.BORDERS),
    Option("--crop", "scale training images until they cover the size, and take a random part; keeps their shape", ""),
    Option("--copy-paste", "share of training images that receive objects of another one", "P", float),
)  # fmt: skip

MODEL = (
    Option("--encoder", "network that reads the image", choices=config.ENCODER_NAMES),
    Option("--encoder-weights", "initial weights of the encoder: imagenet (downloaded at first use), a file "
           "(torchvision .pth, Keras .h5) or none; none also sets the encoder's learning rate to that of the decoder",
           "W"),
    Option("--hidden-size", "channels of the deepest ConvLSTM", "D", int),
    Option("--min-channels", "least channels of a stage; 0 in the paper", "C", int),
    Option("--neck-channels", "channels of a top-down path over the encoder's levels; 0 (none) in the paper", "C", int),
    Option("--mask-head", "predict a mask by a convolution of the last hidden map (convolution, as in the paper), or "
           "by pixels that vote for the centre of the object that a step points at (voting)",
           choices=tuple(sorted(config.MASK_HEADS))),
    Option("--class-features", "predict classes from the maxima of hidden maps (pooled, as in the paper), or also "
           "from the features under the mask (mask), which needs "
           + _with_head(_UNDER_MASK), choices=config.CLASS_FEATURES),
    Option("--skip-mode", "how stages combine their input with the encoder's features", choices=config.SKIP_MODES),
    Option("--kernel-size", "kernel size of skip projections, gates and mask head", type=int, choices=(1, 3)),
    Option("--decoder-stages", "number of ConvLSTM stages; 5 in the paper", type=int, choices=(1, 2, 3, 4, 5)),
    Option("--dropout", "share of hidden channels dropped", "P", float),
    Option("--dropout-class", "share of features dropped before the class layer", "P", float),
    Option("--dropout-stop", "share of features dropped before the stop layer", "P", float),
    Option("--steps", "objects predicted per image at most, in training too", "T", int, field="num_steps",
           old="--maxseqlen"),
    Option("--stop-threshold", "probability from which a step counts as an object, 0.5 in the paper; auto is 0.5 and "
           "fits the probabilities to the training images, after the training", "P|auto", threshold),
)  # fmt: skip

LOSSES = (
    Option("--mask-weight", "weight of the mask loss (soft IoU) in the sum", "W", float),
    Option("--mask-cross-entropy", "weight of cross-entropy beside soft IoU in the mask loss; 0 in the paper", "W",
           float),
    Option("--class-weight", "weight of the class loss in the sum", "W", float),
    Option("--stop-weight", "weight of the stop loss in the sum", "W", float),
    Option("--stop-balance", "weight of the step after the last object in the stop loss; steps with an object weigh "
           "1 - B", "B", float),
    *(_of_head(term) for term in HEAD_LOSSES.values()),
)  # fmt: skip

OPTIMIZATION = (
    Option("--epochs", "passes over the training images", "E", int),
    Option("--sequence-length", "cut training sequences to S steps; for partial sequences", "S", int,
           old="--train-steps"),
    Option("--learning-rate", "learning rate of decoder and skip projections", "R", float),
    Option("--encoder-learning-rate", "learning rate of the encoder", "R", float),
    Option("--weight-decay", "L2 penalty, added to the gradient as in PyTorch", "L", float),
    Option("--encoder-weight-decay", "L2 penalty of the encoder, if it differs", "L", float),
    Option("--optimizer", "update rule, computed as in PyTorch; muon needs fewer epochs than adam",
           choices=config.OPTIMIZERS),
    Option("--encoder-optimizer", "update rule of the encoder, if it differs", choices=config.OPTIMIZERS),
    Option("--momentum", "momentum of sgd", "M", float),
    Option("--schedule", "schedule of the learning rates; cosine warms up and falls to 1 %% at the end, also for an "
           "encoder that starts late", choices=config.SCHEDULES),
    Option("--clip-norm", "largest norm of each part's gradients", "G", float),
    Option("--ema", "validate and save a moving average of the weights with this decay, such as 0.999", "M", float),
    Option("--encoder-batch-norm", "use and update the batch's statistics, or keep the stored ones",
           choices=ENCODER_BATCH_NORMS),
    Option("--frozen-batch-norm", "share of the epochs, the last ones, in which batch normalisation keeps its "
           "statistics, so that training and prediction compute the same", "SHARE", float),
    Option("--batch-norm-batches", "after the training, average the statistics of batch normalisation over N training "
           "batches; 0 keeps the moving averages", "N", int),
    Option("--recompute", "run the decoder's steps again for their gradients instead of keeping their values: less "
           "memory, more time", ""),
    Option("--precision", "precision of the computation; weights stay float32", choices=config.PRECISIONS),
    Option("--strategy", "devices that share every batch (TensorFlow only)", choices=config.STRATEGIES),
)  # fmt: skip

CURRICULUM = (
    Option("--class-loss-after", "first epoch of the class loss, -1 = never", "E", int),
    Option("--stop-loss-after", "first epoch of the stop loss, -1 = never", "E", int),
    Option("--finetune-after", "first epoch that updates the encoder, -1 = never", "E", int),
    Option("--patience", "after more than E epochs without a better validation loss the next stage begins: class "
           "loss, more steps, encoder, stop loss", "E", int),
    Option("--patience-stop", "after more than E epochs without a better validation loss the training ends", "E", int),
    Option("--min-delta", "a loss is better if it is lower by more than this", "L", float),
    Option("--smooth-curves", "let a moving average of the validation loss (0.9 of the one before, 0.1 new) decide on "
           "the best model and on patience, and draw it in curves.png", ""),
    Option("--curriculum-learning", "start with two steps and add more each time patience runs out", ""),
    Option("--steps-cl", "steps that a curriculum adds each time", "S", int),
    Option("--min-steps", "in a curriculum the stop loss waits until there are more steps than this", "S", int),
)  # fmt: skip

TABLES = (RUN, DATA, BATCHES, AUGMENTATION, MODEL, LOSSES, OPTIMIZATION, CURRICULUM)
FLAGS: dict[str, str] = {option.name: option.flag for table in TABLES for option in table}
"""Setting → the option that sets it."""


def defaults(settings: config.RunConfig) -> Mapping[str, Any]:
    """Returns setting → the value that an option has unless it is given, for the help."""
    values = settings.flat()
    weights = settings.train.losses.of_head(settings.model.mask_head)
    values |= {name: weights.get(term) for name, term in HEAD_LOSSES.items()}
    if settings.train.calibrate_objectness:
        values["stop_threshold"] = "auto"
    return values


def _shown(default: Any) -> str:
    """Returns a default for the help; "" if there is none."""
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        text = "on" if default else "off"
    elif isinstance(default, tuple):
        whole = all(isinstance(value, int) for value in default)
        text = ("x" if whole else " ").join(value if isinstance(value, str) else f"{value:g}" for value in default)
    else:
        text = f"{default:g}" if isinstance(default, float) else str(default)
    return f" (default: {text})"
