"""What a run is made of: frozen dataclasses for model, data and training; `json_file` keeps them as JSON.

This module imports neither Keras nor TensorFlow, so command lines can check their arguments at once.
"""

import dataclasses
from typing import Any

from rsis_tf.config.mask_heads import MASK_HEADS, SKIP_MODES
from rsis_tf.errors import InputError

ENCODERS = (
    "compact",
    "convnext_tiny",
    "efficientnetv2_b0",
    "mobilenet_v2",
    "resnet101",
    "resnet34",
    "resnet50",
    "vgg16",
)
UNTRAINED_ENCODERS = ("compact",)
"""Those for which nobody offers ImageNet weights."""
CLASS_FEATURES = ("pooled", "mask")
AUGMENTATIONS = ("paper", "strong")
CROWDS = ("auto", "ignore", "objects")
BORDERS = ("black", "replicate")
ASPECTS = ("stretch", "keep")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
STRATEGIES = ("none", "mirrored", "multi_worker")
OPTIMIZERS = ("adam", "rmsprop", "sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network, and what a program needs to know to use it.

    Attributes:
        encoder: name of the image encoder, one of `ENCODERS`.
        hidden_size: D, channels of the deepest ConvLSTM; stage i has D, D/2, D/4, D/8, D/16. A multiple of 16.
        min_channels: no stage has fewer channels than this; 0 in the paper. Fine stages of a small D are narrow
            (D = 64: 4 channels draw the mask), and widening them costs little.
        neck_channels: channels of a top-down path that joins the encoder's levels before the decoder reads them; 0 in
            the paper, where each level is projected by itself.
        mask_head: how a step draws its mask: "convolution" of the last hidden map, as in the paper, or "voting": the
            step points at an object, and the mask is where votes for centres agree
            (`rsis_tf.models.mask_heads.voting`).
        class_features: what classes are told by: "pooled", the maxima of the hidden maps, as in the paper, or "mask":
            also the mean of the neck's finest map under the mask; needs masks by voting.
        num_classes: K, classes with 0 = background.
        skip_mode: how a stage takes in the encoder's features: "concat", "sum", "mul" or "none" (paper, table 5).
        kernel_size: 3 or 1, for skip projections, gates and mask head.
        decoder_stages: ConvLSTM stages kept, 1 to 5 (paper, table 5).
        dropout: share of hidden channels dropped in training.
        dropout_class, dropout_stop: the same for the features of the class and the stop head.
        num_steps: T, objects predicted when a call does not say how many.
        image_size: (height, width) the model was trained at; images are resized to it for prediction.
        aspect: how images of another shape come to that size: "stretch" scales each axis by itself, "keep" scales the
            image as a whole and pads it with black.
        stop_threshold: objectness from which a step counts as an object, in prediction; one half in the paper.
        class_names: K names, the first of them "background"; empty if unknown.
        category_ids: K whole numbers, by which the training dataset's COCO files call the classes (0 for background);
            predictions are written with them. Empty if the dataset has none.
    """

    encoder: str = "resnet50"
    hidden_size: int = 128
    min_channels: int = 0
    neck_channels: int = 0
    mask_head: str = "convolution"
    class_features: str = "pooled"
    num_classes: int = 21
    skip_mode: str = "concat"
    kernel_size: int = 3
    decoder_stages: int = 5
    dropout: float = 0.0
    dropout_class: float = 0.0
    dropout_stop: float = 0.0
    num_steps: int = 10
    image_size: tuple[int, int] = (256, 256)
    aspect: str = "stretch"
    stop_threshold: float = 0.5
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _one_of("encoder", self.encoder, ENCODERS)
        _one_of("skip_mode", self.skip_mode, SKIP_MODES)
        _one_of("aspect", self.aspect, ASPECTS)
        _one_of("kernel_size", self.kernel_size, (1, 3))
        _one_of("decoder_stages", self.decoder_stages, (1, 2, 3, 4, 5))
        _require(
            self.hidden_size > 0 and self.hidden_size % 16 == 0,
            "hidden_size",
            "a positive multiple of 16",
            self.hidden_size,
        )
        _require(0 <= self.min_channels <= self.hidden_size, "min_channels", "in 0..hidden_size", self.min_channels)
        _one_of("mask_head", self.mask_head, MASK_HEADS)
        head = MASK_HEADS[self.mask_head]
        _one_of("class_features", self.class_features, CLASS_FEATURES)
        _require(
            self.class_features in head.class_features,
            "class_features",
            f"one of {', '.join(head.class_features)} with mask_head={self.mask_head!r}",
            self.class_features,
        )
        _require(self.neck_channels >= 0, "neck_channels", "0 or more", self.neck_channels)
        _require(
            not self.neck_channels or self.skip_mode in ("concat", "none"),
            "neck_channels",
            f"0 with skip_mode={self.skip_mode!r}, whose stages differ in channels",
            self.neck_channels,
        )
        _require(
            not head.needs_neck or self.neck_channels > 0,
            "neck_channels",
            f"positive with mask_head={self.mask_head!r}, which reads the neck",
            self.neck_channels,
        )
        _require(
            self.skip_mode in head.skip_modes,
            "skip_mode",
            f"one of {', '.join(head.skip_modes)} with mask_head={self.mask_head!r}",
            self.skip_mode,
        )
        _require(self.num_classes >= 2, "num_classes", "at least 2 (0 is background)", self.num_classes)
        _require(self.num_steps >= 1, "num_steps", "at least 1", self.num_steps)
        for name in ("dropout", "dropout_class", "dropout_stop"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        _require(0 <= self.stop_threshold <= 1, "stop_threshold", "in 0..1", self.stop_threshold)
        object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "category_ids", tuple(self.category_ids))
        _require(_is_size(self.image_size), "image_size", "two positive integers (height, width)", self.image_size)
        _require(
            len(self.class_names) in (0, self.num_classes),
            "class_names",
            f"empty or {self.num_classes} names (num_classes)",
            self.class_names,
        )
        _require(
            len(self.category_ids) in (0, self.num_classes)
            and all(isinstance(number, int) for number in self.category_ids)
            and len(set(self.category_ids[1:])) == len(self.category_ids[1:]),
            "category_ids",
            f"empty or {self.num_classes} whole numbers (num_classes), different ones for different classes",
            self.category_ids,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures, and how they become batches.

    Attributes:
        dataset: name of a reader in `rsis_tf.data`.
        root: the dataset's folder; None for data made by the project, or where files are named.
        annotations, val_annotations: annotation files of "train" and "val" ("coco" only), instead of those found in
            `root`.
        images, val_images: folders of their images; None for those beside the files.
        val_share: part of the images of a dataset without validation split ("coco" only) that is kept for validation,
            chosen by name (`rsis_tf.data.readers.val_share`); None to take the splits that there are.
        crowds: what COCO annotations with `iscrowd` 1 are: "ignore", "objects", or "auto": ignored, except for the
            brush masks of CVAT, which it marks so.
        image_size: (height, width) of the batches.
        max_objects: N, the largest objects kept of one picture; the others are void.
        batch_size: B.
        augment: flips and one affine warp on training pictures.
        augmentation: how far they go: "paper", or "strong" with quarter turns and colours.
        rotation: largest angle in degrees, either way; None for that of `augmentation`, as in the next four.
        translation: largest shift as a share of height and width, either way.
        shear: largest shear angle in degrees, either way.
        zoom: (smallest, largest) side of the part shown, as a share of the image's; below 1 enlarges the objects.
        border: what lies outside of a warped image: "black" background, or "replicate": its outermost pixels and their
            labels, as in the original.
        aspect: how images of another shape come to `image_size`: "stretch" scales each axis by itself, "keep" scales
            the image as a whole and pads it; losses leave the padding out.
        crop: training images keep their shape and are scaled until they cover `image_size`; a random part of that size
            is taken, as the original does without `--resize`. Validation follows `aspect`.
        draft: JPEG files much larger than the batches need are decoded at 1/2, 1/4 or 1/8 of their size.
        cache: where samples are kept between epochs at the size the batches need: "memory", a folder, or None.
        train_size, val_size: the first so many pictures are used; None for all there are (of scenes made on the fly, as
            many as the reader makes by default).
        begin_anywhere: share of the training pictures whose sequence begins in the middle, a random choice of the
            objects being marked as found already (voting only); 0 in the paper.
        seed: of the order, the augmentation and the pictures made.
    """

    dataset: str = "synthetic"
    root: str | None = None
    annotations: str | None = None
    val_annotations: str | None = None
    images: str | None = None
    val_images: str | None = None
    val_share: float | None = None
    crowds: str = "auto"
    image_size: tuple[int, int] = (64, 64)
    max_objects: int = 20
    batch_size: int = 8
    augment: bool = False
    augmentation: str = "paper"
    rotation: float | None = None
    translation: float | None = None
    shear: float | None = None
    zoom: tuple[float, float] | None = None
    border: str | None = None
    aspect: str = "stretch"
    crop: bool = False
    draft: bool = False
    cache: str | None = None
    train_size: int | None = None
    val_size: int | None = None
    begin_anywhere: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))
        _require(_is_size(self.image_size), "image_size", "two positive integers (height, width)", self.image_size)
        _one_of("augmentation", self.augmentation, AUGMENTATIONS)
        _one_of("crowds", self.crowds, CROWDS)
        _require(self.val_share is None or 0 < self.val_share < 1, "val_share", "between 0 and 1", self.val_share)
        _one_of("aspect", self.aspect, ASPECTS)
        _require(self.border is None or self.border in BORDERS, "border", "one of " + ", ".join(BORDERS), self.border)
        for name, largest in (("rotation", 180), ("translation", 1), ("shear", 80)):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= largest, name, f"in 0..{largest}", value)
        if self.zoom is not None:
            object.__setattr__(self, "zoom", tuple(self.zoom))
            ordered = len(self.zoom) == 2 and 0.1 <= self.zoom[0] <= self.zoom[1] <= 4
            _require(ordered, "zoom", "two numbers in 0.1..4, the smaller first", self.zoom)
        _require(self.cache is None or bool(self.cache), "cache", "memory, a folder, or none", self.cache)
        _require(0 <= self.begin_anywhere <= 1, "begin_anywhere", "in 0..1", self.begin_anywhere)
        for name in ("max_objects", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("train_size", "val_size"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "at least 1", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Losses, optimiser and stages; the defaults are the paper's for Pascal VOC, with everything on from the start.

    Epochs are counted from 0 in the fields that name one, as in the original. `rsis_tf.training.curriculum` says how
    the stages follow each other.

    Attributes:
        num_steps: T, predictions per picture in training.
        train_steps: steps that a training sequence is cut to, where it begins anywhere; None for all. Validation takes
            all.
        epochs: passes over the training set.
        learning_rate: of decoder and skip projections.
        encoder_learning_rate: of the encoder.
        weight_decay: coupled L2 penalty, added to the gradient as PyTorch's optimisers do.
        encoder_weight_decay: the same for the encoder; None for `weight_decay`.
        optimizer: "adam", "rmsprop" or "sgd", each as PyTorch computes it with its defaults.
        encoder_optimizer: the same for the encoder; None for `optimizer`.
        momentum: of "sgd"; the others have none to set.
        schedule: "constant", or "cosine": linear warm-up over the first 3 % of the steps, then cosine to 1 %. A part
            that starts late takes the rate that its step has, and all parts end together.
        clip_norm: largest L2 norm of each part's gradients (encoder, decoder, class and stop head); None for no
            clipping.
        update_encoder: False leaves the encoder's weights as they are.
        encoder_batch_norm: "train" follows the batch's statistics, "frozen" keeps the stored ones.
        mask_weight, class_weight, stop_weight: weights of the paper's three losses in the sum. They do not change which
            object is matched to which prediction.
        voting_weight, pointing_weight: weights of the losses of votes and of the choice of an object, if masks are
            voted for.
        mask_cross_entropy: weight of a pixelwise cross-entropy beside soft IoU in the mask loss; 0 in the paper.
        stop_balance: b of the stop loss, in 0..1: steps that have an object weigh 1 − b, the step after the last object
            weighs b.
        use_class_loss, use_stop_loss: whether the loss takes part in the sum at all.
        class_loss_after, stop_loss_after: epoch from which the loss takes part; -1 = never. Patience may start it
            earlier.
        finetune_after: epoch from which the encoder's weights are updated; -1 = never. Patience may start it earlier.
        patience: after more than this many epochs without a better validation loss the next stage begins; None for
            stages that begin by epoch only.
        patience_stop: after more than this many epochs without a better validation loss the training ends; None for
            never.
        min_delta: a validation loss is better if it is lower than the best one by more than this.
        smooth_curves: whether an average of the validation loss counts instead of the loss itself, for the best model
            and for patience: 0.9 of the average so far and 0.1 of the new loss, from the last change of stage on.
        curriculum_learning: start with two steps; each time patience runs out, `steps_cl` more, up to `num_steps`.
        steps_cl: steps added at a time.
        min_steps: with a curriculum, the stop loss waits until there are more steps than this.
        ema: decay of an exponential moving average of the weights, updated every step; `best.keras` then holds the
            averages, and they are what is validated. None for no average.
        choose_stop_threshold: whether the model's `stop_threshold` is chosen at the end: the one that counts the
            training pictures best (`rsis_tf.evaluation.stopping`).
        precision: "float32", "mixed_bfloat16" or "mixed_float16"; weights and losses are float32 in all three.
        encoder_weights: what the encoder starts from: "none", "imagenet", or a file.
        transfer: a run's folder or a model file whose weights the network starts from, or None.
        tensorboard: also log to `tensorboard/` in the run's folder.
        strategy: "none", "mirrored" (all devices of this machine) or "multi_worker" (several machines);
            `rsis_tf.training.distribution` says how they share the batches.
        seed: of weights and dropout.
    """

    num_steps: int = 10
    train_steps: int | None = None
    epochs: int = 10
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-6
    weight_decay: float = 1e-6
    encoder_weight_decay: float | None = None
    optimizer: str = "adam"
    encoder_optimizer: str | None = None
    momentum: float = 0.9
    schedule: str = "constant"
    clip_norm: float | None = None
    update_encoder: bool = True
    encoder_batch_norm: str = "train"
    mask_weight: float = 1.0
    class_weight: float = 0.1
    stop_weight: float = 0.5
    voting_weight: float = 1.0
    pointing_weight: float = 0.2
    mask_cross_entropy: float = 0.0
    stop_balance: float = 0.5
    use_class_loss: bool = True
    use_stop_loss: bool = True
    class_loss_after: int = 0
    stop_loss_after: int = 0
    finetune_after: int = 0
    patience: int | None = None
    patience_stop: int | None = None
    min_delta: float = 0.0
    smooth_curves: bool = False
    curriculum_learning: bool = False
    steps_cl: int = 1
    min_steps: int = 1
    ema: float | None = None
    choose_stop_threshold: bool = False
    precision: str = "float32"
    encoder_weights: str = "none"
    transfer: str | None = None
    tensorboard: bool = False
    strategy: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("schedule", self.schedule, ("constant", "cosine"))
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("encoder_optimizer", self.encoder_optimizer, (None, *OPTIMIZERS))
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(0 <= self.stop_balance <= 1, "stop_balance", "in 0..1", self.stop_balance)
        decay = self.encoder_weight_decay
        _require(decay is None or decay >= 0, "encoder_weight_decay", "0 or more, or none", decay)
        _one_of("encoder_batch_norm", self.encoder_batch_norm, ("train", "frozen"))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("strategy", self.strategy, STRATEGIES)
        # Keras' loss scale looks for infinities on each replica alone, and replicas would then differ.
        _require(
            self.strategy == "none" or self.precision != "mixed_float16",
            "precision",
            f"float32 or mixed_bfloat16 with the strategy {self.strategy}",
            self.precision,
        )
        for name in ("num_steps", "epochs", "steps_cl", "min_steps"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in (
            "learning_rate",
            "encoder_learning_rate",
            "weight_decay",
            "mask_weight",
            "class_weight",
            "stop_weight",
            "voting_weight",
            "pointing_weight",
            "mask_cross_entropy",
            "min_delta",
        ):
            _require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("class_loss_after", "stop_loss_after", "finetune_after"):
            _require(getattr(self, name) >= -1, name, "an epoch (0 or more), or -1 for never", getattr(self, name))
        for name in ("patience", "patience_stop"):
            value = getattr(self, name)
            _require(value is None or value >= 0, name, "0 or more, or none", value)
        _require(
            self.train_steps is None or self.train_steps >= 1, "train_steps", "1 or more, or none", self.train_steps
        )
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "positive, or none", self.clip_norm)
        _require(self.ema is None or 0 < self.ema < 1, "ema", "between 0 and 1, or none", self.ema)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Model, data and training of one run; stored as `config.json` in the run's folder."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        _require(
            not self.data.begin_anywhere or MASK_HEADS[self.model.mask_head].partial_sequences,
            "begin_anywhere",
            f"0 with mask_head={self.model.mask_head!r}, which is not told what counts as found",
            self.data.begin_anywhere,
        )


def _one_of(name: str, value: Any, choices: tuple) -> None:
    _require(value in choices, name, f"one of {', '.join(map(str, choices))}", value)


def _is_size(value: tuple) -> bool:
    return len(value) == 2 and all(isinstance(side, int) and side >= 1 for side in value)


def _require(condition: bool, name: str, expected: str, received: Any) -> None:
    if not condition:
        raise InputError(f"{name} must be {expected}. Received: {name}={received!r}")
