"""Measures one training step of a Keras model, as `rsis train` takes it. Started by against_pytorch.py."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from training_data import training_batch

from export.benchmarking.worker import Task, serve


def prepare(task: Task) -> tuple[dict[str, Any], Callable[[], object]]:
    """Loads the model, takes the first step, and returns its loss and the step to measure."""
    from rsis_tf.engine import quiet_start

    quiet_start()
    import tensorflow as tf

    if task.threads:
        tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    from rsis_tf.config import TrainConfig
    from rsis_tf.models.loading import load_model
    from rsis_tf.training import compile_model

    model = load_model(task.path)
    config = model.config
    model = compile_model(model, TrainConfig(num_steps=config.num_steps))
    images, targets = training_batch(batch=task.batch, objects=20, size=config.image_size[0])

    def step() -> Any:
        return model.train_on_batch(images, targets, return_dict=True)

    facts = {"loss": float(step()["loss"]), "precision": "fp32"}
    for _ in range(task.warm_up):
        step()
    return facts, step


if __name__ == "__main__":
    serve(prepare)
