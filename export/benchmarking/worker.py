"""Measures one model file on one device, in its own process, so that memory and caches are not shared.

Started by `export.benchmarking.process`, which describes what is read from standard input and written to standard
output.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from export.benchmarking.device_memory import device_memory_mb
from export.options import Thresholds
from rsis_tf.errors import InputError
from rsis_tf.inference import find_model, open_model
from rsis_tf.runtime import OUTPUTS, open_graph, resize_image

Array = np.ndarray
Outputs = tuple[Array, Array, Array]
"""masks (B, T, h, w), classes (B, T, K) and stop (B, T), probabilities."""
Provider = tuple[str, dict[str, str]]
"""Name and options."""
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
"""Environment in which TensorFlow, PyTorch, JAX and ONNX Runtime see no GPU, if it is set before their import."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What to measure.

    Attributes:
        path: a file or folder that `rsis_tf.inference.open_model` opens.
        provider: "cpu", or a provider of ONNX Runtime with options, e.g. "cuda:use_tf32=0,io_binding=1".
        batch: images in one run.
        threads: CPU threads, None for one per core.
        warm_up: number of runs before the measurement.
        images: `.npy` file of (N, H, W, 3) uint8.
        outputs: `.npz` file to write the outputs for these images to.
        verify: whether to compare an exported file with the SHA-256 beside it.
    """

    path: str
    provider: str
    batch: int
    threads: int | None
    warm_up: int
    images: str
    outputs: str
    verify: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A model file that is ready to run.

    Attributes:
        run: (B, h, w, 3) uint8 → masks, classes and stop.
        size: (h, w) at which it runs.
        thresholds: those of the file.
        aspect: "stretch" or "keep", how images fill the frame.
        precision: where the way of running decides it, not the file.
    """

    run: Callable[[Array], Outputs]
    size: tuple[int, int]
    thresholds: Thresholds
    aspect: str = "stretch"
    precision: str | None = None


Step = Callable[[], object]
"""What is timed: one run."""


def prepare(task: Task, open_file: Callable[[pathlib.Path, Task], Opened] | None = None) -> tuple[dict[str, Any], Step]:
    """Opens one file, writes its outputs and runs it for warm-up.

    Args:
        task: what to measure.
        open_file: opens the file; default: as `rsis_tf.inference.open_model` does.

    Returns:
        The seconds of loading with the thresholds for decoding the outputs, and the step to measure.
    """
    start = time.perf_counter()
    opened = (open_file or _open)(pathlib.Path(task.path), task)
    loaded, run = time.perf_counter() - start, opened.run
    images = np.stack([resize_image(image, opened.size, opened.aspect) for image in np.load(task.images)])
    batches = [
        np.take(images, range(i, i + task.batch), axis=0, mode="wrap") for i in range(0, len(images), task.batch)
    ]
    _save([run(batch) for batch in batches], len(images), pathlib.Path(task.outputs))
    turn = itertools.cycle(batches)
    for _ in range(task.warm_up):
        run(next(turn))
    facts = {"load_s": loaded, "thresholds": opened.thresholds, "aspect": opened.aspect}
    return facts | ({"precision": opened.precision} if opened.precision else {}), lambda: run(next(turn))


def timed(step: Step, runs: int) -> list[float]:
    """Returns the milliseconds of each run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return times


def memory(provider: str) -> dict[str, float | None]:
    """Returns the megabytes (2²⁰ bytes) of this process, as keys of a row."""
    on_gpu = device_of(read_provider(provider)[0]) == "cuda"
    return {"host_memory_mb": _peak_memory(), "device_memory_mb": device_memory_mb() if on_gpu else None}


def _save(outputs: list[Outputs], count: int, path: pathlib.Path) -> None:
    """Writes masks, classes and stop of the first `count` images; steps after an early stop are zero: no object."""
    steps = max(stop.shape[1] for _, _, stop in outputs)
    padded = [[_padded(values, steps) for values in batch] for batch in outputs]
    np.savez(path, *(np.concatenate(values)[:count] for values in zip(*padded, strict=True)))


def _padded(values: Array, steps: int) -> Array:
    missing = steps - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2))


def _peak_memory() -> float:
    """Returns the peak of this process's main memory in megabytes."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # getrusage would include the peak of the parent before it started this process
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_provider(text: str) -> Provider:
    """Returns name and options of a provider such as "cuda:use_tf32=0,io_binding=1".

    Raises:
        InputError: for an option without a value.
    """
    name, _, rest = text.partition(":")
    options = [option.partition("=") for option in rest.split(",") if option]
    if not all(equals for _, equals, _ in options):
        raise InputError(f"expected options NAME=VALUE after the provider. Received: {text}")
    return name, {key: value for key, _, value in options}


def is_cpu(name: str) -> bool:
    """Returns whether a provider is the CPU, by its short name or by that of ONNX Runtime."""
    return name.lower() in ("cpu", "cpuexecutionprovider")


def device_of(name: str) -> str:
    """Returns ONNX Runtime's name of the device that holds a provider's tensors: "cuda" for NVIDIA's, else "cpu"."""
    return "cuda" if any(word in name.lower() for word in ("cuda", "tensorrt")) else "cpu"


def with_fallback(name: str, options: dict[str, str]) -> list[Provider]:
    """Returns the providers to ask for, best first. TensorRT leaves to CUDA, and CUDA to the CPU, what it cannot run.

    Options that begin with trt_ go to TensorRT, the others to CUDA, e.g. "tensorrt:trt_fp16_enable=1,use_tf32=0".
    """
    if "tensorrt" not in name.lower():
        return [(name, options)]
    tensorrt = {key: value for key, value in options.items() if key.startswith("trt_") or key == "device_id"}
    cuda = {key: value for key, value in options.items() if not key.startswith("trt_")}
    return [(name, tensorrt), ("cuda", cuda), ("cpu", {})]


def _open(path: pathlib.Path, task: Task) -> Opened:
    """Opens a file as `open_model` does, or with its inputs and outputs bound to the device."""
    name, options = read_provider(task.provider)
    kind, path = find_model(path)
    bind = options.pop("io_binding", "0") == "1" or options.get("enable_cuda_graph") == "1"
    if bind and kind == "onnx" and path.is_file():  # a stepwise export always binds
        return _open_bound(path, with_fallback(name, options), task)
    threads = task.threads
    if kind == "tflite" and threads is None:  # LiteRT takes one thread by default, the other libraries all cores
        threads = os.cpu_count()
    providers = name if is_cpu(name) and not options else with_fallback(name, options)
    predictor = open_model(path, providers=providers, threads=threads, batch_size=task.batch, verify=task.verify)
    return Opened(
        run=predictor.run,
        size=predictor.image_size,
        thresholds=Thresholds(stop_threshold=predictor.stop_threshold, mask_threshold=predictor.mask_threshold),
        aspect=predictor.aspect,
    )


def _open_bound(path: pathlib.Path, providers: list[Provider], task: Task) -> Opened:
    """Opens an ONNX file with input and outputs that stay at one place in the memory of the device."""
    import onnxruntime

    session = open_graph(path, providers=providers, threads=task.threads, verify=task.verify)
    metadata = session.get_modelmeta().custom_metadata_map
    (image,) = session.get_inputs()
    if isinstance(image.shape[0], int) and image.shape[0] != task.batch:
        raise InputError(f"this file takes a batch size of {image.shape[0]} only. Received: {task.batch}")
    dtype = np.float32 if image.type == "tensor(float)" else np.uint8
    device = device_of(providers[0][0])
    height, width = json.loads(metadata["image_size"])
    shape = [task.batch, height, width, 3]
    held = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
    # A CUDA graph reads and writes the same addresses in every run.
    binding = session.io_binding()
    binding.bind_ortvalue_input(image.name, held)
    for name in OUTPUTS:
        binding.bind_output(name, device)

    def run(images: Array) -> Outputs:
        held.update_inplace(images.astype(dtype, copy=False))
        session.run_with_iobinding(binding)
        masks, classes, stop = binding.copy_outputs_to_cpu()
        return masks, classes, stop

    return Opened(
        run=run,
        size=(height, width),
        thresholds=Thresholds(
            stop_threshold=float(metadata["stop_threshold"]), mask_threshold=float(metadata["mask_threshold"])
        ),
        aspect=metadata.get("aspect", "stretch"),
    )


def serve(prepare_task: Callable[[Task], tuple[dict[str, Any], Step]]) -> None:
    """Does what standard input asks for; see `export.benchmarking.process`."""
    # Libraries may print to standard output. The replies keep the file, everything else goes to standard error.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(value: object) -> None:
        print(json.dumps(value), file=replies, flush=True)

    task = Task(**json.loads(sys.stdin.readline()))
    try:
        facts, step = prepare_task(task)
        reply(facts)
        for turn, line in enumerate(sys.stdin):
            if line.strip() == "end":
                reply(memory(task.provider))
                continue
            if turn:
                step()  # not counted: since the last turn, other processes have filled the caches
            reply(timed(step, int(line)))
    except (InputError, OSError, KeyError, ImportError) as error:
        reply({"error": " ".join(str(error).split())})


def main(open_file: Callable[[pathlib.Path, Task], Opened] | None = None) -> None:
    """Measures the task on standard input."""
    serve(lambda task: prepare(task, open_file))


if __name__ == "__main__":
    main()
