"""Measures one training step of a Keras model, as `rsis train` takes it. Started by against_pytorch.py.

A provider is a device with options: backend=jax or torch (default: tensorflow), tf32=1 (default: off), precision=bf16.
"""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from provider_options import read_known_options
from training_data import training_batch

from export.benchmarking.worker import Task, serve
from rsis_tf.errors import InputError

OPTIONS = {"backend": ("tensorflow", "jax", "torch"), "tf32": ("0", "1"), "precision": ("fp32", "bf16")}


def read_options(provider: str) -> tuple[str, dict[str, str]]:
    """Returns the device and the options, and sets those that hold for the whole process.

    Raises:
        InputError: for an option that does not exist.
    """
    device, options = read_known_options(provider, OPTIONS)
    os.environ["KERAS_BACKEND"] = options.get("backend", "tensorflow")
    # JAX would take most of the GPU's memory at once, and TF32 on its own.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "tensorfloat32" if options.get("tf32") == "1" else "float32"
    return device, options


def prepare(task: Task) -> tuple[dict[str, Any], Callable[[], object]]:
    """Loads the model, takes the first step, and returns its loss and the step to measure.

    Raises:
        InputError: see `read_options`, and if Keras does not compute on the device.
    """
    device, options = read_options(task.provider)
    from rsis_tf.engine import device as computes_on
    from rsis_tf.engine import limit_threads, quiet_start

    quiet_start()
    if task.threads:
        limit_threads(task.threads)
    if device == "cuda" and not any(name in computes_on() for name in ("cuda", "gpu")):
        raise InputError(f"expected a GPU that Keras can use, not {computes_on()}. Received: {task.provider}")
    from rsis_tf.config import TrainConfig
    from rsis_tf.models.loading import load_model
    from rsis_tf.training import compile_model
    from rsis_tf.training.building import build_for_training

    stored = load_model(task.path)
    config = stored.config
    half = options.get("precision") == "bf16"
    model = build_for_training(config, precision="mixed_bfloat16" if half else "float32")
    model.set_weights(stored.get_weights())
    model = compile_model(model, TrainConfig(num_steps=config.num_steps))
    images, targets = training_batch(batch=task.batch, objects=20, size=config.image_size[0])

    def step() -> Any:
        return model.train_on_batch(images, targets, return_dict=True)

    tf32 = device == "cuda" and options.get("tf32") == "1"
    facts = {"loss": float(step()["loss"]), "precision": "bf16" if half else "tf32" if tf32 else "fp32"}
    for _ in range(task.warm_up):
        step()
    return facts, step


if __name__ == "__main__":
    serve(prepare)
