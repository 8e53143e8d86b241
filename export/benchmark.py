"""Compares exported files: time, memory, size and agreement: `python -m export.benchmark RUN/best.keras FILE …`."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.benchmark_worker import WITHOUT_GPU, Task, is_cpu
from export.options import check_out
from rsis_tf.config.json_file import read_json
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.images import read_image
from rsis_tf.inference import find_model
from rsis_tf.runtime import decode, resize_image

COLUMNS = {
    "file": "file",
    "precision": "precision",
    "layout": "layout",
    "provider": "provider",
    "batch": "batch",
    "median_ms": "median ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "images_per_second": "images/s",
    "load_s": "load s",
    "host_memory_mb": "host MB",
    "device_memory_mb": "device MB",
    "file_mb": "file MB",
    "agreement": "agreement",
    "ap": "AP",
    "ap50": "AP50",
}
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorflow", "keras", "ai-edge-litert", "torch")
EPILOG = """example:
  python -m export.benchmark runs/nuclei/best.keras runs/nuclei/model.onnx runs/nuclei/model.tflite --batch 1 8
  python -m export.benchmark model.onnx --providers cpu cuda cuda:use_tf32=0 cuda:use_tf32=0,prefer_nhwc=1 tensorrt
  python evaluate.py model.onnx --dataset coco --data photos --out model.onnx.scores.json
scores that lie beside a file under that name stand in its rows
options of a provider are those of ONNX Runtime; io_binding=1 keeps inputs and outputs in place, which
enable_cuda_graph=1 does by itself (the file then needs a fixed --batch and --no-resize)
what TensorRT cannot run goes to CUDA, whose options may stand beside those that begin with trt_
rows of the CPU see no GPU; host MB is the peak of main memory, device MB what nvidia-smi counts for the process after
the runs, – where it does not tell; if no row can be measured, the exit code is 1
"""


WORKER = ("-m", "export.benchmark_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement.

    Attributes:
        path: the model file.
        provider, batch: see `export.benchmark_worker.Task`.
        worker: what Python is called with to measure it.
    """

    path: pathlib.Path
    provider: str = "cpu"
    batch: int = 1
    worker: tuple[str, ...] = WORKER


def benchmark(
    cases: Sequence[Case],
    *,
    threads: int | None = None,
    pictures: Sequence[np.ndarray],
    warm_up: int = 5,
    repeat: int = 50,
) -> list[dict[str, Any]]:
    """Measures every case in a process of its own.

    Args:
        cases: what to measure; the agreement of instances is with the first that runs.
        threads, warm_up, repeat: see `export.benchmark_worker.Task`.
        pictures: (H, W, 3) uint8 of any sizes.

    Returns:
        One row for each, with the keys of `COLUMNS`; one that could not be measured has an `error` that says why.
    """
    rows: list[dict[str, Any]] = []
    reference: list | None = None
    with tempfile.TemporaryDirectory() as folder:
        stored, answers = pathlib.Path(folder) / "pictures.npy", pathlib.Path(folder) / "answers.npz"
        largest = max(picture.shape[:2] for picture in pictures)
        np.save(stored, np.stack([resize_image(picture, largest) for picture in pictures]))
        for case in cases:
            answers.unlink(missing_ok=True)
            task = Task(
                path=str(case.path.absolute()),
                provider=case.provider,
                batch=case.batch,
                threads=threads,
                warm_up=warm_up,
                repeat=repeat,
                pictures=str(stored),
                answers=str(answers),
            )
            row = describe(case.path) | {"provider": case.provider, "batch": case.batch} | _measure(task, case.worker)
            if "error" not in row:
                found = _decoded(answers, largest, row["thresholds"])
                reference = reference or found
                row["agreement"] = float(np.mean([agreement(*pair) for pair in zip(reference, found, strict=True)]))
            rows.append(row)
            print(_line(row), file=sys.stderr)
    return rows


def describe(path: pathlib.Path) -> dict[str, Any]:
    """Returns what is known of a file without opening it: format, layout, precision, size, scores if there are any."""
    side = path.with_name(path.name + ".json")
    described = read_json(side, "the JSON file of an exporter") if side.is_file() else {}
    scores = path.with_name(path.name + ".scores.json")
    scored = read_json(scores, "a JSON file of evaluate.py") if scores.is_file() else {}
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        "file": path.name,
        "layout": described.get("layout", "unrolled"),
        "precision": described.get("precision", "fp32"),
        "file_mb": sum(file.stat().st_size for file in files) / 1e6,
        **{name: scored[name] for name in ("ap", "ap50") if scored.get(name) is not None},
    }


def environment() -> dict[str, Any]:
    """Returns hardware and versions, without which the numbers mean little."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    information = pathlib.Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in information.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        if information.is_file()
        else []
    )
    gpu = "none found"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or gpu
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **installed,
    }


def to_markdown(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Returns the table and what it was measured on; rows without a number give the reason."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(row.get(key)) for key in COLUMNS]
        if "error" in row:
            cells[list(COLUMNS).index("median_ms")] = f"not measured: {row['error']}"
        elif row.get("device_memory_mb") is None:
            cells[list(COLUMNS).index("device_memory_mb")] = "–"
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Draws median times as bars, to the 95th percentile as a line."""
    from matplotlib.figure import Figure

    measured = [row for row in rows if "error" not in row]
    figure = Figure(figsize=(8, 1 + 0.4 * max(len(measured), 1)), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row['file']} · {row['provider']} · batch {row['batch']}" for row in measured]
    per_image = np.array([[row["median_ms"], row["p95_ms"]] for row in measured]).reshape(-1, 2)
    per_image /= np.array([row["batch"] for row in measured]).reshape(-1, 1)
    errors = [np.zeros(len(measured)), np.maximum(per_image[:, 1] - per_image[:, 0], 0)]
    axes.barh(range(len(measured)), per_image[:, 0], xerr=errors, color="#0072b2", ecolor="#444444")
    axes.set_yticks(range(len(measured)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds per picture: median, and to the 95th percentile")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m export.benchmark",
        description="Measures model files side by side and writes benchmark.json, .md and .png.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=pathlib.Path,
        metavar="FILE",
        help="a run's folder, .keras, .onnx, .tflite, or the folder of a SavedModel or stepwise export",
    )
    parser.add_argument(
        "--providers", nargs="+", default=["cpu"], help="cpu, cuda, tensorrt, each with options (default: cpu)"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="pictures in one run (default: 1)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one for each core)")
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="pictures (default: one that is made up)")
    parser.add_argument("--repeat", type=int, default=50, help="runs measured (default: 50)")
    parser.add_argument("--warm-up", type=int, default=5, help="runs before (default: 5)")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("benchmark"),
        help="results without suffix (default: benchmark)",
    )
    with command_line():
        options = parser.parse_args(arguments)
        check_numbers(batch=min(options.batch), repeat=options.repeat, threads=options.threads, warm_up=options.warm_up)
        check_out(options.out)
        files = [find_model(path)[1] for path in options.files]
        cases = [
            Case(path=path, provider=provider, batch=batch)
            for path in files
            for provider in options.providers
            for batch in options.batch
        ]
        rows = benchmark(
            cases,
            threads=options.threads,
            pictures=read_pictures(options.images),
            warm_up=options.warm_up,
            repeat=options.repeat,
        )
        facts = environment() | {"threads": options.threads or "all", "repeat": options.repeat}
        finish(rows, facts, options.out)


def check_numbers(*, warm_up: int = 0, **positive: int | None) -> None:
    """Raises an `InputError` that names the first number out of range; None is none given."""
    for name, value in positive.items():
        if value is not None and value < 1:
            raise InputError(f"expected 1 or more for --{name}. Received: {value}")
    if warm_up < 0:
        raise InputError(f"expected 0 or more for --warm-up. Received: {warm_up}")


def finish(rows: Sequence[dict[str, Any]], facts: dict[str, Any], out: pathlib.Path) -> None:
    """Writes the results and prints the table; exit code 1 if no row could be measured."""
    write(rows, facts, out)
    print(to_markdown(rows, facts))
    if all("error" in row for row in rows):
        print("error: no row could be measured, the table says why", file=sys.stderr)
        raise SystemExit(1)


def write(rows: Sequence[dict[str, Any]], facts: dict[str, Any], out: pathlib.Path) -> None:
    """Writes `out` with the suffixes .json, .md and, if matplotlib is installed, .png."""
    content = json.dumps({"environment": facts, "rows": rows}, indent=2) + "\n"
    for suffix, text in ((".json", content), (".md", to_markdown(rows, facts))):
        partial = out.with_name(f".{out.name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out.with_name(out.name + suffix))
    try:
        plot(rows, out.with_name(out.name + ".png"))
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print(f"no plot: it needs pip install matplotlib. Received: {error}", file=sys.stderr)


def read_pictures(folder: pathlib.Path | None, count: int = 8) -> list[np.ndarray]:
    """Reads the first pictures of a folder, or makes one up.

    Raises:
        InputError: for a folder without pictures.
    """
    if folder is None:
        y, x = np.mgrid[:240, :320]
        discs = [(y - 80) ** 2 + (x - 90) ** 2 < 50**2, (y - 150) ** 2 + (x - 230) ** 2 < 60**2]
        noise = np.random.default_rng(0).integers(0, 60, (240, 320, 1))
        return [
            np.clip(
                noise + 60 + 120 * discs[0][..., None] + np.array([20, 90, 50]) * discs[1][..., None], 0, 255
            ).astype(np.uint8)
        ]
    if not folder.is_dir():
        raise InputError(f"expected a folder of pictures for --images. Received: {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:count]
    if not paths:
        raise InputError(f"expected pictures (.png, .jpg) for --images. Received: {folder} without any")
    return [read_image(path) for path in paths]


def _measure(task: Task, worker: Sequence[str]) -> dict[str, Any]:
    on_cpu = is_cpu(task.provider.partition(":")[0])
    done = subprocess.run(
        [sys.executable, *worker],
        input=json.dumps(dataclasses.asdict(task)),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (WITHOUT_GPU if on_cpu else {}),
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"ended with code {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])


def _decoded(answers: pathlib.Path, size: tuple[int, int], thresholds: dict[str, float]) -> list:
    with np.load(answers) as stored:
        outputs = [stored[name] for name in ("masks", "classes", "stop")]
    return [decode(*output, size=size, class_names=(), **thresholds) for output in zip(*outputs, strict=True)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(row: dict[str, Any]) -> str:
    result = f"not measured: {row['error']}" if "error" in row else f"{row['median_ms']:.1f} ms"
    return f"{row['file']}, {row['provider']}, batch {row['batch']}: {result}"


if __name__ == "__main__":
    main()
