"""Measures products of two square matrices, by PyTorch, or by NumPy where PyTorch is missing.

Their rate gives the floor of a network's time on this machine. Started by against_pytorch.py; the provider is that of
`pytorch_worker`.
"""

import importlib.util
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from export.benchmarking.worker import Task, read_provider, serve

SIDE = {"cpu": 1536, "cuda": 8192}
PRODUCTS = 5
"""In one run, so that it takes about as long as a prediction."""


def prepare(task: Task) -> tuple[dict[str, Any], Callable[[], object]]:
    """Returns the multiply-adds of a run, and the step to measure."""
    device, options = read_provider(task.provider)
    side = SIDE[device]
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, side, side), np.float32)
    step: Callable[[], object]
    if device == "cpu" and importlib.util.find_spec("torch") is None:
        left, right = values

        def step() -> object:
            return [left @ right for _ in range(PRODUCTS)]
    else:
        import torch
        from pytorch_worker import read_options

        read_options(task.provider)
        half = options.get("precision") == "fp16"
        first, second = torch.from_numpy(values).to(device, torch.float16 if half else torch.float32)

        def step() -> object:
            with torch.inference_mode():
                products = [first @ second for _ in range(PRODUCTS)]
            return torch.cuda.synchronize() if device == "cuda" else products

    for _ in range(task.warm_up + 1):
        step()
    precision = options.get("precision", "tf32" if options.get("tf32") == "1" else "fp32")
    return {"precision": precision, "multiply_adds": PRODUCTS * side**3}, step


if __name__ == "__main__":
    serve(prepare)
