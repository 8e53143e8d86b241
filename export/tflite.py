"""Writes a model as a TFLite file: `python -m export.tflite RUN`."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from export.arguments import make_parser, read_options
from export.checks import check_format
from export.formats import FORMATS
from export.options import Options
from rsis_tf.engine import quiet_start
from rsis_tf.errors import command_line
from rsis_tf.inference.tflite import open_run

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT = FORMATS["tflite"]
QUANTIZED = ("CONV_2D", "DEPTHWISE_CONV_2D", "PAD")
"""The TFLite operators that a calibrated 8-bit file computes in integers; images are padded before convolutions."""


def export_tflite(options: Options) -> pathlib.Path:
    """Converts a model and compares the file with it.

    The graph is unrolled and contains TFLite's built-in operators only. Its signature `serving_default` takes `image`
    and returns `masks`, `classes`, `stop`.

    Returns:
        `options.out`; a JSON file with the metadata and the result of the comparison lies beside it.

    Raises:
        InputError: for a model or an option that cannot be used.
        export.verify.VerificationError: when the outputs differ from those of the model; then nothing is written.
    """
    check_format(options, FORMAT)
    import tensorflow as tf

    from export.calibration import read_inputs
    from export.graph import make_spec, open_source
    from export.metadata import describe
    from export.publish import publish
    from export.saved_model import serving_module

    model, options = open_source(options)
    spec = make_spec(model, options)
    module, function = serving_module(model, spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content: bytes | None = None
    if options.precision == "fp16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif options.precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.calibration is not None:
            inputs = read_inputs(options.calibration, spec, model.config.image_size, limit=options.limit)
            content = _quantize(converter, inputs)
    if content is None:
        content = converter.convert()
    return publish(
        model,
        spec,
        options,
        described=describe(model, spec, options, format="tflite", layout="unrolled", signature="serving_default"),
        write=lambda path: path.write_bytes(content),
        open_run=open_run,
    )


def _quantize(converter: "tf.lite.TFLiteConverter", inputs: Sequence[np.ndarray]) -> bytes:
    """Quantises the convolutions of features statically: weights per channel, and activations in the ranges on images.

    Predictions stay in float32 (`PREDICTION_CHANNELS`), and so does everything between convolutions: the gates and the
    cell states of the ConvLSTMs gain hardly any speed from 8 bits and pass their errors on from step to step.

    Args:
        converter: of the float32 model, with the default optimisations.
        inputs: from `export.calibration.read_inputs`.
    """
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    from export.calibration import PREDICTION_CHANNELS
    from export.tflite_roundings import without_useless_roundings

    converter.representative_dataset = lambda: ({"image": image} for image in inputs)
    # Operators without an 8-bit version stay in float32.
    converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=lambda: iter(()))
    tensors = Interpreter(model_content=debugger.calibrated_model).get_tensor_details()
    few = [tensor["name"] for tensor in tensors if len(tensor["shape"]) and tensor["shape"][-1] < PREDICTION_CHANNELS]
    others = [name for name in vars(BuiltinOperator) if name.isupper() and name not in QUANTIZED]
    debugger.options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=others, denylisted_nodes=few)
    return without_useless_roundings(debugger.get_nondebug_quantized_model())


def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None:
    """Runs the command."""
    parser = make_parser(FORMAT, prog=prog)
    with command_line():
        options = read_options(parser.parse_args(arguments), FORMAT)
        check_format(options, FORMAT)  # before the slow imports
        quiet_start()
        from export.publish import run_command

    run_command(lambda: export_tflite(options))


if __name__ == "__main__":
    main()
