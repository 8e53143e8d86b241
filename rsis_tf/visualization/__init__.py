"""Drawings of predictions and datasets: overlays, step-by-step strips, animations, contact sheets, training curves."""

from rsis_tf.runtime import PALETTE
from rsis_tf.visualization.curves import curves
from rsis_tf.visualization.drawing import colour, write_image
from rsis_tf.visualization.overlay import overlay
from rsis_tf.visualization.sequence import animation, sequence_strip, sequences_sheet
from rsis_tf.visualization.tracked import tracked_frame
from rsis_tf.visualization.truth import truth_sheet

__all__ = [
    "PALETTE",
    "animation",
    "colour",
    "curves",
    "overlay",
    "sequence_strip",
    "sequences_sheet",
    "tracked_frame",
    "truth_sheet",
    "write_image",
]
