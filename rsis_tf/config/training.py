"""The training's settings, in groups: losses, optimisation, curriculum, and the weights that it starts from."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from rsis_tf.config.checks import (
    Between,
    Count,
    Epoch,
    OneOf,
    Patience,
    Rate,
    Seed,
    Share,
    ShareBelowOne,
    ShareInside,
    Steps,
    Weight,
    check_fields,
    fitting,
    require,
)
from rsis_tf.config.grouped import Grouped
from rsis_tf.config.mask_heads import MASK_HEADS

OPTIMIZERS = ("adam", "muon", "rmsprop", "sgd")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SCHEDULES = ("constant", "cosine")
STRATEGIES = ("none", "mirrored", "multi_worker")
ENCODER_BATCH_NORMS = ("train", "frozen")
LOGGER_NAMES = ("mlflow", "tensorboard", "wandb")
"""The keys of `rsis_tf.training.loggers.LOGGERS`, for code that must not import Keras."""

HEAD_LOSSES = {
    f"{term.removesuffix('_loss')}_weight": term for head in MASK_HEADS.values() for term in head.loss_weights
}
"""Name of an option → the loss term of a mask head whose weight it sets."""

_SWITCHES = {
    "use_class_loss": "class_loss_after",
    "use_stop_loss": "stop_loss_after",
    "update_encoder": "finetune_after",
}
"""Argument of `TrainConfig` → the field that False sets to -1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses. They do not change which object is matched to which prediction.

    Attributes:
        mask_weight, class_weight, stop_weight: weights of the paper's three losses in the sum.
        mask_cross_entropy: weight of a pixelwise cross-entropy beside soft IoU in the mask loss; 0 in the paper.
        stop_balance: b of the stop loss, in 0..1: steps that have an object weigh 1 − b, the step after the last object
            weighs b.
        head_loss_weights: loss term of a mask head → its weight in the sum, for weights other than those of
            `MASK_HEADS`.
    """

    mask_weight: Weight = 1.0
    class_weight: Weight = 0.1
    stop_weight: Weight = 0.5
    mask_cross_entropy: Weight = 0.0
    stop_balance: Share = 0.5
    head_loss_weights: Mapping[str, Weight] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_fields(self)
        terms = HEAD_LOSSES.values()
        known = self.head_loss_weights.keys() <= set(terms)
        require(known, "head_loss_weights", f"weights of {', '.join(terms)}", self.head_loss_weights)

    def of_head(self, mask_head: str) -> dict[str, float]:
        """Returns the weight of every loss term that a mask head adds."""
        defaults = MASK_HEADS[mask_head].loss_weights
        return {term: self.head_loss_weights.get(term, default) for term, default in defaults.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights are updated.

    Attributes:
        learning_rate: of decoder and skip projections.
        encoder_learning_rate: of the encoder.
        weight_decay: coupled L2 penalty, added to the gradient as PyTorch's optimisers do ("muon" decouples it for
            kernels, as PyTorch's does).
        encoder_weight_decay: the same for the encoder; None for `weight_decay`.
        optimizer: "adam", "rmsprop" or "sgd", each as PyTorch computes it with its defaults, or "muon"
            (`rsis_tf.training.muon`).
        encoder_optimizer: the same for the encoder; None for `optimizer`.
        momentum: of "sgd"; the others do not use it.
        schedule: "constant", or "cosine": linear warm-up over the first 3 % of the steps, then cosine to 1 %. A part
            that starts late takes the rate that its step has, and all parts end together.
        clip_norm: largest L2 norm of each part's gradients (encoder, decoder, class and stop head); None for no
            clipping.
        ema: decay of an exponential moving average of the weights, updated every step. The averages are validated and
            saved to `best.keras`. None for no average.
        encoder_batch_norm: "train" uses and updates the batch's statistics, "frozen" keeps the stored ones.
        frozen_batch_norm: share of the epochs, the last ones, in which batch normalisation no longer uses the batch's
            statistics but those that prediction will use (`rsis_tf.training.batch_statistics`); 0 for none. The first
            epoch is never one of them.
        recompute: whether the decoder's steps run again for their gradients instead of keeping their values. It needs
            less memory and more time (`rsis_tf.models.recomputation`), and a model without dropout of hidden channels.
        batch_norm_batches: number of training batches over whose statistics those of the best model are averaged after
            the training (`rsis_tf.training.batch_statistics`); 0 keeps the moving averages.
    """

    learning_rate: Rate = 1e-3
    encoder_learning_rate: Rate = 1e-6
    weight_decay: Rate = 1e-6
    encoder_weight_decay: Rate | None = None
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "adam"
    encoder_optimizer: Annotated[str, OneOf(OPTIMIZERS)] | None = None
    momentum: ShareBelowOne = 0.9
    schedule: Annotated[str, OneOf(SCHEDULES)] = "constant"
    clip_norm: Annotated[float, Between(0, 1_000_000_000, open_low=True)] | None = None
    ema: ShareInside | None = None
    encoder_batch_norm: Annotated[str, OneOf(ENCODER_BATCH_NORMS)] = "train"
    frozen_batch_norm: ShareBelowOne = 0.0
    recompute: bool = False
    batch_norm_batches: Annotated[int, Between(0, 100_000)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        # Other statistics than those that the last epochs were trained with would make the model worse.
        fits = not (self.frozen_batch_norm and self.batch_norm_batches)
        require(fits, "batch_norm_batches", "0 with frozen_batch_norm", self.batch_norm_batches)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """When losses, steps and the encoder join the training; `rsis_tf.training.curriculum` has the rules.

    Epochs are counted from 0, as in the original code. The defaults switch everything on from the start.

    Attributes:
        class_loss_after, stop_loss_after: epoch from which the loss is part of the sum; -1 = never. Patience may start
            it earlier.
        finetune_after: epoch from which the encoder's weights are updated; -1 = never. Patience may start it earlier.
        patience: after more than this many epochs without a better validation loss the next stage begins; None for
            stages that begin by epoch only.
        patience_stop: after more than this many epochs without a better validation loss the training ends; None for
            never.
        min_delta: a validation loss is better if it is lower than the best one by more than this.
        smooth_curves: whether a moving average of the validation loss, instead of the loss, decides on the best model
            and on patience: 0.9 of the average so far and 0.1 of the new loss, from the last change of stage on.
        curriculum_learning: whether the training starts with two steps and adds `steps_cl` each time patience runs
            out, up to `num_steps`.
        steps_cl: number of steps added.
        min_steps: with a curriculum, the stop loss waits until there are more steps than this.
    """

    class_loss_after: Epoch = 0
    stop_loss_after: Epoch = 0
    finetune_after: Epoch = 0
    patience: Patience | None = None
    patience_stop: Patience | None = None
    min_delta: Weight = 0.0
    smooth_curves: bool = False
    curriculum_learning: bool = False
    steps_cl: Steps = 1
    min_steps: Steps = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The weights that a training starts from.

    Attributes:
        encoder_weights: of the encoder: "none" (random), "imagenet", or a file.
        transfer: a run's folder or a model file whose weights the whole network starts from, or None.
    """

    encoder_weights: str = "none"
    transfer: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class TrainConfig(Grouped):
    """Everything about a training except model and data; the defaults are the paper's for Pascal VOC.

    The constructor also takes the fields of the groups by their names, and three switches of the contract with
    `compile_model`: `use_class_loss=False`, `use_stop_loss=False` and `update_encoder=False` stand for
    `class_loss_after=-1`, `stop_loss_after=-1` and `finetune_after=-1`; True changes nothing. `tensorboard=True`, the
    setting of earlier versions, adds "tensorboard" to the loggers, and False removes it.

    ```python
    TrainConfig(num_steps=5, learning_rate=1e-3, stop_weight=0.5, use_class_loss=False)
    ```

    Attributes:
        num_steps: T, predictions per image in training. In a `RunConfig` it follows the model's.
        sequence_length: largest number of steps of a training sequence, for partial sequences; None for `num_steps`.
            Validation always takes `num_steps`.
        epochs: passes over the training set.
        calibrate_objectness: whether the objectness of the finished model is fitted to the training images, so that a
            sequence ends at one half (`rsis_tf.evaluation.stopping`).
        precision: "float32", "mixed_bfloat16" or "mixed_float16"; weights and losses are float32 in all three.
        strategy: "none", "mirrored" (all devices of this machine) or "multi_worker" (several machines);
            `rsis_tf.training.distribution` explains how they share the batches.
        loggers: names of loggers, keys of `rsis_tf.training.loggers.LOGGERS`.
        seed: of weights and dropout.
        losses: weights of the losses.
        optimization: how weights are updated.
        curriculum: when losses, steps and the encoder join the training.
        start: the weights that the training starts from.

    Raises:
        InputError: for a value out of range, or values that do not work together.
        TypeError: for a name that is no setting.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {
        "train_steps": "sequence_length",
        "choose_stop_threshold": "calibrate_objectness",
    }

    num_steps: Steps = 10
    sequence_length: Steps | None = None
    epochs: Count = 10
    calibrate_objectness: bool = False
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    strategy: Annotated[str, OneOf(STRATEGIES)] = "none"
    loggers: tuple[Annotated[str, OneOf(LOGGER_NAMES)], ...] = ()
    seed: Seed = 0
    losses: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimization: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    curriculum: CurriculumConfig = dataclasses.field(default_factory=CurriculumConfig)
    start: StartConfig = dataclasses.field(default_factory=StartConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        # Keras looks for infinities on each replica separately, so the loss scales of replicas would drift apart.
        expected = f"float32 or mixed_bfloat16 with strategy={self.strategy!r}"
        require(self.strategy == "none" or self.precision != "mixed_float16", "precision", expected, self.precision)

    @classmethod
    def accepted_names(cls) -> frozenset[str]:
        """Returns every name that the constructor takes."""
        return super().accepted_names() | _SWITCHES.keys() | HEAD_LOSSES.keys() | {"tensorboard"}

    @classmethod
    def translated(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings with fields in place of switches, earlier names and single weights of a mask head."""
        fields = super().translated(settings)
        for switch, field in _SWITCHES.items():
            if not fitting(bool, fields.pop(switch, True), switch):
                fields[field] = -1
        if "tensorboard" in fields:
            on = fitting(bool, fields.pop("tensorboard"), "tensorboard")
            others = fitting(tuple[str, ...], fields.get("loggers", ()), "loggers")
            others = tuple(name for name in others if name != "tensorboard")
            fields["loggers"] = (*others, "tensorboard") if on else others
        weights = {
            term: fitting(Weight, fields.pop(name), name) for name, term in HEAD_LOSSES.items() if name in fields
        }
        if weights:
            before = fitting(Mapping[str, Weight], fields.get("head_loss_weights", {}), "head_loss_weights")
            fields["head_loss_weights"] = {**before, **weights}
        return fields

    def changed(self, **settings: Any) -> Self:
        """Returns a copy with other values in some fields, which are named as in the constructor."""
        if settings.keys() & HEAD_LOSSES.keys():
            settings = {"head_loss_weights": self.losses.head_loss_weights, **settings}
        if "tensorboard" in settings:
            settings = {"loggers": self.loggers, **settings}
        return super().changed(**settings)
