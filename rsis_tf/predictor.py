"""The name of `rsis_tf.inference` in earlier versions."""

from rsis_tf.inference import KerasPredictor, find_model, load_model, open_predictor

__all__ = ["KerasPredictor", "find_model", "load_model", "open_predictor"]
