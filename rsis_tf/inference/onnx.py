"""Predictions with an ONNX file, by ONNX Runtime. All of it is in `rsis_tf.runtime`, which an application may copy."""

from rsis_tf.inference.base import FilePredictor
from rsis_tf.runtime import Predictor


class OnnxPredictor(FilePredictor, Predictor):
    """`rsis_tf.runtime.Predictor`, with image files read as in the rest of the package."""
