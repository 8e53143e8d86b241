"""The dataset's settings."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar

from rsis_tf.config.checks import Between, OneOf, Seed, Share, ShareInside, Side, check_fields, require
from rsis_tf.config.grouped import Grouped
from rsis_tf.config.model import ASPECTS

AUGMENTATION_NAMES = ("paper", "strong", "microscopy")
"""The keys of `rsis_tf.data.augment.AUGMENTATIONS`."""

BORDERS = ("black", "replicate")
CROWDS = ("auto", "ignore", "objects")

EARLIER_DATASETS: Mapping[str, str] = {"synthetic": "shapes"}
"""Name of a dataset in earlier versions → its name today."""

_Side = Annotated[float, Between(0.1, 4)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training images.

    Attributes:
        augment: whether training images are flipped and warped.
        augmentation: the ranges: "paper"; "strong" with quarter turns and colour changes; or "microscopy", which also
            changes each channel by itself, the gamma and the sharpness, and sometimes inverts the image.
        rotation: largest angle in degrees, in both directions. None takes the value of `augmentation`, here and in the
            next four fields.
        translation: largest shift as a share of height and width, in both directions.
        shear: largest shear angle in degrees, in both directions.
        zoom: (smallest, largest) side of the part shown, as a share of the image's side; below 1 enlarges the objects.
        border: what is shown outside of a warped image: "black" (labelled background), or "replicate": the outermost
            pixels and their labels, as in the original code.
        crop: training images keep their shape and are scaled until they cover `image_size`; a random part of that size
            is taken, as the original does without `--resize`. Validation images follow `aspect`.
        copy_paste: share of the training images into which a random half of the objects of another training image is
            pasted, augmented by itself (Ghiasi et al., arXiv 2012.07177).
    """

    augment: bool = False
    augmentation: Annotated[str, OneOf(AUGMENTATION_NAMES)] = "paper"
    rotation: Annotated[float, Between(0, 180)] | None = None
    translation: Share | None = None
    shear: Annotated[float, Between(0, 80)] | None = None
    zoom: tuple[_Side, _Side] | None = None
    border: Annotated[str, OneOf(BORDERS)] | None = None
    crop: bool = False
    copy_paste: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.zoom is not None:
            ordered = self.zoom[0] <= self.zoom[1]
            require(ordered, "zoom", "two numbers in 0.1..4, the smaller one first", self.zoom)


@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class DataConfig(Grouped):
    """Which images are read, and how they become batches.

    The constructor also takes the fields of `AugmentationConfig` by their names: `DataConfig(augment=True)`.

    Attributes:
        dataset: name of a reader in `rsis_tf.data`. An earlier name is replaced by today's.
        root: the dataset's folder; None for generated images, or where the files are named.
        annotations, val_annotations: annotation files for training and for validation ("coco" only); None to find them
            in `root`.
        images, val_images: folders of their images; None for the folder of the annotation file.
        val_share: share of the images of a dataset without validation split ("coco", "dsb2018" and "yolo") that is kept
            for validation, chosen by name (`rsis_tf.data.readers.validation_share`); None to use the splits of the
            dataset.
        crowds: what COCO annotations with `iscrowd` 1 mean: "ignore", "objects", or "auto": ignored, except for the
            brush masks of CVAT, which sets the flag on every one of them.
        image_size: (height, width) of the batches in pixels. In a `RunConfig` it follows the model's.
        aspect: how images of another shape are resized to `image_size`: "stretch" scales each axis separately, "keep"
            scales the image as a whole and pads it; losses ignore the padding. In a `RunConfig` it follows the model's.
        max_objects: N, the largest objects of an image that are kept; the others are marked as void. Generated plants
            ("leaves") have no more than N leaves.
        batch_size: B.
        draft: whether JPEG files much larger than the batches need are decoded at 1/2, 1/4 or 1/8 of their size.
        cache: where samples are kept between epochs at the size that the batches need: "memory", a folder, or None.
        train_size, val_size: use this many images, the first ones; None for all (for generated images: the reader's
            default number).
        partial_sequences: share of the training images whose sequence begins in the middle: a random choice of their
            objects is marked as found already. 0 in the paper. Not every mask head supports it.
        found_by_votes: share of the sequences that begin in the middle in which the objects found so far are covered as
            the model's own votes cover them, instead of by their true masks.
        seed: of order, augmentation and generated images.
        transforms: random changes of training images.

    Raises:
        InputError: for a value out of range.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {"begin_anywhere": "partial_sequences"}

    dataset: str = "shapes"
    root: str | None = None
    annotations: str | None = None
    val_annotations: str | None = None
    images: str | None = None
    val_images: str | None = None
    val_share: ShareInside | None = None
    crowds: Annotated[str, OneOf(CROWDS)] = "auto"
    image_size: tuple[Side, Side] = (64, 64)
    aspect: Annotated[str, OneOf(ASPECTS)] = "stretch"
    max_objects: Annotated[int, Between(1, 30_000)] = 20
    batch_size: Annotated[int, Between(1, 65_536)] = 8
    draft: bool = False
    cache: str | None = None
    train_size: Annotated[int, Between(1, 1_000_000_000)] | None = None
    val_size: Annotated[int, Between(1, 1_000_000_000)] | None = None
    partial_sequences: Share = 0.0
    found_by_votes: Share = 0.0
    seed: Seed = 0
    transforms: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "dataset", dataset_name(self.dataset))
        require(self.cache is None or bool(self.cache), "cache", "memory, a folder, or none", self.cache)


def dataset_name(name: str) -> str:
    """Returns the name of a dataset today, given that or an earlier one."""
    return EARLIER_DATASETS.get(name, name)
