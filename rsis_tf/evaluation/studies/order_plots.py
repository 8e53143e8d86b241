"""Plots of the study of object order, and images of the most and the least active objects."""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf import files
from rsis_tf.data.sample import Sample
from rsis_tf.evaluation.studies.activations import Activations, mean_activation
from rsis_tf.evaluation.studies.order import DIRECTIONS, OrderScores
from rsis_tf.visualization import PALETTE, drawing, write_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rsis_tf.runtime import Instance

MOST, LEAST = PALETTE[1], PALETTE[0]
_MAX_IMAGES = 8
_SIDE = 320


class ActiveObjects:
    """Draws the most and the least active object of the first images with at least two objects (figure 8); a sink.

    Args:
        activations: activations of an encoder, its deepest block last; None to draw nothing.
    """

    def __init__(self, activations: Activations | None) -> None:
        self._activations = activations
        self._panels: list[np.ndarray] = []

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if self._activations is None or len(instances) < 2 or len(self._panels) == _MAX_IMAGES:
            return
        deepest = list(self._activations(sample.image).values())[-1]
        values = [mean_activation(deepest, instance.mask) for instance in instances]
        height, width = sample.image.shape[:2]
        scale = _SIDE / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        panel = drawing.resize(sample.image, size).copy()
        for choice, tint in ((np.argmin(values), LEAST), (np.argmax(values), MOST)):
            mask = drawing.resize_mask(instances[int(choice)].cropped, size)
            drawing.paint(panel[mask.window], mask.crop, tint, 0.35)
            drawing.outline(panel, mask, tint, 3)
        square = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
        square[: size[0], : size[1]] = panel
        self._panels.append(square)

    def write(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Writes the images side by side, with a legend; writes nothing if there are none."""
        if not self._panels:
            return []
        columns, gap, head = min(4, len(self._panels)), 8, 40
        rows = math.ceil(len(self._panels) / columns)
        sheet = Image.new("RGB", (gap + columns * (_SIDE + gap), head + rows * (_SIDE + gap)), drawing.PAPER)
        draw = ImageDraw.Draw(sheet)
        left = gap
        for text, tint in (("most active", MOST), ("least active", LEAST)):
            draw.rectangle((left, 12, left + 16, 28), fill=tint, outline=drawing.INK)
            draw.text((left + 24, 20), text, fill=drawing.INK, font=drawing.font(15), anchor="lm")
            left += 150
        for i, panel in enumerate(self._panels):
            corner = gap + (i % columns) * (_SIDE + gap), head + (i // columns) * (_SIDE + gap)
            sheet.paste(Image.fromarray(panel), corner)
        write_image(path, np.asarray(sheet))
        return [path]


def draw(folder: pathlib.Path, scores: OrderScores) -> list[pathlib.Path]:
    """Writes tau.png, and activation.png and pairs.png if there is something to plot; returns the files."""
    written = [_save(folder / "tau.png", _bars, {"": scores.tau}, {"": scores.intervals})]
    if scores.activation:
        written.append(_save(folder / "activation.png", _bars, scores.activation, scores.activation_intervals))
    if scores.pairs:
        written.append(_save(folder / "pairs.png", _shares, scores.pairs))
    return written


def _bars(figure: "Figure", series: dict[str, dict[str, float]], intervals: dict[str, dict[str, Any]]) -> None:
    """Draws bars of τ with their intervals, one group for each order or block, one colour for each series."""
    names = list(next(iter(series.values())))
    figure.set_size_inches(1.6 + 1.35 * len(names), 3.2)
    axes = figure.add_subplot()
    width = 0.7 / len(series)
    for s, (label, values) in enumerate(series.items()):
        heights = np.array([values[name] for name in names])
        ends = np.array([intervals[label][name] for name in names])  # (names, 2)
        reach = np.abs(ends.T - heights)
        places = np.arange(len(names)) + (s - (len(series) - 1) / 2) * width
        tint = [c / 255 for c in PALETTE[s]]
        axes.bar(places, heights, width * 0.9, yerr=reach, color=tint, label=label or None, capsize=3, ecolor="0.2")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
    axes.axhline(0, color="0.2", linewidth=0.8)
    axes.set_ylim(-1, 1)
    axes.set_ylabel("Kendall τ")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)


def _shares(figure: "Figure", pairs: list[dict[str, Any]]) -> None:
    """Draws a table of coloured cells: pairs of classes by direction, shares in percent."""
    pairs = sorted(pairs, key=lambda pair: -pair["count"])[:30]
    shares = np.array([[100 * pair[name] for name in DIRECTIONS] for pair in pairs])  # (pairs, directions)
    figure.set_size_inches(6.4, 1.2 + 0.32 * len(pairs))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(DIRECTIONS)), DIRECTIONS)
    axes.set_yticks(range(len(pairs)), [f"{p['first']} → {p['second']} ({p['count']})" for p in pairs], fontsize=8)
    axes.xaxis.tick_top()
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{share:.0f} %", ha="center", va="center", fontsize=8, color="w" if share > 55 else "k")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _save(path: pathlib.Path, plot: Callable[..., None], *arguments: Any) -> pathlib.Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    plot(figure, *arguments)
    with files.replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path
