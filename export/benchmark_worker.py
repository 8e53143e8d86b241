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

from export.device_memory import device_memory_mb
from rsis_tf.runtime import OUTPUTS, RuntimeInputError, open_graph, resize_image

Array = np.ndarray
Run = Callable[[Array], dict[str, Array]]
THRESHOLDS = ("stop_threshold", "mask_threshold")
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
"""Environment in which TensorFlow, PyTorch, JAX and ONNX Runtime see no GPU, if set before they are imported."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A model file ready to run.

    Attributes:
        run: (B, h, w, 3) → outputs by name.
        size: (h, w) it takes.
        batch: B it takes alone, or None for any.
        dtype: of its input.
        thresholds: `stop_threshold` and `mask_threshold` of the file, where it has them.
        precision: where the way of running decides it, not the file.
    """

    run: Run
    size: tuple[int, int]
    batch: int | None = None
    dtype: Any = np.uint8
    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    precision: str | None = None


def measure(task: Task, open_file: Callable[[pathlib.Path, Task], Opened] | None = None) -> dict[str, Any]:
    """Measures one file.

    Args:
        task: what to measure.
        open_file: how to open it; default: as the formats of the project are opened.

    Returns:
        Times in milliseconds, megabytes, and what decodes the answers.
    """
    name, _ = read_provider(task.provider)
    path = pathlib.Path(task.path)
    start = time.perf_counter()
    opened = (open_file or _open)(path, task)
    loaded, run = time.perf_counter() - start, opened.run
    if opened.batch not in (None, task.batch):
        raise RuntimeInputError(f"the file takes a batch of {opened.batch} alone. Received: {task.batch}")
    pictures = np.stack([resize_image(picture, opened.size) for picture in np.load(task.pictures)])
    pictures = pictures.astype(opened.dtype)
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
        "host_memory_mb": _peak_memory(),
        "device_memory_mb": device_memory_mb() if device_of(name) == "cuda" else None,
        "runs": task.repeat,
        "thresholds": opened.thresholds,
        **({"precision": opened.precision} if opened.precision else {}),
    }


def _padded(values: Array, steps: int) -> Array:
    """Fills up the steps that a file which stops early has not taken: zeros, so no object."""
    missing = steps - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2))


def _peak_memory() -> float:
    """Returns the most megabytes of main memory that this process has held."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # the system call also counts what the parent held when it started this process
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_provider(text: str) -> tuple[str, dict[str, str]]:
    """Returns the name and the options of a provider such as "cuda:use_tf32=0,io_binding=1".

    Raises:
        RuntimeInputError: for an option without a value.
    """
    name, _, rest = text.partition(":")
    options = [option.partition("=") for option in rest.split(",") if option]
    if not all(equals for _, equals, _ in options):
        raise RuntimeInputError(f"expected options NAME=VALUE after the provider. Received: {text}")
    return name, {key: value for key, _, value in options}


def is_cpu(name: str) -> bool:
    """Tells whether a provider is the CPU, by its short name or ONNX Runtime's own."""
    return name.lower() in ("cpu", "cpuexecutionprovider")


def device_of(name: str) -> str:
    """Returns where a provider keeps its tensors, in ONNX Runtime's words: "cuda" for NVIDIA's, else "cpu"."""
    return "cuda" if any(word in name.lower() for word in ("cuda", "tensorrt")) else "cpu"


def with_fallback(name: str, options: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Returns the providers to ask for, best first: what TensorRT cannot run goes to CUDA, and last to the CPU.

    Options that begin with trt_ are TensorRT's; those of CUDA may stand beside them, e.g.
    "tensorrt:trt_fp16_enable=1,use_tf32=0".
    """
    if "tensorrt" not in name.lower():
        return [(name, options)]
    own = {key: value for key, value in options.items() if key.startswith("trt_") or key == "device_id"}
    cuda = {key: value for key, value in options.items() if not key.startswith("trt_")}
    return [(name, own), ("cuda", cuda), ("cpu", {})]


def _open(path: pathlib.Path, task: Task) -> Opened:
    name, options = read_provider(task.provider)
    onnx = path.suffix == ".onnx" or (path / "step.onnx").is_file()
    if not onnx and not is_cpu(name):
        raise RuntimeInputError(f"the provider {name} runs ONNX files. Received: {path.name}")
    if onnx:
        return _open_onnx(path, name, options, task.threads)
    if path.suffix == ".tflite":
        from rsis_tf.inference.tflite import open_run

        return _described(path, open_run(path, task.threads or os.cpu_count()))
    from rsis_tf.engine import quiet_start

    quiet_start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(task.threads or 0)
    if path.suffix == ".keras":
        from rsis_tf.inference import KerasPredictor

        predictor = KerasPredictor(path)
        return Opened(
            run=lambda images: dict(zip(OUTPUTS, predictor.run(images), strict=True)),
            size=predictor.image_size,
            thresholds={"stop_threshold": predictor.stop_threshold},
        )
    from rsis_tf.inference.saved_model import open_run as open_saved

    return _described(path, open_saved(path))


def _described(path: pathlib.Path, run: Run) -> Opened:
    """Takes sizes and types from the JSON file beside an export."""
    described = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    batch, *_ = described["input"]["shape"]
    return Opened(
        run=run,
        size=tuple(described["image_size"]),
        batch=batch if isinstance(batch, int) else None,
        dtype=described["input"]["dtype"],
        thresholds={name: described[name] for name in THRESHOLDS},
    )


def _open_onnx(path: pathlib.Path, name: str, options: dict[str, str], threads: int | None) -> Opened:
    bind = options.pop("io_binding", "0") == "1" or options.get("enable_cuda_graph") == "1"
    graph = open_graph(path, providers=with_fallback(name, options), threads=threads)
    metadata = graph.get_modelmeta().custom_metadata_map
    taken = graph.get_inputs()[0]
    facts = {
        "size": tuple(json.loads(metadata["image_size"])),
        "batch": taken.shape[0] if isinstance(taken.shape[0], int) else None,
        "dtype": np.float32 if taken.type == "tensor(float)" else np.uint8,
        "thresholds": {name: float(metadata[name]) for name in THRESHOLDS},
    }
    if metadata.get("layout") == "stepwise":
        graph.stop_threshold = facts["thresholds"]["stop_threshold"]
        bind = False  # it always binds
    if not bind:
        return Opened(
            run=lambda images: dict(zip(OUTPUTS, graph.run(list(OUTPUTS), {"image": images}), strict=True)), **facts
        )
    import onnxruntime

    device = device_of(name)
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

    return Opened(run=run, **facts)


def main(open_file: Callable[[pathlib.Path, Task], Opened] | None = None) -> None:
    """Measures the task on standard input."""
    task = Task(**json.load(sys.stdin))
    try:
        result = measure(task, open_file)
    except (RuntimeInputError, OSError, KeyError, ImportError) as error:
        result = {"error": " ".join(str(error).split())}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
