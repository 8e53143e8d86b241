"""Measures cases, each in its own process, and collects one row for each."""

import dataclasses
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export.benchmarking.device_memory import used_memory_mb
from export.benchmarking.process import MeasurementError, Process
from export.benchmarking.worker import WITHOUT_GPU, Task, device_of, is_cpu
from export.options import Thresholds
from rsis_tf.config.json_file import read_json
from rsis_tf.errors import InputError
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
        facts: keys of `export.benchmarking.table.COLUMNS` → value, added to the row.
    """

    path: pathlib.Path
    provider: str = "cpu"
    batch: int = 1
    worker: tuple[str, ...] = WORKER
    facts: Row = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns:
    """How cases share the machine.

    Attributes:
        together: processes that wait with an open file at the same time.
        starting: processes that open their files at the same time.
        rounds: parts of the measurement. In each round every case of the group is measured once, so that other work on
            the machine slows all of them alike.
        start_seconds: seconds in which a group has to open its files; None for no limit.
        seconds: time after which no further round begins; None for no limit.
        pause: seconds before each measurement, in which the threads of the process before it go to sleep.
    """

    together: int = 1
    starting: int = 1
    rounds: int = 1
    start_seconds: float | None = None
    seconds: float | None = None
    pause: float = 0.0


def benchmark(
    cases: Sequence[Case],
    *,
    threads: int | None = None,
    images: Sequence[np.ndarray],
    warm_up: int = 5,
    repeat: int = 50,
    verify: bool = True,
    turns: Turns = Turns(),
    report: Callable[[list[Row]], None] | None = None,
) -> list[Row]:
    """Measures every case in its own process.

    Args:
        cases: what to measure. The agreement of instances is that with the first case that runs.
        threads, warm_up, verify: see `export.benchmarking.worker.Task`.
        images: (H, W, 3) uint8 of any sizes.
        repeat: measured runs.
        turns: whether cases are measured one after the other or in turns.
        report: called with the rows so far, after each round.

    Returns:
        One row for each case.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        stored = pathlib.Path(folder) / "images.npy"
        height, width = max(image.shape[:2] for image in images)
        np.save(stored, np.stack([resize_image(image, (height, width)) for image in images]))
        measurements = [
            _Measurement(
                case,
                Task(
                    path=str(case.path.absolute()),
                    provider=case.provider,
                    batch=case.batch,
                    threads=threads,
                    warm_up=warm_up,
                    images=str(stored),
                    outputs=str(pathlib.Path(folder) / f"outputs_{i}.npz"),
                    verify=verify,
                ),
            )
            for i, case in enumerate(cases)
        ]
        comparison = _Comparison((height, width))
        deadline = None if turns.seconds is None else time.monotonic() + turns.seconds
        for start in range(0, len(measurements), turns.together):
            group = measurements[start : start + turns.together]
            rows += [measurement.row for measurement in group]
            try:
                _start(group, turns)
                for measurement in group:
                    comparison.add(measurement)
                shares = [len(part) for part in np.array_split(np.arange(repeat), min(turns.rounds, repeat))]
                for i, share in enumerate(shares):
                    if i and deadline is not None and time.monotonic() > deadline:
                        break
                    for measurement in group:
                        measurement.run(share, pause=turns.pause)
                    if report:
                        report(rows)
                for measurement in group:
                    measurement.finish()
            finally:
                for measurement in group:
                    measurement.close()
    return rows


def _start(group: Sequence["_Measurement"], turns: Turns) -> None:
    """Opens the files of a group, some at the same time."""
    deadline = None if turns.start_seconds is None else time.monotonic() + turns.start_seconds

    def left() -> float | None:
        return None if deadline is None else max(deadline - time.monotonic(), 0.0)

    for start in range(0, len(group), turns.starting):
        part = group[start : start + turns.starting]
        for measurement in part:
            measurement.start()
        for measurement in part:
            measurement.wait(left())


class _Measurement:
    """A case, its process, and its row."""

    def __init__(self, case: Case, task: Task) -> None:
        self.case, self.task = case, task
        self.row: Row = {"provider": case.provider, "batch": case.batch} | case.facts
        self._process: Process | None = None
        self._times: list[float] = []

    def start(self) -> None:
        if not self.case.path.exists():
            self.row |= {"file": self.case.path.name}
            self._fail(f"expected a file or folder. Received: {self.case.path.name}, which is not there")
            return
        try:
            self.row |= describe(self.case.path) | self.row
        except InputError as error:
            self.row |= {"file": self.case.path.name}
            self._fail(str(error))
            return
        environment = WITHOUT_GPU if is_cpu(self.case.provider.partition(":")[0]) else {}
        self._process = Process(self.task, worker=self.case.worker, environment=environment)

    def wait(self, seconds: float | None) -> None:
        """Waits until the file is open."""
        if self._process:
            try:
                self.row |= self._process.opened(seconds)
            except MeasurementError as error:
                self._fail(str(error))

    def run(self, runs: int, *, pause: float) -> None:
        """Measures some runs and updates the row."""
        if self._process is None:
            return
        time.sleep(pause)
        try:
            self._times += self._process.times(runs)
        except MeasurementError as error:
            self._fail(str(error))
            return
        self.row |= {
            "median_ms": float(np.median(self._times)),
            "p95_ms": float(np.percentile(self._times, 95)),
            "p99_ms": float(np.percentile(self._times, 99)),
            "images_per_second": float(1000 * self.case.batch / np.median(self._times)),
            "runs": len(self._times),
        }

    def finish(self) -> None:
        """Adds the memory to the row, ends the process and says how it went."""
        if self._process:
            on_gpu = device_of(self.case.provider.partition(":")[0]) == "cuda"
            before = used_memory_mb() if on_gpu else None
            try:
                self.row |= self._process.memory()
            except MeasurementError as error:
                self._fail(str(error))
            self.close()
            after = used_memory_mb() if on_gpu else None
            if self.row.get("device_memory_mb") is None and before is not None and after is not None:
                self.row["device_memory_mb"] = before - after
        print(_line(self.row), file=sys.stderr)

    def close(self) -> None:
        """Ends the process, if it runs."""
        if self._process:
            self._process.close()
            self._process = None

    def _fail(self, reason: str) -> None:
        self.row["error"] = reason
        self._times = []
        for key in ("median_ms", "p95_ms", "p99_ms", "images_per_second", "runs"):
            self.row.pop(key, None)
        if self._process:
            self._process.stop()
            self._process = None


class _Comparison:
    """The instances of the first file, and the loss of the first training, for comparison with the others."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._instances: list[Sequence[Instance]] | None = None
        self._loss: float | None = None

    def add(self, measurement: _Measurement) -> None:
        """Adds the agreement to a row: of instances, or 1 less the relative difference of the losses."""
        row = measurement.row
        if "error" in row:
            return
        if "loss" in row:
            self._loss = self._loss or row["loss"]
            row["agreement"] = 1 - abs(row["loss"] - self._loss) / self._loss
            return
        if "thresholds" not in row:
            return
        found = _decoded(pathlib.Path(measurement.task.outputs), self._size, row["thresholds"], aspect=row["aspect"])
        self._instances = self._instances or found
        row["agreement"] = float(np.mean([agreement(*pair) for pair in zip(self._instances, found, strict=True)]))


def describe(path: pathlib.Path) -> Row:
    """Returns what is known of a file without opening it: layout, precision, size, and scores if there are any.

    Layout and precision of an ONNX file are None if the JSON file beside it is missing.
    """
    side = path.with_name(path.name + ".json")
    described = read_json(side, "the JSON file of an exporter") if side.is_file() else {}
    scores = path.with_name(path.name + ".scores.json")
    scored = read_json(scores, "a JSON file of evaluate.py") if scores.is_file() else {}
    unknown = not described and path.suffix == ".onnx"
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        "file": path.name,
        "layout": None if unknown else described.get("layout", "unrolled"),
        "precision": None if unknown else described.get("precision", "fp32"),
        "file_mb": sum(file.stat().st_size for file in files) / 1e6,
        **{name: scored[name] for name in ("ap", "ap50") if scored.get(name) is not None},
    }


def _decoded(
    path: pathlib.Path, size: tuple[int, int], thresholds: Thresholds, *, aspect: str
) -> list[Sequence[Instance]]:
    with np.load(path) as stored:
        masks, classes, stops = (stored[name] for name in stored.files)
    return [
        decode(*output, size=size, class_names=(), aspect=aspect, **thresholds)
        for output in zip(masks, classes, stops, strict=True)
    ]


def _line(row: Row) -> str:
    result = f"not measured: {row['error']}" if "error" in row else f"{row['median_ms']:.1f} ms"
    return f"{row['file']}, {row['provider']}, batch {row['batch']}: {result}"
