"""Predictions with a TFLite file, by LiteRT; TensorFlow is not needed."""

import pathlib
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.inference.devices import only_cpu
from rsis_tf.inference.exported import ExportedPredictor, Run
from rsis_tf.runtime import Options, Shape


class TFLitePredictor(ExportedPredictor):
    """Predicts with a file that `export.tflite` wrote, for one thread at a time; see `ExportedPredictor`."""

    kind = "a file of export.tflite"
    install = 'pip install ai-edge-litert (pip install "rsis_tf[train]" brings TensorFlow too)'

    def load(self, path: pathlib.Path, options: Options) -> Run:
        if options.providers is not None and not only_cpu(options.providers):
            raise InputError(
                "a TFLite file runs on the CPU, by LiteRT; take a .onnx file for ONNX Runtime's providers. "
                f"Received: providers={options.providers!r} for {path}"
            )
        return open_run(path, options.threads)


def open_run(path: pathlib.Path, threads: int | None = None) -> Run:
    """Opens a TFLite file with LiteRT (XNNPACK on the CPU).

    Returns:
        Its signature, for one thread at a time.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    runner = interpreter.get_signature_runner("serving_default")

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return runner(image=images)

    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return Run(
        run,
        inputs={name: _shape(details) for name, details in inputs.items()},
        outputs={name: _shape(details) for name, details in outputs.items()},
        dtype=np.dtype(inputs["image"]["dtype"]).name if "image" in inputs else "",
    )


def _shape(details: dict[str, Any]) -> Shape:
    axes = tuple(int(axis) for axis in details["shape_signature"])
    return tuple(axis if axis > 0 else None for axis in axes) if axes else None
