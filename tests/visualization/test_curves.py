"""The lines of training curves and their panels."""

import numpy as np
from PIL import Image

from rsis_tf.visualization import curves
from rsis_tf.visualization.curves import panels


def test_lines_of_one_quantity_share_a_panel_and_losses_come_first():
    names = "val_ap50 stop_loss loss seconds val_smoothed_loss val_loss val_stop_loss".split()
    found = panels(names)
    assert list(found) == ["loss", "stop_loss", "ap50"]
    assert list(found["loss"].items()) == [
        ("train", "loss"),
        ("validation", "val_loss"),
        ("smoothed", "val_smoothed_loss"),
    ]
    assert found["stop_loss"] == {"train": "stop_loss", "validation": "val_stop_loss"}
    assert found["ap50"] == {"validation": "val_ap50"}


def test_a_smoothed_loss_is_drawn_in_the_panel_of_the_loss(tmp_path):
    (tmp_path / "raw.csv").write_text("epoch,loss,val_loss\n1,2,3\n2,1,1\n", encoding="utf-8")
    (tmp_path / "smooth.csv").write_text(
        "epoch,loss,val_loss,val_smoothed_loss\n1,2,3,3\n2,1,1,2.8\n", encoding="utf-8"
    )
    drawn = {}
    for name in ("raw", "smooth"):
        curves(tmp_path / f"{name}.csv", tmp_path / f"{name}.png")
        drawn[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    assert drawn["raw"].shape == drawn["smooth"].shape
    assert (drawn["raw"] != drawn["smooth"]).any()
