"""Settings that belong together, one function a preset; `train.py` starts from one and changes what it is told."""

import dataclasses
from collections.abc import Callable

from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig


def synthetic() -> RunConfig:
    """Scenes made by the project: one to four shapes of three classes, 64×64, trained from nothing in minutes on a CPU.

    `python train.py`

    The recipe of `custom` with a small encoder. The scenes differ enough among themselves to need no augmentation, so
    every training step costs less. `docs/results.md` holds the scores of five seeds.
    """
    settings = custom()
    return RunConfig(
        model=dataclasses.replace(settings.model, encoder="compact", num_classes=4, num_steps=4, image_size=(64, 64)),
        data=dataclasses.replace(
            settings.data,
            dataset="synthetic",
            image_size=(64, 64),
            max_objects=4,
            batch_size=16,
            augment=False,
            train_size=4096,
            val_size=128,
        ),
        train=dataclasses.replace(
            settings.train,
            num_steps=4,
            train_steps=4,
            epochs=4,
            learning_rate=3e-3,
            encoder_learning_rate=3e-3,
            encoder_weights="none",
            encoder_batch_norm="train",
        ),
    )


def paper_synthetic() -> RunConfig:
    """The scenes of `synthetic` with the paper's decoder: no neck, a convolution draws the mask.

    `python train.py --preset paper`

    Four of its ConvLSTM stages, cross-entropy beside soft IoU and a cosine schedule make it learn in minutes.
    """
    settings = synthetic()
    return RunConfig(
        model=dataclasses.replace(
            settings.model, min_channels=8, neck_channels=0, mask_head="convolution", class_features="pooled"
        ),
        data=dataclasses.replace(settings.data, begin_anywhere=0.0),
        train=TrainConfig(
            num_steps=4,
            epochs=8,
            learning_rate=3e-3,
            encoder_learning_rate=3e-3,
            weight_decay=0.0,
            schedule="cosine",
            clip_norm=5.0,
            mask_cross_entropy=5.0,
            class_weight=2.0,
        ),
    )


def custom() -> RunConfig:
    """Pictures of one's own: `nuclei` with augmentation that keeps what is up, and classes told by what masks cover.

    `python train.py --dataset coco --data FOLDER`
    """
    settings = nuclei()
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, class_features="mask"),
        data=dataclasses.replace(settings.data, augmentation="paper"),
        train=dataclasses.replace(settings.train, class_weight=1.0),
    )


def nuclei() -> RunConfig:
    """Nuclei in microscopy pictures at 256×256: a neck, masks by voting, sequences that begin anywhere.

    `python train.py --preset nuclei --data FOLDER`

    153 pictures and 69 minutes on two cores gave AP50 0.87, SBD 0.83 and |DiC| 1.00 on 35 others (BBBC038, up to 20
    nuclei each); `docs/recipe.md` holds what was tried and what came of it.
    """
    return RunConfig(
        model=ModelConfig(
            encoder="mobilenet_v2",
            hidden_size=64,
            min_channels=16,
            neck_channels=32,
            mask_head="voting",
            decoder_stages=4,
            num_classes=2,
            num_steps=20,
            image_size=(256, 256),
        ),
        data=DataConfig(
            dataset="coco",
            image_size=(256, 256),
            max_objects=20,
            batch_size=8,
            augment=True,
            augmentation="strong",
            draft=True,
            begin_anywhere=1.0,
        ),
        train=TrainConfig(
            num_steps=20,
            train_steps=6,
            epochs=150,
            learning_rate=2e-3,
            encoder_learning_rate=3e-4,
            encoder_weights="imagenet",
            encoder_batch_norm="frozen",
            weight_decay=0.0,
            schedule="cosine",
            clip_norm=5.0,
            mask_cross_entropy=1.0,
            class_weight=0.1,
            stop_weight=1.0,
            ema=0.99,
            choose_stop_threshold=True,
        ),
    )


def paper() -> RunConfig:
    """`custom` with the paper's decoder, losses, rates and curriculum, those of its leaves (arXiv 1712.00617).

    Leaves have one class; the class loss begins where it does for Pascal VOC.

    `python train.py --preset paper --dataset coco --data FOLDER`

    The encoder is that of `custom`, so that the two can be compared.
    """
    settings = custom()
    return RunConfig(
        model=dataclasses.replace(
            settings.model,
            min_channels=0,
            neck_channels=0,
            mask_head="convolution",
            class_features="pooled",
            decoder_stages=5,
        ),
        data=dataclasses.replace(settings.data, begin_anywhere=0.0),
        train=dataclasses.replace(cvppp().train, class_loss_after=20),
    )


def voc() -> RunConfig:
    """Pascal VOC 2012 with SBD, as in the paper (arXiv 1712.00617, section 4).

    `python train.py --preset voc --data FOLDER`

    The original's command is `train.py -model_name NAME --resize` with the defaults of its `src/args.py`. The paper
    reports AP at an IoU of 0.5 on VOC val: 57.6 with ResNet-101, 53.0 with ResNet-50, 46.5 with VGG16 (its table 5;
    46.2 in its table of the state of the art). No scores have been measured here.

    As in the original, patience (15 epochs) starts the stop loss long before its epoch 3000, and `--augment` zooms
    between 0.7 and 1.4 (the command above leaves augmentation off).
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=128, num_classes=21, num_steps=10, image_size=(256, 256)),
        data=DataConfig(
            dataset="voc", image_size=(256, 256), max_objects=20, batch_size=28, draft=True, zoom=(0.7, 1.4), **_WARP
        ),
        train=TrainConfig(
            **_PAPER,
            num_steps=10,
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

    `python train.py --preset cityscapes --data FOLDER`

    The original's command is `scripts/train_cityscapes.sh`. The weight of the stop loss is the paper's, 1.0; the
    script leaves it at 0.5. The paper reports on the test set AP 5.8 and AP at an IoU of 0.5 of 13.8 (official
    evaluation). No scores have been measured here.
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=128, num_classes=9, num_steps=20, image_size=(256, 512)),
        data=DataConfig(
            dataset="cityscapes",
            image_size=(256, 512),
            max_objects=20,
            batch_size=32,
            augment=True,
            zoom=(1.0, 1.0),
            **_WARP,
        ),
        train=TrainConfig(
            **_PAPER,
            num_steps=20,
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

    `python train.py --preset cvppp --data FOLDER`

    The original's command is `scripts/train_leaves.sh`. The hidden size is the paper's, 64; the script leaves it at
    128. The paper reports on the test set a symmetric best Dice of 70.6 ± 11.2 and a difference in count of
    1.2 ± 1.1. No scores have been measured here.
    """
    return RunConfig(
        model=ModelConfig(encoder="resnet101", hidden_size=64, num_classes=2, num_steps=20, image_size=(400, 400)),
        data=DataConfig(
            dataset="cvppp",
            image_size=(400, 400),
            max_objects=20,
            batch_size=20,
            augment=True,
            zoom=(0.7, 1.0),
            **_WARP,
        ),
        train=TrainConfig(
            **_PAPER,
            num_steps=20,
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


_PAPER = {
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

_WARP = {"rotation": 10.0, "translation": 0.1, "shear": 0.1, "border": "replicate"}
"""Augmentation of the original's code, apart from the zoom. Its shear of 0.1 acts as degrees."""

PRESETS: dict[str, Callable[[], RunConfig]] = {
    "cityscapes": cityscapes,
    "custom": custom,
    "cvppp": cvppp,
    "nuclei": nuclei,
    "paper": paper,
    "synthetic": synthetic,
    "voc": voc,
}

SYNTHETIC_PRESETS: dict[str, Callable[[], RunConfig]] = {"custom": synthetic, "paper": paper_synthetic}
"""What two presets for your own data are when the scenes made by the project are trained on instead."""


def preset(name: str | None, *, synthetic: bool) -> RunConfig:
    """Returns the settings that a training starts from.

    Args:
        name: a key of `PRESETS`; None for `synthetic` or `custom`.
        synthetic: whether the scenes made by the project are trained on.
    """
    name = name or "custom"
    return SYNTHETIC_PRESETS[name]() if synthetic and name in SYNTHETIC_PRESETS else PRESETS[name]()
