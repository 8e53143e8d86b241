"""Training curves from the CSV file that a run writes."""

import csv
import math
import pathlib

from rsis_tf.errors import InputError
from rsis_tf.files import replacing
from rsis_tf.runtime import PALETTE

_NOT_DRAWN = ("seconds",)
_FIRST = ("loss", "mask_loss", "class_loss", "stop_loss")
_VALIDATION, _SMOOTHED = "val_", "val_smoothed_"
_LINES = {"train": 0, "validation": 1, "smoothed": 1}
"""Label of a line → its colour in the palette; lines are drawn in this order."""


def read_log(csv_path: str | pathlib.Path) -> dict[str, list[float]]:
    """Reads the log of a run.

    Args:
        csv_path: a CSV file with a header; one column is "epoch". Empty cells become NaN.

    Returns:
        Column name → values, one per row; columns without a number are left out.

    Raises:
        InputError: if the file is missing, has no column "epoch" or no row.
    """
    csv_path = pathlib.Path(csv_path)
    try:
        with csv_path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            names = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a CSV file with a training log. Received: {csv_path} ({error})") from None
    if "epoch" not in names or not rows:
        received = f"columns {names}, {len(rows)} rows in {csv_path}"
        raise InputError(f"expected a training log with a column epoch and at least one row. Received: {received}")
    columns = {name: [_number(row[name]) for row in rows] for name in names if name}
    return {name: values for name, values in columns.items() if not all(map(math.isnan, values))}


def panels(names: list[str]) -> dict[str, dict[str, str]]:
    """Groups the columns of a log into panels: "x", "val_x" and "val_smoothed_x" share one.

    Args:
        names: of columns.

    Returns:
        Panel → label of a line ("train", "validation", "smoothed") → column, the losses first; times are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if name in _NOT_DRAWN:
            continue
        prefix = next((prefix for prefix in (_SMOOTHED, _VALIDATION) if name.startswith(prefix)), "")
        label = {"": "train", _VALIDATION: "validation", _SMOOTHED: "smoothed"}[prefix]
        found.setdefault(name.removeprefix(prefix), {})[label] = name
    order = sorted(found, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return {name: {label: found[name][label] for label in _LINES if label in found[name]} for name in order}


def curves(csv_path: str | pathlib.Path, png_path: str | pathlib.Path) -> None:
    """Plots the columns of a training log over the epochs, "x" and "val_x" in one panel; times are left out.

    A smoothed validation loss (`--smooth-curves`) is drawn over the measured one, which is then faint.

    Args:
        csv_path: the log; see `read_log`.
        png_path: PNG file to write.

    Raises:
        InputError: if the log cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported here because it takes a second
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    log = read_log(csv_path)
    epochs = log.pop("epoch")
    drawn = panels(list(log))
    across = min(4, max(1, len(drawn)))
    down = math.ceil(len(drawn) / across) or 1
    figure = Figure(figsize=(3.4 * across, 2.6 * down), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, lines) in enumerate(drawn.items()):
        axes = figure.add_subplot(down, across, place + 1)
        for label, column in lines.items():
            known = [(e, v) for e, v in zip(epochs, log[column], strict=True) if not math.isnan(v)]
            tint = [c / 255 for c in PALETTE[_LINES[label]]]
            marker = "o" if len(known) < 12 else None
            faint = label == "validation" and "smoothed" in lines
            axes.plot(
                *zip(*known, strict=True),
                color=tint,
                label=label,
                marker=marker,
                markersize=3.5,
                linewidth=1.6,
                alpha=0.35 if faint else 1.0,
            )
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.tick_params(labelsize=8)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if place >= len(drawn) - across:
            axes.set_xlabel("epoch", fontsize=8)
    png_path = pathlib.Path(png_path)
    with replacing(png_path) as partial:
        figure.savefig(partial, format="png")


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell else float("nan")
    except ValueError:
        return float("nan")
