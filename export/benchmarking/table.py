"""Writes the rows of a benchmark as JSON, as a table and as a plot, with the hardware and the versions."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsis_tf.files import replacing, write_json, write_text

COLUMNS = {
    "file": "file",
    "precision": "precision",
    "layout": "layout",
    "provider": "provider",
    "batch": "batch",
    "median_ms": "median ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "floor_ms": "floor ms",
    "of_floor": "× floor",
    "images_per_second": "images/s",
    "load_s": "load s",
    "host_memory_mb": "host MB",
    "device_memory_mb": "device MB",
    "file_mb": "file MB",
    "loss": "loss",
    "agreement": "agreement",
    "ap": "AP",
    "ap50": "AP50",
}
"""Key of a row → heading of its column."""
OPTIONAL = ("floor_ms", "of_floor", "loss")
"""Columns that are left out if no row has a value."""
SUFFIXES = (".json", ".md", ".png")
"""Of the files that `write` writes."""
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorflow", "keras", "ai-edge-litert", "torch")


def environment() -> dict[str, Any]:
    """Returns date, hardware and versions. Times can only be compared with those of the same environment."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpu = "none found"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or gpu
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **installed,
    }


def finish(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes the results and prints the table.

    Raises:
        SystemExit: with code 1, if no row has a measurement.
    """
    write(rows, facts, out)
    print(to_markdown(rows, facts))
    if all("error" in row for row in rows):
        print("error: no file could be measured; the table gives the reasons", file=sys.stderr)
        raise SystemExit(1)


def write(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes `out` with the suffixes .json, .md and, if matplotlib is installed, .png."""
    write_json(out.with_name(out.name + ".json"), {"environment": facts, "rows": rows})
    write_text(out.with_name(out.name + ".md"), to_markdown(rows, facts))
    try:
        with replacing(out.with_name(out.name + ".png")) as partial:
            plot(rows, partial)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print(f"no plot: it needs pip install matplotlib. Received: {error}", file=sys.stderr)


def to_markdown(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Returns the table, followed by the environment. A row without a measurement gives the reason."""
    keys = [key for key in COLUMNS if key not in OPTIONAL or any(key in row for row in rows)]
    lines = ["| " + " | ".join(COLUMNS[key] for key in keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        cells = [_cell(row.get(key)) for key in keys]
        if "error" in row:
            cells[keys.index("median_ms")] = f"not measured: {row['error']}"
        elif row.get("device_memory_mb") is None:
            cells[keys.index("device_memory_mb")] = "–"
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws the median time of each row as a bar, with a line to the 95th percentile."""
    from matplotlib.figure import Figure

    measured = [row for row in rows if "error" not in row]
    figure = Figure(figsize=(8, 1 + 0.4 * max(len(measured), 1)), layout="constrained")
    axes = figure.add_subplot()
    # A dollar sign would begin a formula.
    labels = [f"{row['file']} · {row['provider']} · batch {row['batch']}".replace("$", r"\$") for row in measured]
    median, p95 = per_image(measured)
    errors = [np.zeros(len(measured)), np.maximum(p95 - median, 0)]
    axes.barh(range(len(measured)), median, xerr=errors, color="#0072b2", ecolor="#444444")
    axes.set_yticks(range(len(measured)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds per image: median (bar) and 95th percentile (line)")
    figure.savefig(path, dpi=120)


def per_image(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Returns (2, rows): median and 95th percentile in milliseconds per image; no row may have an error."""
    return np.array([[row[key] / row["batch"] for row in rows] for key in ("median_ms", "p95_ms")])


def _cpu() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
