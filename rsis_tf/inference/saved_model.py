"""Predictions with a SavedModel, by TensorFlow. Neither Keras nor the model's code is needed."""

import pathlib

import numpy as np

from rsis_tf.inference.devices import limit_threads, require_cpu
from rsis_tf.inference.exported import ExportedPredictor, Run
from rsis_tf.runtime import Options


class SavedModelPredictor(ExportedPredictor):
    """Predicts with the folder that `export.saved_model` wrote; see `ExportedPredictor`."""

    kind = "a SavedModel of export.saved_model"

    def load(self, path: pathlib.Path, options: Options) -> Run:
        from rsis_tf.engine import quiet_start

        quiet_start()
        if options.threads is not None:
            limit_threads(options.threads)
        if options.providers is not None:
            require_cpu(options.providers, path)
        return open_run(path)


def open_run(path: pathlib.Path) -> Run:
    """Opens a SavedModel: returns a function from (B, H, W, 3) images to the outputs by name."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        assert loaded is not None  # the signature holds no reference to the weights
        return {name: value.numpy() for name, value in serve(image=tf.constant(images)).items()}

    return run
