"""Folders of images in, folders of results out: the work of `rsis predict`."""

from rsis_tf.batch_prediction.results import DEFAULT_KINDS, KINDS
from rsis_tf.batch_prediction.run import predict_paths

__all__ = ["DEFAULT_KINDS", "KINDS", "predict_paths"]
