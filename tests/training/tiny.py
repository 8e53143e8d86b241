"""A training run of seconds: a small model on four synthetic scenes."""

import csv

import keras

from rsis_tf.config import DataConfig, ModelConfig, TrainConfig
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.training.building import build_for_training
from rsis_tf.training.trainer import Trainer

DATA = DataConfig(image_size=(32, 32), batch_size=2, max_objects=2)
SCENES = SyntheticDataset(size=(32, 32), length=4, seed=3, max_objects=2)
VOTING = {"neck_channels": 8, "mask_head": "voting", "class_features": "mask", "decoder_stages": 4}
"""Fields of a model whose masks are voted for."""


def tiny_model(*, seed=0, precision="float32", **config):
    keras.utils.set_random_seed(seed)
    config = {"encoder": "compact", "hidden_size": 16, "num_classes": 4, "num_steps": 3, **config}
    return build_for_training(ModelConfig(image_size=(32, 32), **config), precision=precision)


def tiny_trainer(run, model=None, *, callbacks=(), limit=None, reading=None, **config):
    run.mkdir(exist_ok=True)
    config = TrainConfig(**{"num_steps": 3, "learning_rate": 1e-2, "epochs": 4, **config})
    options = {} if reading is None else {"reading": reading}
    return Trainer(
        model=model or tiny_model(precision=config.precision, dropout=0.2),
        config=config,
        run=run,
        train_batches=lambda epoch: plain_batches(SCENES, DATA, training=True, epoch=epoch),
        val_batches=lambda: plain_batches(SCENES, DATA, training=False),
        steps_per_epoch=2,
        validation_steps=2,
        callbacks=callbacks,
        limit=limit,
        **options,
    )


def log_rows(run):
    """Rows of log.csv as numbers, without the seconds."""
    with (run / "log.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)
        ]


def arrays(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
