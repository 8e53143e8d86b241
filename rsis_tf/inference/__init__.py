"""Inference: any model file, image in, instances out. One module for each library that runs a model."""

import pathlib

from rsis_tf.inference.devices import Providers
from rsis_tf.inference.exported import ExportedPredictor
from rsis_tf.inference.keras import KerasPredictor
from rsis_tf.inference.model_files import MODEL_HELP, find_model, load_model
from rsis_tf.inference.streaming import OnnxPredictor

__all__ = ["MODEL_HELP", "KerasPredictor", "find_model", "load_model", "open_model", "open_predictor"]


def open_model(
    path: str | pathlib.Path,
    *,
    providers: Providers = None,
    threads: int | None = None,
    stop_mode: str = "first",
    stop_threshold: float | None = None,
    mask_threshold: float | None = None,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> "OnnxPredictor | KerasPredictor | ExportedPredictor":
    """Opens a model file of any kind.

    Args:
        path: a run's folder, a `.keras` file, or a folder with the original's `encoder.pt`, `decoder.pt` and
            `args.pkl` (converted in memory): run by Keras; a SavedModel: run by TensorFlow; `.onnx`, or the folder of a
            stepwise export: run by ONNX Runtime; `.tflite`: run by LiteRT. The last two need neither Keras nor
            TensorFlow.
        providers: execution providers of ONNX Runtime, see `rsis_tf.runtime.Predictor`. Other files run where their own
            library runs: "cpu" is accepted if that is the CPU, anything else is refused.
        threads: CPU threads for one operation; default: as many as the library takes. TensorFlow can be told only
            before it has computed anything in this process.
        stop_mode: "first" ends the sequence at the first step without an object, as in the paper; "each" judges each
            step alone, as the original's evaluation does.
        stop_threshold: probability from which there is an object; default: what the model or the file says.
        mask_threshold: probability from which a pixel belongs to an object; default: what the file says, else 0.5.
        image_size: (height, width) the network runs at; default: what the model or the file says. Files of a fixed
            size take no other.
        batch_size: images in one run of `stream`; default: what the file is made for, else 8.

    Returns:
        A callable, (H, W, 3) uint8 of any size → instances in predicted order; `stream` takes many images.

    Raises:
        InputError: if the file or an option cannot be used; in calls, for something that is not an image, and when the
            library that runs the file fails.
    """
    kind, path = find_model(path)
    options = {
        "providers": providers,
        "threads": threads,
        "stop_mode": stop_mode,
        "stop_threshold": stop_threshold,
        "mask_threshold": mask_threshold,
        "image_size": image_size,
        "batch_size": batch_size,
    }
    if kind == "onnx":
        return OnnxPredictor(path, **options)
    if kind in ("tflite", "saved_model"):
        return ExportedPredictor(path, **options)
    return KerasPredictor(path, **options)


open_predictor = open_model
"""The name of an earlier version."""
