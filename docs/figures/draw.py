"""Draws the figures of docs/network.md from the model `leaves` of the package: `python docs/figures/draw.py`.

The image is a generated plant, so anyone can draw the same figures. The model is run step by step, as in
`rsis_tf.models.rsis.RSIS.unroll`, and what each step reads and writes is kept.
"""

import dataclasses
import pathlib
from typing import Any

import keras
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.models import RSIS
from rsis_tf.models.mask_heads.voting import UNIT
from rsis_tf.runtime import PALETTE

FOLDER = pathlib.Path(__file__).parent
PLANT, STEPS, SHOWN = 5, 10, 2
"""Number of the validation plant, steps that are run, and the step (from 0) of `step.png`."""
DOTS = 110
"""Dots per inch of the files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """What the network computed for one image, as arrays without the batch axis.

    Attributes:
        image: (H, W, 3) uint8.
        foreground: (h, w) probabilities of "belongs to an object".
        votes: (h, w, 2), the centre (y, x) that each pixel votes for, in pixels of the image.
        steps: for each step: `found` (h', w') before it, `pointing` (h', w'), `agreement` (h, w), `mask` (h, w),
            `hidden`, a list of (h, w, C), one per stage, `class` and `stop` probabilities, `chosen` (y, x).
    """

    image: np.ndarray
    foreground: np.ndarray
    votes: np.ndarray
    steps: list[dict[str, Any]]


def trace(model: RSIS, image: np.ndarray) -> Trace:
    """Runs the model on an image (H, W, 3) of its own size and keeps what each step reads and writes."""
    decoder, head = model.decoder, model.decoder._head
    sigmoid = keras.ops.sigmoid
    context = decoder.prepare(model.project(image[None]), image.shape[:2])
    state = decoder.start(context)
    votes, steps = context.head, []
    for _ in range(STEPS):
        before = state.head["found"]
        step = decoder.step(context, state)
        chosen = head.choose(step.outputs["pointing_logits"], votes)
        classes, stop = decoder.heads(step.features)
        steps.append(
            {
                "found": _array(before)[..., 0],
                "pointing": _array(step.outputs["pointing_logits"])[..., 0],
                "agreement": _array(sigmoid(head.agreement(votes["votes"], chosen)))[..., 0],
                "mask": _array(sigmoid(step.mask_logits))[..., 0],
                "hidden": [_array(hidden) for hidden, _ in step.state.stages],
                "class": _array(classes),
                "stop": float(_array(sigmoid(stop))),
                "chosen": _array(chosen)[0, 0, :2] * UNIT,
            }
        )
        state = step.state
    foreground = _array(sigmoid(votes["foreground_logits"]))[..., 0]
    return Trace(image=image, foreground=foreground, votes=_array(votes["votes"]) * UNIT, steps=steps)


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))[0]


def panel(axes: Axes, title: str, values: np.ndarray, **options: Any) -> None:
    """Draws an array as an image with a title."""
    axes.imshow(values, **options)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def save(figure: Any, name: str) -> None:
    """Writes a figure as PNG without metadata, so that the same figure gives the same file."""
    figure.savefig(FOLDER / name, dpi=DOTS, metadata={"Software": None})
    pyplot.close(figure)
    print(f"written: {FOLDER / name}")


def draw_votes(seen: Trace) -> None:
    """The image, the foreground, and the votes of some pixels as lines from the pixel to the centre it votes for."""
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
    panel(axes[0], "image", seen.image)
    panel(axes[1], "foreground", seen.foreground, vmin=0, vmax=1, cmap="gray", extent=_extent(seen))
    panel(axes[2], "votes: from a pixel to its object's centre", seen.image // 2 + 110)
    h, w = seen.foreground.shape
    scale = np.array([(seen.image.shape[0] - 1) / (h - 1), (seen.image.shape[1] - 1) / (w - 1)])
    found = [step for step in seen.steps if step["stop"] >= 0.5]
    owner = np.argmax([step["mask"] for step in found], axis=0)
    for y in range(0, h, 2):
        for x in range(0, w, 2):
            if seen.foreground[y, x] > 0.5 and found[owner[y, x]]["mask"][y, x] > 0.5:
                start, end = np.array([y, x]) * scale, seen.votes[y, x]
                tint = np.array(PALETTE[owner[y, x]]) / 255
                axes[2].plot([start[1], end[1]], [start[0], end[0]], color=tint, linewidth=0.7)
                axes[2].plot(*end[::-1], ".", color=tint, markersize=2.5)
    axes[2].set_xlim(0, seen.image.shape[1])
    axes[2].set_ylim(seen.image.shape[0], 0)
    save(figure, "votes.png")


def draw_step(seen: Trace) -> None:
    """One step: what was found before, where it points, whose votes agree, and the mask."""
    step, extent = seen.steps[SHOWN], _extent(seen)
    figure, axes = pyplot.subplots(1, 5, figsize=(9.6, 2.3), layout="constrained")
    panel(axes[0], "image", seen.image)
    panel(axes[1], "found so far", step["found"], vmin=0, vmax=1, cmap="gray", extent=extent)
    panel(axes[2], "pointing; best: +", step["pointing"], cmap="viridis", extent=extent)
    best = np.unravel_index(step["pointing"].argmax(), step["pointing"].shape)
    h, w = step["pointing"].shape
    axes[2].plot(
        (best[1] + 0.5) * seen.image.shape[1] / w, (best[0] + 0.5) * seen.image.shape[0] / h, "r+", ms=12, mew=2
    )
    panel(axes[3], "votes that agree", step["agreement"], vmin=0, vmax=1, cmap="gray", extent=extent)
    title = f"mask, objectness {step['stop']:.2f}"
    panel(axes[4], title, step["mask"], vmin=0, vmax=1, cmap="gray", extent=extent)
    save(figure, "step.png")


def draw_hidden(seen: Trace) -> None:
    """The mean activation of each stage's hidden state in the first steps."""
    shown, stages = seen.steps[:4], len(seen.steps[0]["hidden"])
    figure, axes = pyplot.subplots(stages + 1, len(shown), figsize=(7.2, 1.75 * (stages + 1)), layout="constrained")
    for column, step in enumerate(shown):
        for stage, hidden in enumerate(step["hidden"]):
            name = f"step {column + 1}: stage {stage + 1}, {hidden.shape[0]}×{hidden.shape[1]}×{hidden.shape[2]}"
            panel(axes[stage, column], name, np.abs(hidden).mean(axis=-1), cmap="viridis")
            axes[stage, column].title.set_fontsize(7)
        panel(axes[stages, column], "mask", step["mask"], vmin=0, vmax=1, cmap="gray")
        axes[stages, column].title.set_fontsize(7)
    save(figure, "hidden.png")


def draw_unrolled() -> None:
    """The network, unrolled over three steps, as boxes."""
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    axes.set_axis_off()
    axes.set_xlim(0, 12)
    axes.set_ylim(0, 5.4)

    def box(x: float, y: float, width: float, height: float, text: str, tint: str) -> None:
        patch = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.05", facecolor=tint, edgecolor="#333333")
        axes.add_patch(patch)
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#333333"})

    box(0.2, 2.1, 1.1, 0.8, "image", "#eeeeee")
    box(1.8, 2.1, 1.2, 0.8, "encoder\n(once)", "#cfe3f5")
    box(3.5, 2.1, 1.2, 0.8, "neck\n(once)", "#cfe3f5")
    box(3.5, 0.3, 1.2, 0.9, "votes and\nforeground\n(once)", "#cfe3f5")
    arrow((1.35, 2.5), (1.75, 2.5))
    arrow((3.05, 2.5), (3.45, 2.5))
    arrow((4.1, 2.05), (4.1, 1.28))
    for number, x in enumerate((5.7, 8.0, 10.3), start=1):
        box(x, 2.0, 1.4, 1.0, f"step {number}:\nConvLSTM\nstages", "#fde3c8")
        box(x, 3.9, 1.4, 1.1, "mask, class,\nobjectness", "#d9efd3")
        arrow((x + 0.7, 3.05), (x + 0.7, 3.85))
        arrow((x + 0.7, 1.45), (x + 0.7, 1.95))
        if number < 3:
            arrow((x + 1.45, 2.5), (x + 2.25, 2.5))
    axes.text(7.55, 3.2, "states and objects found", ha="center", fontsize=8)
    axes.plot([4.75, 11.0], [0.75, 0.75], color="#333333", linewidth=1)
    axes.plot([4.5, 11.0], [1.45, 1.45], color="#333333", linewidth=1)
    axes.plot([4.5, 4.5], [1.45, 2.05], color="#333333", linewidth=1)
    axes.text(7.9, 0.45, "votes: read by every step", ha="center", fontsize=8)
    axes.text(7.2, 1.55, "maps of the neck", ha="center", fontsize=8)
    for x in (6.1, 8.4, 10.7):
        arrow((x, 0.75), (x, 1.95))
    save(figure, "unrolled.png")


def _extent(seen: Trace) -> tuple[float, float, float, float]:
    height, width = seen.image.shape[:2]
    return (0, width, height, 0)


def main() -> None:
    """Draws all figures."""
    model = RSIS.from_pretrained("leaves")
    config = DataConfig(dataset="leaves", image_size=model.config.image_size, max_objects=model.config.num_steps)
    sample = load_dataset(config, "val")[PLANT]
    seen = trace(model, np.asarray(sample.image))
    draw_votes(seen)
    draw_step(seen)
    draw_hidden(seen)
    draw_unrolled()


if __name__ == "__main__":
    main()
