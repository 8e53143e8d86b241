"""Drawings of predictions and datasets: overlays, strips of steps, animations, contact sheets, maps, curves."""

from rsis_tf.runtime import PALETTE
from rsis_tf.visualization.curves import curves
from rsis_tf.visualization.drawing import colour, write_image
from rsis_tf.visualization.maps import heat_map
from rsis_tf.visualization.overlay import overlay
from rsis_tf.visualization.sequence import animation, panel_grid, sequence_strip, sequences_sheet
from rsis_tf.visualization.tracked import tracked_frame
from rsis_tf.visualization.truth import truth_sheet

__all__ = [
    "PALETTE",
    "animation",
    "colour",
    "curves",
    "heat_map",
    "overlay",
    "panel_grid",
    "sequence_strip",
    "sequences_sheet",
    "tracked_frame",
    "truth_sheet",
    "write_image",
]
