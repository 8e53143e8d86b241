"""Draws the losses of a run and its changes of stage for docs/training.md: `python docs/figures/draw_stages.py RUN`."""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from rsis_tf.visualization.curves import read_log

PANELS = {"val_loss": "weighted sum", "val_mask_loss": "mask", "val_class_loss": "class", "val_stop_loss": "stop"}
"""Column of the log → title."""
SHORT = {"class loss": "class", "stop loss": "stop"}


def main(run: pathlib.Path) -> None:
    """Writes `stages.png` beside this file."""
    log = read_log(run / "log.csv")
    stages = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    figure, axes = pyplot.subplots(2, 2, figsize=(8, 5), layout="constrained")
    for place, (column, title) in zip(axes.flat, PANELS.items(), strict=True):
        place.plot(log["epoch"], log[column], color="#0077aa")
        place.set_title(f"{title} (validation)", fontsize=10, loc="left")
        place.set_xlabel("epoch", fontsize=8)
        place.tick_params(labelsize=8)
        place.spines[["top", "right"]].set_visible(False)
        for stage in stages:
            if "switch" in stage:
                place.axvline(stage["epoch"], color="#dd6600", linewidth=0.8, linestyle="--")
                name = SHORT.get(stage["switch"], stage["switch"])
                name = f"{stage['num_steps']} steps" if name == "steps" else name
                height = place.get_ylim()[1]
                place.text(stage["epoch"], height, f" {name}", rotation=90, va="top", ha="right", fontsize=7)
    target = pathlib.Path(__file__).with_name("stages.png")
    figure.savefig(target, dpi=110, metadata={"Software": None})
    print(f"written: {target}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
