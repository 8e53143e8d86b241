"""Pictures of predictions: overlays, step-by-step strips, animations and training curves."""

from rsis_tf.visualization.curves import curves
from rsis_tf.visualization.drawing import PALETTE, colour, write_image
from rsis_tf.visualization.overlay import overlay
from rsis_tf.visualization.sequence import animation, sequence_strip, sequences_sheet
from rsis_tf.visualization.truth import truth_sheet

__all__ = [
    "PALETTE",
    "animation",
    "colour",
    "curves",
    "overlay",
    "sequence_strip",
    "sequences_sheet",
    "truth_sheet",
    "write_image",
]
