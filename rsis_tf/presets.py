"""Settings that belong together, one function a preset; `train.py` starts from one and changes what it is told."""

from collections.abc import Callable

from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig


def synthetic() -> RunConfig:
    """Scenes made by the project: one to four shapes of three classes, 64×64, learnt from nothing in minutes on a CPU.

    `python train.py`
    """
    return RunConfig(
        model=ModelConfig(
            encoder="compact", hidden_size=64, min_channels=16, num_classes=4, num_steps=5, image_size=(64, 64)
        ),
        data=DataConfig(
            dataset="synthetic", image_size=(64, 64), max_objects=4, batch_size=16, train_size=4096, val_size=128
        ),
        train=TrainConfig(
            num_steps=5,
            epochs=6,
            learning_rate=2e-3,
            encoder_learning_rate=2e-3,
            weight_decay=0.0,
            schedule="cosine",
            clip_norm=5.0,
            mask_cross_entropy=1.0,
            class_weight=1.0,
        ),
    )


def custom() -> RunConfig:
    """Pictures of one's own, from nothing or from ImageNet features; the start for COCO files and label-map folders.

    `python train.py --dataset coco --data FOLDER`
    """
    return RunConfig(
        model=ModelConfig(
            encoder="compact", hidden_size=64, min_channels=16, num_classes=2, num_steps=20, image_size=(128, 128)
        ),
        data=DataConfig(dataset="coco", image_size=(128, 128), max_objects=20, batch_size=8, augment=True),
        train=TrainConfig(
            num_steps=20,
            epochs=60,
            learning_rate=2e-3,
            encoder_learning_rate=2e-3,
            weight_decay=0.0,
            schedule="cosine",
            clip_norm=5.0,
            mask_cross_entropy=1.0,
            class_weight=0.1,
        ),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {"custom": custom, "synthetic": synthetic}
