"""Inference: opens any model file; images in, instances out. One module for each library that runs a model."""

import os
from typing import Any

from rsis_tf.inference.keras import KerasPredictor
from rsis_tf.inference.model_files import MODEL_HELP, find_model, load_model, model_path
from rsis_tf.inference.onnx import OnnxPredictor
from rsis_tf.inference.saved_model import SavedModelPredictor
from rsis_tf.inference.tflite import TFLitePredictor

__all__ = [
    "BACKENDS",
    "MODEL_HELP",
    "KerasPredictor",
    "OnnxPredictor",
    "SavedModelPredictor",
    "TFLitePredictor",
    "find_model",
    "load_model",
    "model_path",
    "open_model",
    "open_predictor",
]

AnyPredictor = KerasPredictor | OnnxPredictor | SavedModelPredictor | TFLitePredictor
BACKENDS: dict[str, type[AnyPredictor]] = {
    "keras": KerasPredictor,
    "pytorch": KerasPredictor,
    "onnx": OnnxPredictor,
    "saved_model": SavedModelPredictor,
    "tflite": TFLitePredictor,
}
"""Kind of model, see `find_model` → the predictor that runs it. A backend imports its library when it opens a file."""


def open_model(path: str | os.PathLike, **options: Any) -> AnyPredictor:
    """Opens a model file of any kind.

    Args:
        path: a name that `rsis zoo` lists, whose ONNX file is opened; a run's folder, a `.keras` file, or a folder with
            the original's `encoder.pt`, `decoder.pt` and `args.pkl` (converted in memory): run by Keras; a SavedModel:
            run by TensorFlow; `.onnx`, or the folder of a stepwise export: run by ONNX Runtime; `.tflite`: run by
            LiteRT. The last two need neither Keras nor TensorFlow.
        **options: `providers`, `threads`, `stop_mode`, `stop_threshold`, `mask_threshold`, `image_size`,
            `batch_size`, `steps`, `tile`, `tile_overlap`, `flips` and `verify`, see `rsis_tf.runtime.Options`.

    Returns:
        A callable: an image of any size and kind (`rsis_tf.runtime.as_image`) → `rsis_tf.runtime.Instances` in
        predicted order. Its `stream` takes many images.

    A SavedModel is a program that runs when it is opened: open one only if you trust its author. The other kinds run no
    code of the file's author.

    Raises:
        InputError: if the file or an option cannot be used; in calls, for something that is not an image, and when the
            library that runs the file fails.
    """
    kind, found = find_model(path)
    return BACKENDS[kind](found, **options)


open_predictor = open_model
"""The name of an earlier version."""
