"""The leaf challenge's scores under the name that other programs import; they are defined in `metrics.leaves`."""

from rsis_tf.evaluation.metrics.leaves import count_difference, foreground_dice, symmetric_best_dice

__all__ = ["count_difference", "foreground_dice", "symmetric_best_dice"]
