"""Runs a SavedModel with TensorFlow."""

import pathlib
from collections.abc import Callable

import numpy as np


def open_run(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens a SavedModel: returns a function from (B, H, W, 3) pictures to the outputs by name."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        assert loaded is not None  # the signature holds no reference to the weights
        return {name: value.numpy() for name, value in serve(image=tf.constant(images)).items()}

    return run
