"""Settings that belong together, one function for each preset; `rsis train` starts from one and applies its options."""

from collections.abc import Callable
from typing import Any

from rsis_tf.config.data import DataConfig, dataset_name
from rsis_tf.config.model import ModelConfig
from rsis_tf.config.run import RunConfig
from rsis_tf.config.training import TrainConfig


def leaves() -> RunConfig:
    """Generated rosette plants: one to ten leaves, 96×96, trained from random weights in minutes on a CPU.

    `rsis train`

    The recipe of `custom` with a small encoder and Muon. The plants differ enough from each other to need no
    augmentation, so a training step costs less. `docs/results.md` holds the scores of five seeds.
    """
    return custom().changed(
        **_GENERATED,
        num_classes=2,
        num_steps=10,
        image_size=(96, 96),
        dataset="leaves",
        max_objects=10,
        train_size=4096,
        epochs=4,
        class_weight=0.1,
    )


def shapes() -> RunConfig:
    """Generated scenes: one to four shapes of three classes, 64×64, trained from random weights in minutes on a CPU.

    `rsis train --dataset shapes`

    The recipe of `custom` with a small encoder and Muon, as in `leaves`. `docs/results.md` holds the scores of five
    seeds.
    """
    return custom().changed(
        **_GENERATED,
        num_classes=4,
        num_steps=4,
        image_size=(64, 64),
        dataset="shapes",
        max_objects=4,
        train_size=3584,
        epochs=3,
        class_weight=2.0,
    )


def paper_leaves() -> RunConfig:
    """The plants of `leaves` with the paper's decoder: no neck, and masks by a convolution.

    `rsis train --preset paper`

    Four of its ConvLSTM stages, cross-entropy beside soft IoU and a cosine schedule let it learn in minutes.
    """
    return _with_the_papers_decoder(leaves())


def paper_shapes() -> RunConfig:
    """The scenes of `shapes` with the paper's decoder, as in `paper_leaves`.

    `rsis train --preset paper --dataset shapes`
    """
    return _with_the_papers_decoder(shapes())


def _with_the_papers_decoder(settings: RunConfig) -> RunConfig:
    """Returns the settings of a generated dataset with the paper's decoder and a training that suits it."""
    model = settings.changed(
        min_channels=8,
        neck_channels=0,
        mask_head="convolution",
        class_features="pooled",
        partial_sequences=0.0,
        train_size=4096,
    )
    train = TrainConfig(
        epochs=8,
        learning_rate=3e-3,
        encoder_learning_rate=3e-3,
        weight_decay=0.0,
        schedule="cosine",
        clip_norm=5.0,
        mask_cross_entropy=5.0,
        class_weight=settings.train.losses.class_weight,
    )
    return RunConfig(model=model.model, data=model.data, train=train)


def custom() -> RunConfig:
    """Your own images: the recipe of `nuclei` with augmentation that keeps images upright, and classes under the mask.

    `rsis train --dataset coco --data FOLDER`

    Its stages are wider: with several classes, they have more to tell apart than those of `nuclei`. Its images have
    256×256 pixels; small objects need more (`--image-size`).
    """
    return _few_images().changed(
        hidden_size=64, min_channels=16, class_features="mask", augmentation="paper", class_weight=1.0
    )


def nuclei() -> RunConfig:
    """Nuclei in microscopy images at 384×384: a neck, masks by voting, partial sequences, Muon.

    `rsis train --preset nuclei --data FOLDER`

    153 images and 50 minutes of one core gave AP50 0.89, SBD 0.83 and |DiC| 1.07 on 35 others (BBBC038, up to 20 nuclei
    each), means of three seeds in bfloat16; `docs/recipe.md` lists the experiments and their results.
    """
    return _few_images().changed(
        image_size=(384, 384),
        batch_size=4,
        zoom=(0.75, 1.25),
        found_by_votes=0.5,
        epochs=50,
    )


def _few_images() -> RunConfig:
    """Returns the recipe for a hundred images and an hour on a CPU (`docs/recipe.md`)."""
    return RunConfig(
        model=ModelConfig(
            encoder="mobilenet_v2",
            hidden_size=48,
            min_channels=8,
            neck_channels=32,
            mask_head="voting",
            decoder_stages=4,
            num_classes=2,
            num_steps=20,
            image_size=(256, 256),
        ),
        data=DataConfig(
            dataset="coco",
            max_objects=20,
            batch_size=8,
            augment=True,
            augmentation="strong",
            draft=True,
            partial_sequences=1.0,
        ),
        train=TrainConfig(
            sequence_length=6,
            epochs=100,
            optimizer="muon",
            learning_rate=4e-3,
            encoder_learning_rate=6e-4,
            encoder_weights="imagenet",
            encoder_batch_norm="frozen",
            weight_decay=0.0,
            schedule="cosine",
            clip_norm=5.0,
            mask_cross_entropy=1.0,
            class_weight=0.1,
            stop_weight=1.0,
            ema=0.99,
            calibrate_objectness=True,
        ),
    )


def paper() -> RunConfig:
    """`custom` with the paper's decoder, losses, rates and curriculum, those of its leaves (arXiv 1712.00617).

    Leaves have one class; the class loss begins at the epoch of the paper's Pascal VOC.

    `rsis train --preset paper --dataset coco --data FOLDER`

    The encoder is that of `custom`, so that the two can be compared.
    """
    settings = custom().changed(
        min_channels=0,
        neck_channels=0,
        mask_head="convolution",
        class_features="pooled",
        decoder_stages=5,
        partial_sequences=0.0,
    )
    return RunConfig(model=settings.model, data=settings.data, train=cvppp().train.changed(class_loss_after=20))


def voc() -> RunConfig:
    """Pascal VOC 2012 with SBD, as in the paper (arXiv 1712.00617, section 4).

    `rsis train --preset voc --data FOLDER`

    The original's command is `train.py -model_name NAME --resize` with the defaults of its `src/args.py`. The paper
    reports AP at an IoU of 0.5 on VOC val: 57.6 with ResNet-101, 53.0 with ResNet-50, 46.5 with VGG16 (its table 5;
    46.2 in its table of the state of the art). This project has measured no scores.

    As in the original, patience (15 epochs) starts the stop loss long before its epoch 3000, and `--augment` zooms
    between 0.7 and 1.4 (the command above leaves augmentation off).
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=128, num_classes=21, num_steps=10, image_size=(256, 256)),
        data=DataConfig(dataset="voc", max_objects=20, batch_size=28, draft=True, zoom=(0.7, 1.4), **_WARP),
        train=TrainConfig(
            **_PAPER,
            epochs=4000,
            stop_weight=0.5,
            class_loss_after=20,
            stop_loss_after=3000,
            patience=15,
            patience_stop=60,
        ),
    )


def cityscapes() -> RunConfig:
    """Cityscapes at 256×512, as in the paper (arXiv 1712.00617, section 4).

    `rsis train --preset cityscapes --data FOLDER`

    The original's command is `scripts/train_cityscapes.sh`. The weight of the stop loss is the paper's, 1.0; the
    script leaves it at 0.5. The paper reports on the test set AP 5.8 and AP at an IoU of 0.5 of 13.8 (official
    evaluation). This project has measured no scores.
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=128, num_classes=9, num_steps=20, image_size=(256, 512)),
        data=DataConfig(dataset="cityscapes", max_objects=20, batch_size=32, augment=True, zoom=(1.0, 1.0), **_WARP),
        train=TrainConfig(
            **_PAPER,
            epochs=10000,
            stop_weight=1.0,
            class_loss_after=60,
            stop_loss_after=100,
            finetune_after=20,
            patience=25,
            patience_stop=500,
            curriculum_learning=True,
            steps_cl=1,
            min_steps=5,
        ),
    )


def cvppp() -> RunConfig:
    """Leaves of CVPPP A1 at 400×400, as in the paper (arXiv 1712.00617, section 4).

    `rsis train --preset cvppp --data FOLDER`

    The original's command is `scripts/train_leaves.sh`. The hidden size is the paper's, 64; the script leaves it at
    128. The paper reports on the test set a symmetric best Dice of 70.6 ± 11.2 and a difference in count of
    1.2 ± 1.1. This project has measured no scores.
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=64, num_classes=2, num_steps=20, image_size=(400, 400)),
        data=DataConfig(dataset="cvppp", max_objects=20, batch_size=20, augment=True, zoom=(0.7, 1.0), **_WARP),
        train=TrainConfig(
            **_PAPER,
            epochs=10000,
            stop_weight=0.1,
            class_loss_after=-1,
            stop_loss_after=500,
            patience=30,
            patience_stop=500,
            curriculum_learning=True,
            steps_cl=1,
            min_steps=5,
        ),
    )


_GENERATED: dict[str, Any] = {
    "encoder": "compact",
    "encoder_weights": "none",
    "encoder_batch_norm": "train",
    "optimizer": "muon",
    "learning_rate": 6e-3,
    "encoder_learning_rate": 6e-3,
    "batch_size": 16,
    "augment": False,
    "val_size": 128,
    "sequence_length": 4,
}
"""What the trainings on generated images have in common."""

_PAPER: dict[str, Any] = {
    "learning_rate": 1e-3,
    "encoder_learning_rate": 1e-6,
    "encoder_weights": "imagenet",
    "weight_decay": 1e-6,
    "encoder_weight_decay": 1e-6,
    "optimizer": "adam",
    "encoder_optimizer": "adam",
    "mask_weight": 1.0,
    "class_weight": 0.1,
    "stop_balance": 0.5,
}
"""What the paper's three trainings have in common: defaults of the original's `src/args.py` that its commands keep."""

_WARP: dict[str, Any] = {"rotation": 10.0, "translation": 0.1, "shear": 0.1, "border": "replicate"}
"""Augmentation of the original's code, apart from the zoom. Its shear of 0.1 acts as degrees."""

PRESETS: dict[str, Callable[[], RunConfig]] = {
    "cityscapes": cityscapes,
    "custom": custom,
    "cvppp": cvppp,
    "leaves": leaves,
    "nuclei": nuclei,
    "paper": paper,
    "shapes": shapes,
    "voc": voc,
}

VARIANTS: dict[str, dict[str, Callable[[], RunConfig]]] = {
    "leaves": {"custom": leaves, "paper": paper_leaves},
    "shapes": {"custom": shapes, "paper": paper_shapes},
}
"""Generated dataset → the variants of two presets for it."""

EARLIER_PRESETS: dict[str, str] = {"synthetic": "shapes"}
"""Name of a preset in earlier versions → its name today."""

synthetic, paper_synthetic = shapes, paper_shapes
"""Earlier names of two functions."""


def preset_name(name: str) -> str:
    """Returns the name of a preset today, given that or an earlier one."""
    return EARLIER_PRESETS.get(name, name)


def preset(name: str | None, *, dataset: str | None) -> RunConfig:
    """Returns the settings that a training starts from.

    Args:
        name: a key of `PRESETS` or an earlier name; None for `custom`.
        dataset: name of the dataset, of which the generated ones have variants of some presets; None if it is the
            preset's own.
    """
    name = preset_name(name or "custom")
    return VARIANTS.get(dataset_name(dataset or ""), {}).get(name, PRESETS[name])()
