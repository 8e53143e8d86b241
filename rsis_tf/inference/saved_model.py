"""Predictions with a SavedModel, by TensorFlow. Neither Keras nor the model's code is needed.

Warning: a SavedModel is a program. TensorFlow runs operations of its graph when the folder is opened (initializers) and
when it predicts, and some operations read and write files (`tf.io.read_file`, `tf.io.write_file`). Open a SavedModel
only if you trust its author. The checksum in the JSON file beside it shows damage; it does not show who wrote it.
"""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.engine import limit_threads
from rsis_tf.inference.devices import require_cpu
from rsis_tf.inference.exported import ExportedPredictor, Run
from rsis_tf.runtime import Options, Shape

if TYPE_CHECKING:
    import tensorflow as tf


class SavedModelPredictor(ExportedPredictor):
    """Predicts with the folder that `export.saved_model` wrote; see `ExportedPredictor`.

    Opening a SavedModel runs what is in its graph: see the warning of this module.
    """

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
    """Opens a SavedModel, which runs what is in its graph (see the warning of this module)."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        assert loaded is not None  # the signature holds no reference to the weights
        return {name: value.numpy() for name, value in serve(image=tf.constant(images)).items()}

    _, named = serve.structured_input_signature
    return Run(
        run,
        inputs={name: _shape(spec) for name, spec in named.items()},
        outputs={name: _shape(spec) for name, spec in serve.structured_outputs.items()},
        dtype=named["image"].dtype.name if "image" in named else "",
    )


def _shape(spec: "tf.TensorSpec") -> Shape:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())
