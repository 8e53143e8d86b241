"""Measures the PyTorch version of the network as `export.benchmarking.worker` measures exported files.

Started by against_pytorch.py. A provider is a device of PyTorch with options: compile=1, tf32=1 (default: off),
precision=fp16, channels_last=1.
"""

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from export.benchmarking.worker import Opened, Outputs, Task, main, read_provider
from export.options import Thresholds
from rsis_tf.errors import InputError

OPTIONS = {"compile": ("0", "1"), "tf32": ("0", "1"), "precision": ("fp32", "fp16"), "channels_last": ("0", "1")}


def open_rendition(path: pathlib.Path, task: Task) -> Opened:
    """Opens the weights in a `.npz` file with the JSON file beside it.

    Raises:
        InputError: for an option that does not exist, and for a device that is unavailable.
    """
    import torch
    from pytorch_rendition import Rendition

    device, options = read_provider(task.provider)
    for name, value in options.items():
        if value not in OPTIONS.get(name, ()):
            raise InputError(f"expected options of {OPTIONS}. Received: {name}={value}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"expected a GPU that PyTorch can use. Received: {task.provider}")
    if task.threads:
        torch.set_num_threads(task.threads)
    tf32 = options.get("tf32") == "1"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    described = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    model = Rendition(**described["rendition"]).eval()
    with np.load(path) as stored:
        model.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})
    half = options.get("precision") == "fp16"
    channels_last = options.get("channels_last") == "1"
    model = model.to(
        device,
        dtype=torch.float16 if half else torch.float32,
        memory_format=torch.channels_last if channels_last else torch.preserve_format,
    )
    forward = torch.compile(model) if options.get("compile") == "1" else model

    def run(images: np.ndarray) -> Outputs:
        with torch.inference_mode():
            outputs = forward(torch.from_numpy(images).to(device), channels_last=channels_last)
            masks, classes, stop = (output.float().cpu().numpy() for output in outputs)
        return masks, classes, stop

    precision = "fp16" if half else "tf32" if tf32 else "fp32"
    height, width = described["image_size"]
    thresholds = Thresholds(stop_threshold=0.5, mask_threshold=0.5)
    return Opened(run=run, size=(height, width), thresholds=thresholds, precision=precision)


if __name__ == "__main__":
    main(open_rendition)
