"""Run by `test_distribution.py`: three steps and a validation under a strategy; the chief writes what came of them.

Usage: distribution_run.py none|mirrored|multi_worker FOLDER ENCODER HEAD
"""

import dataclasses
import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from tiny import VOTING, arrays, tiny_model

from rsis_tf.config import DataConfig, TrainConfig
from rsis_tf.data.pipeline import tf_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.errors import InputError
from rsis_tf.training import compile_model
from rsis_tf.training.distribution import start

DATA = DataConfig(image_size=(64, 64), batch_size=4, max_objects=3)
# One to three objects a scene: the shares of a batch differ in their number of pairs.
SCENES = SyntheticDataset(size=(64, 64), length=12, seed=3, max_objects=3)
# The last batch has one image, so one replica has none.
VALIDATION = SyntheticDataset(size=(64, 64), length=5, seed=9, max_objects=3)
# Only the decoder's gradients are longer than the clip norm, so the scale of the others is seen in the moments.
TRAIN = TrainConfig(
    num_steps=3, learning_rate=1e-3, encoder_learning_rate=1e-3, weight_decay=1e-4, clip_norm=2.0, ema=0.9
)


class Steps(keras.callbacks.Callback):
    """Keeps the losses after every step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append({name: float(value) for name, value in logs.items()})


def main(strategy, folder, encoder, head):
    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    distribution = start(strategy, batch_size=DATA.batch_size)
    refused = ""
    if strategy == "mirrored":
        try:
            start(strategy, batch_size=3)
        except InputError as error:
            refused = str(error)
    with distribution.scope():
        # With the voting head, half of the sequences are partial.
        form = VOTING if head == "voting" else {}
        model = tiny_model(encoder=encoder, **form)
        # Steps that run again for their gradients give the same ones.
        compile_model(model, TRAIN.changed(recompute=head == "voting" and strategy != "none"))
    distribution.prepare(model)
    steps = Steps()
    data = dataclasses.replace(DATA, partial_sequences=0.5 if head == "voting" else 0.0)
    batches = distribution.batches(lambda **share: tf_batches(SCENES, data, training=True, **share))
    model.fit(batches, steps_per_epoch=3, shuffle=False, verbose=0, callbacks=[steps])
    batches = distribution.batches(lambda **share: tf_batches(VALIDATION, DATA, training=False, **share))
    validation = model.evaluate(batches, steps=2, verbose=0, return_dict=True)
    if distribution.chief:
        result = {
            "replicas": distribution.replicas,
            "refused": refused,
            "losses": [*steps.losses, validation],
            "weights": [variable.path for variable in model.weights],
            "moments": [variable.path for variable in model.optimizer.variables],
        }
        (folder / f"{strategy}.json").write_text(json.dumps(result))
        np.savez(folder / f"{strategy}.npz", *arrays([*model.weights, *model.optimizer.variables]))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), *sys.argv[3:])
