"""Run by `test_backends.py` under another Keras backend: three steps of a given model, and a short training if asked.

Usage: `python backend_run.py FOLDER [stages]`
"""

import dataclasses
import json
import pathlib
import sys

from tiny import arrays, log_rows, tiny_trainer

import rsis_tf.models  # noqa: F401  (lets Keras read the model)
from rsis_tf.config import DataConfig, TrainConfig
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.training import compile_model
from rsis_tf.training.state import state_variables

THREE_STEPS = TrainConfig(num_steps=2, learning_rate=1e-3, encoder_learning_rate=1e-3, clip_norm=5.0, ema=0.5)
STAGED = {"num_steps": 2, "epochs": 2, "class_loss_after": 1, "finetune_after": 1, "ema": 0.9}


def batch():
    """Four scenes of 64 pixels: the deepest batch normalisation sees 16 values a channel.

    With the two values of a smaller batch its gradient is rounding noise, which Adam would scale up to whole steps.
    """
    data = DataConfig(image_size=(64, 64), batch_size=4, max_objects=2)
    return next(plain_batches(SyntheticDataset(size=(64, 64), length=4, seed=3, max_objects=2), data, training=False))


def three_steps(model):
    """Returns the losses of three steps on one batch, and of a validation after them."""
    compile_model(model, THREE_STEPS)
    images, targets = batch()
    losses = [model.train_on_batch(images, targets, return_dict=True) for _ in range(3)]
    losses.append(model.test_on_batch(images, targets, return_dict=True))
    return [{name: float(value) for name, value in step.items()} for step in losses]


def recomputed_step(folder):
    """Returns the losses of a second step after one whose decoder steps ran again for their gradients."""
    import keras

    model = keras.models.load_model(folder / "before.keras")
    compile_model(model, dataclasses.replace(THREE_STEPS, recompute=True))
    model.train_on_batch(*batch())
    return {name: float(value) for name, value in model.train_on_batch(*batch(), return_dict=True).items()}


def staged_training(run):
    """Returns the log of a training in two stages, whether it moved the encoder, and whether a resumed one kept it."""
    trainer = tiny_trainer(run, **STAGED)
    start = arrays(trainer.model.encoder.trainable_variables)
    trainer.fit()
    end = arrays(trainer.model.encoder.trainable_variables)
    moved = any((a != b).any() for a, b in zip(start, end, strict=True))
    again = tiny_trainer(run, **STAGED)
    again.fit(resume=True)  # nothing is left to train
    kept = all(
        (a == b).all() for a, b in zip(*(arrays(state_variables(t.model)) for t in (trainer, again)), strict=True)
    )
    return {"rows": log_rows(run), "moved": bool(moved), "kept": bool(kept)}


def main(folder, *, stages):
    import keras

    backend = keras.backend.backend()
    model = keras.models.load_model(folder / "before.keras")
    result = {"losses": three_steps(model)}
    model.save(folder / f"after-{backend}.keras")
    result["recomputed"] = recomputed_step(folder)
    if stages:
        result |= staged_training(folder / f"run-{backend}")
    (folder / f"result-{backend}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), stages="stages" in sys.argv[2:])
