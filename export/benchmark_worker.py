"""Measures one model file on one device in a process of its own, so that memory and caches are its alone.

Started by `export.benchmark`: reads a task as JSON from standard input, writes the result as JSON to standard output.
"""

import dataclasses
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from export.runtime import OUTPUTS, RuntimeInputError, open_graph, resize_image

Array = np.ndarray
Run = Callable[[Array], dict[str, Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What to measure.

    Attributes:
        path: `.keras`, `.onnx`, `.tflite`, or the folder of a SavedModel or a stepwise export.
        provider: "cpu", or an ONNX Runtime provider with options, e.g. "cuda:use_tf32=0,io_binding=1".
        batch: pictures in one run.
        threads: CPU threads, None for as many as there are cores.
        warm_up, repeat: runs before and in the measurement.
        pictures: `.npy` file with the pictures, (N, H, W, 3) uint8.
        answers: where to write what the model answers to them.
    """

    path: str
    provider: str
    batch: int
    threads: int | None
    warm_up: int
    repeat: int
    pictures: str
    answers: str


def measure(task: Task) -> dict[str, Any]:
    """Returns times in milliseconds, megabytes, and whatever keeps the measurement from being made as `error`."""
    path = pathlib.Path(task.path)
    start = time.perf_counter()
    run, size, fixed_batch, dtype = _open(path, task)
    loaded = time.perf_counter() - start
    if fixed_batch not in (None, task.batch):
        raise RuntimeInputError(f"the file takes a batch of {fixed_batch} alone")
    pictures = np.stack([resize_image(picture, size) for picture in np.load(task.pictures)]).astype(dtype)
    batches = [
        np.take(pictures, range(i, i + task.batch), axis=0, mode="wrap") for i in range(0, len(pictures), task.batch)
    ]
    answers = [run(batch) for batch in batches]
    steps = max(answer["stop"].shape[1] for answer in answers)
    joined = {name: np.concatenate([_padded(answer[name], steps) for answer in answers]) for name in OUTPUTS}
    np.savez(task.answers, **{name: values[: len(pictures)] for name, values in joined.items()})
    for i in range(task.warm_up):
        run(batches[i % len(batches)])
    times = []
    for i in range(task.repeat):
        start = time.perf_counter()
        run(batches[i % len(batches)])
        times.append(time.perf_counter() - start)
    milliseconds = 1000 * np.array(times)
    return {
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.percentile(milliseconds, 95)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "images_per_second": float(1000 * task.batch / np.median(milliseconds)),
        "load_s": loaded,
        "peak_memory_mb": _peak_memory(),
        "runs": task.repeat,
    }


def _padded(values: Array, steps: int) -> Array:
    """Fills up the steps that a file which stops early has not taken: zeros, so no object."""
    missing = steps - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2))


def _peak_memory() -> float:
    """Returns the most megabytes this process has held."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # the system call also counts what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _open(path: pathlib.Path, task: Task) -> tuple[Run, tuple[int, int], int | None, Any]:
    """Returns how to run a file, the size of picture and batch it takes, and the dtype."""
    name, _, text = task.provider.partition(":")
    options = dict(option.split("=", 1) for option in text.split(",") if option)
    onnx = path.suffix == ".onnx" or (path / "step.onnx").is_file()
    if not onnx and name != "cpu":
        raise RuntimeInputError(f"the provider {name} runs ONNX files")
    if onnx:
        return _open_onnx(path, name, options, task.threads)
    if path.suffix == ".tflite":
        from export.tflite import open_run

        described = json.loads(path.with_name(path.name + ".json").read_text())
        shape, dtype = described["input"]["shape"], described["input"]["dtype"]
        return open_run(path, task.threads or os.cpu_count()), tuple(shape[1:3]), shape[0], dtype
    from rsis_tf.engine import quiet_start

    quiet_start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(task.threads or 0)
    if path.suffix == ".keras":
        from rsis_tf.predictor import KerasPredictor

        predictor = KerasPredictor(path)
        size = predictor.model.config.image_size
        return lambda images: dict(zip(OUTPUTS, predictor.run(images), strict=True)), size, None, np.uint8
    from export.saved_model import open_run as open_saved

    described = json.loads(path.with_name(path.name + ".json").read_text())
    shape = described["input"]["shape"]
    batch = shape[0] if isinstance(shape[0], int) else None
    return open_saved(path), tuple(described["image_size"]), batch, described["input"]["dtype"]


def _open_onnx(
    path: pathlib.Path, name: str, options: dict[str, str], threads: int | None
) -> tuple[Run, tuple[int, int], int | None, Any]:
    bind = options.pop("io_binding", "0") == "1" or options.get("enable_cuda_graph") == "1"
    graph = open_graph(path, providers=[(name, options)], threads=threads)
    metadata = graph.get_modelmeta().custom_metadata_map
    taken = graph.get_inputs()[0]
    batch = taken.shape[0] if isinstance(taken.shape[0], int) else None
    dtype = np.float32 if taken.type == "tensor(float)" else np.uint8
    size = tuple(json.loads(metadata["image_size"]))
    if metadata.get("layout") == "stepwise":
        graph.stop_threshold = float(metadata["stop_threshold"])
        bind = False  # it always binds
    if not bind:
        return lambda x: dict(zip(OUTPUTS, graph.run(list(OUTPUTS), {"image": x}), strict=True)), size, batch, dtype
    import onnxruntime

    device = "cpu" if name == "cpu" else "cuda"
    bound: dict[str, Any] = {}

    def run(images: Array) -> dict[str, Array]:
        if not bound:  # a CUDA graph reads and writes the same places in every run
            bound["image"] = onnxruntime.OrtValue.ortvalue_from_numpy(images, device, 0)
            bound["binding"] = graph.io_binding()
            bound["binding"].bind_ortvalue_input("image", bound["image"])
            for output in OUTPUTS:
                bound["binding"].bind_output(output, device)
        bound["image"].update_inplace(images)
        graph.run_with_iobinding(bound["binding"])
        return dict(zip(OUTPUTS, bound["binding"].copy_outputs_to_cpu(), strict=True))

    return run, size, batch, dtype


def main() -> None:
    """Measures the task on standard input."""
    task = Task(**json.load(sys.stdin))
    try:
        result = measure(task)
    except (RuntimeInputError, OSError, KeyError, ImportError) as error:
        result = {"error": " ".join(str(error).split())}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
