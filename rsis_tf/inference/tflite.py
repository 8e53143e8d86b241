"""Runs a TFLite file with LiteRT."""

import pathlib
from collections.abc import Callable

import numpy as np


def open_run(path: pathlib.Path, threads: int | None = None) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens a TFLite file with LiteRT (XNNPACK on the CPU).

    Returns:
        A function from (B, H, W, 3) pictures to the outputs by name; for one thread at a time.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    runner = interpreter.get_signature_runner("serving_default")

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return runner(image=images)

    return run
