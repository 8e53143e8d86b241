"""Measures cases one after the other, each in its own process, and collects one row for each."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.benchmarking.worker import WITHOUT_GPU, Task, is_cpu
from export.options import Thresholds
from rsis_tf.config.json_file import read_json
from rsis_tf.evaluation.metrics.agreement import agreement
from rsis_tf.runtime import Instance, decode, resize_image

Row = dict[str, Any]
"""Key of `export.benchmarking.table.COLUMNS` → value; a row without a measurement has an `error` that gives the
reason."""
WORKER = ("-m", "export.benchmarking.worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement.

    Attributes:
        path: the model file.
        provider, batch: see `export.benchmarking.worker.Task`.
        worker: arguments of the Python process that measures it.
    """

    path: pathlib.Path
    provider: str = "cpu"
    batch: int = 1
    worker: tuple[str, ...] = WORKER


def benchmark(
    cases: Sequence[Case],
    *,
    threads: int | None = None,
    images: Sequence[np.ndarray],
    warm_up: int = 5,
    repeat: int = 50,
    verify: bool = True,
) -> list[Row]:
    """Measures every case in its own process.

    Args:
        cases: what to measure. The agreement of instances is that with the first case that runs.
        threads, warm_up, repeat, verify: see `export.benchmarking.worker.Task`.
        images: (H, W, 3) uint8 of any sizes.

    Returns:
        One row for each case.
    """
    rows: list[Row] = []
    reference: list[Sequence[Instance]] | None = None
    with tempfile.TemporaryDirectory() as folder:
        stored, outputs = pathlib.Path(folder) / "images.npy", pathlib.Path(folder) / "outputs.npz"
        height, width = max(image.shape[:2] for image in images)
        np.save(stored, np.stack([resize_image(image, (height, width)) for image in images]))
        for case in cases:
            outputs.unlink(missing_ok=True)
            task = Task(
                path=str(case.path.absolute()),
                provider=case.provider,
                batch=case.batch,
                threads=threads,
                warm_up=warm_up,
                repeat=repeat,
                images=str(stored),
                outputs=str(outputs),
                verify=verify,
            )
            row = describe(case.path) | {"provider": case.provider, "batch": case.batch} | _measure(task, case.worker)
            if "error" not in row:
                found = _decoded(outputs, (height, width), row["thresholds"])
                reference = reference or found
                row["agreement"] = float(np.mean([agreement(*pair) for pair in zip(reference, found, strict=True)]))
            rows.append(row)
            print(_line(row), file=sys.stderr)
    return rows


def describe(path: pathlib.Path) -> Row:
    """Returns what is known of a file without opening it: layout, precision, size, and scores if there are any."""
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


def _measure(task: Task, worker: Sequence[str]) -> Row:
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


def _decoded(path: pathlib.Path, size: tuple[int, int], thresholds: Thresholds) -> list[Sequence[Instance]]:
    with np.load(path) as stored:
        masks, classes, stops = (stored[name] for name in stored.files)
    return [
        decode(*output, size=size, class_names=(), **thresholds) for output in zip(masks, classes, stops, strict=True)
    ]


def _line(row: Row) -> str:
    result = f"not measured: {row['error']}" if "error" in row else f"{row['median_ms']:.1f} ms"
    return f"{row['file']}, {row['provider']}, batch {row['batch']}: {result}"
