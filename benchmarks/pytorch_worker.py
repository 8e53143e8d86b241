"""Measures the PyTorch version of the network as `export.benchmarking.worker` measures exported files.

Started by against_pytorch.py. A provider is a device of PyTorch with options: compile=1, tf32=1 (default: off),
precision=fp16, channels_last=1, hoisted=1 (see `pytorch_rendition`).
"""

import json
import os
import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from provider_options import read_known_options

from export.benchmarking.worker import Opened, Outputs, Task, main
from export.options import Thresholds
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from pytorch_rendition import Rendition

OPTIONS = {
    **dict.fromkeys(("compile", "tf32", "channels_last", "hoisted"), ("0", "1")),
    "precision": ("fp32", "fp16", "bf16"),
}


def read_options(provider: str) -> tuple[str, dict[str, str]]:
    """Returns the device and the options, and sets those that hold for the whole process.

    Raises:
        InputError: for an option that does not exist, and for a device that is unavailable.
    """
    import torch

    device, options = read_known_options(provider, OPTIONS)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"expected a GPU that PyTorch can use. Received: {provider}")
    tf32 = options.get("tf32") == "1"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    return device, options


def load(path: pathlib.Path, *, hoisted: bool = False) -> tuple["Rendition", tuple[int, int]]:
    """Returns the network in a `.npz` file with the JSON file beside it, and the size of its images."""
    import torch
    from pytorch_rendition import Rendition

    described = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    model = Rendition(**described["rendition"], hoisted=hoisted)
    with np.load(path) as stored:
        model.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})
    height, width = described["image_size"]
    return model, (height, width)


def open_rendition(path: pathlib.Path, task: Task) -> Opened:
    """Opens the weights.

    Raises:
        InputError: see `read_options`.
    """
    import torch

    device, options = read_options(task.provider)
    if task.threads:
        torch.set_num_threads(task.threads)
    model, size = load(path, hoisted=options.get("hoisted") == "1")
    model = model.eval()
    half = options.get("precision") == "fp16"
    channels_last = options.get("channels_last") == "1"
    model = model.to(
        device,
        dtype=torch.float16 if half else torch.float32,
        memory_format=torch.channels_last if channels_last else torch.preserve_format,
    )
    # Many processes compile at the same time; each would start a helper for every core.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    forward = torch.compile(model) if options.get("compile") == "1" else model

    def run(images: np.ndarray) -> Outputs:
        with torch.inference_mode():
            outputs = forward(torch.from_numpy(images).to(device), channels_last=channels_last)
            masks, classes, stop = (output.float().cpu().numpy() for output in outputs)
        return masks, classes, stop

    precision = "fp16" if half else "tf32" if options.get("tf32") == "1" and device == "cuda" else "fp32"
    thresholds = Thresholds(stop_threshold=0.5, mask_threshold=0.5)
    return Opened(run=run, size=size, thresholds=thresholds, precision=precision)


if __name__ == "__main__":
    main(open_rendition)
