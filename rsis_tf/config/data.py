"""The dataset's settings."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from rsis_tf.config.checks import image_size, one_of, require
from rsis_tf.config.grouped import Grouped
from rsis_tf.config.model import ASPECTS

AUGMENTATION_NAMES = ("paper", "strong")
"""The keys of `rsis_tf.data.augment.AUGMENTATIONS`."""

BORDERS = ("black", "replicate")
CROWDS = ("auto", "ignore", "objects")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training images.

    Attributes:
        augment: whether training images are flipped and warped.
        augmentation: the ranges: "paper", or "strong" with quarter turns and colour changes.
        rotation: largest angle in degrees, in both directions. None takes the value of `augmentation`, here and in the
            next four fields.
        translation: largest shift as a share of height and width, in both directions.
        shear: largest shear angle in degrees, in both directions.
        zoom: (smallest, largest) side of the part shown, as a share of the image's side; below 1 enlarges the objects.
        border: what is shown outside of a warped image: "black" (labelled background), or "replicate": the outermost
            pixels and their labels, as in the original code.
        crop: training images keep their shape and are scaled until they cover `image_size`; a random part of that size
            is taken, as the original does without `--resize`. Validation images follow `aspect`.
    """

    augment: bool = False
    augmentation: str = "paper"
    rotation: float | None = None
    translation: float | None = None
    shear: float | None = None
    zoom: tuple[float, float] | None = None
    border: str | None = None
    crop: bool = False

    def __post_init__(self) -> None:
        one_of("augmentation", self.augmentation, AUGMENTATION_NAMES)
        require(self.border is None or self.border in BORDERS, "border", f"one of {', '.join(BORDERS)}", self.border)
        for name, largest in (("rotation", 180), ("translation", 1), ("shear", 80)):
            value = getattr(self, name)
            require(value is None or 0 <= value <= largest, name, f"in 0..{largest}", value)
        if self.zoom is not None:
            object.__setattr__(self, "zoom", tuple(self.zoom))
            ordered = len(self.zoom) == 2 and 0.1 <= self.zoom[0] <= self.zoom[1] <= 4
            require(ordered, "zoom", "two numbers in 0.1..4, the smaller one first", self.zoom)


@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class DataConfig(Grouped):
    """Which images are read, and how they become batches.

    The constructor also takes the fields of `AugmentationConfig` by their names: `DataConfig(augment=True)`.

    Attributes:
        dataset: name of a reader in `rsis_tf.data`.
        root: the dataset's folder; None for generated scenes, or where the files are named.
        annotations, val_annotations: annotation files for training and for validation ("coco" only); None to find them
            in `root`.
        images, val_images: folders of their images; None for the folder of the annotation file.
        val_share: share of the images of a dataset without validation split ("coco" only) that is kept for validation,
            chosen by file name (`rsis_tf.data.readers.val_share`); None to use the splits of the dataset.
        crowds: what COCO annotations with `iscrowd` 1 mean: "ignore", "objects", or "auto": ignored, except for the
            brush masks of CVAT, which sets the flag on every one of them.
        image_size: (height, width) of the batches in pixels. In a `RunConfig` it follows the model's.
        aspect: how images of another shape are resized to `image_size`: "stretch" scales each axis separately, "keep"
            scales the image as a whole and pads it; losses ignore the padding. In a `RunConfig` it follows the model's.
        max_objects: N, the largest objects of an image that are kept; the others are marked as void.
        batch_size: B.
        draft: whether JPEG files much larger than the batches need are decoded at 1/2, 1/4 or 1/8 of their size.
        cache: where samples are kept between epochs at the size that the batches need: "memory", a folder, or None.
        train_size, val_size: use this many images, the first ones; None for all (for generated scenes: the reader's
            default number).
        partial_sequences: share of the training images whose sequence begins in the middle: a random choice of their
            objects is marked as found already. 0 in the paper. Not every mask head supports it.
        seed: of order, augmentation and generated scenes.
        transforms: random changes of training images.

    Raises:
        InputError: for a value out of range.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {"begin_anywhere": "partial_sequences"}

    dataset: str = "synthetic"
    root: str | None = None
    annotations: str | None = None
    val_annotations: str | None = None
    images: str | None = None
    val_images: str | None = None
    val_share: float | None = None
    crowds: str = "auto"
    image_size: tuple[int, int] = (64, 64)
    aspect: str = "stretch"
    max_objects: int = 20
    batch_size: int = 8
    draft: bool = False
    cache: str | None = None
    train_size: int | None = None
    val_size: int | None = None
    partial_sequences: float = 0.0
    seed: int = 0
    transforms: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", image_size(self.image_size))
        one_of("crowds", self.crowds, CROWDS)
        one_of("aspect", self.aspect, ASPECTS)
        require(self.val_share is None or 0 < self.val_share < 1, "val_share", "between 0 and 1", self.val_share)
        require(self.cache is None or bool(self.cache), "cache", "memory, a folder, or none", self.cache)
        require(0 <= self.partial_sequences <= 1, "partial_sequences", "in 0..1", self.partial_sequences)
        for name in ("max_objects", "batch_size"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("train_size", "val_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "at least 1", value)
