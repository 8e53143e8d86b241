"""Folders of images in, folders of results out: the work of `rsis predict`."""

from rsis_tf.batch_prediction.identities import Tracking
from rsis_tf.batch_prediction.results import DEFAULT_KINDS, DEFAULT_TRACK_KINDS, KINDS, TRACK_KINDS
from rsis_tf.batch_prediction.run import predict_paths

__all__ = ["DEFAULT_KINDS", "DEFAULT_TRACK_KINDS", "KINDS", "TRACK_KINDS", "Tracking", "predict_paths"]
