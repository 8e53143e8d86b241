"""Measures an ONNX export that stops early (layout "loop" or "stepwise") at a given number of steps.

The number is set, not found: random weights have no reason to stop. The provider is `cpu:steps=4`, for an image with
three objects and the step that finds none. The outputs are not compared, since those of the later steps are missing.
"""

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from export.benchmarking.worker import Task, read_provider, serve
from rsis_tf.errors import InputError
from rsis_tf.runtime import Predictor, resize_image


def prepare(task: Task) -> tuple[dict[str, Any], Callable[[], object]]:
    """Opens the file and returns the seconds that took and the step to measure.

    Raises:
        InputError: if the provider gives no number of steps.
    """
    device, options = read_provider(task.provider)
    if not options.get("steps", "").isdecimal():
        raise InputError(f"expected a provider with steps=N. Received: {task.provider}")
    start = time.perf_counter()
    steps = int(options["steps"])
    predictor = Predictor(task.path, providers=device, threads=task.threads, steps=steps, stop_mode="each")
    loaded = time.perf_counter() - start
    image = resize_image(np.load(task.images)[0], predictor.image_size)
    images = np.stack([image] * task.batch)

    def step() -> int:
        return predictor.run(images)[2].shape[1]

    for _ in range(task.warm_up + 1):
        found = step()
    if found != steps:
        raise InputError(f"expected a graph that takes {steps} steps. Received: {found} steps")
    return {"load_s": loaded}, step


if __name__ == "__main__":
    serve(prepare)
