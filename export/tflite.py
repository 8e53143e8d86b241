"""Writes a model as a TFLite file: `python -m export.tflite RUN`."""

import pathlib
from collections.abc import Sequence

from export.arguments import make_parser, read_options
from export.checks import check_format
from export.formats import FORMATS
from export.options import Options
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.engine import quiet_start
from rsis_tf.errors import InputError, command_line
from rsis_tf.inference.tflite import open_run

FORMAT = FORMATS["tflite"]


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
    mask_head = model.config.mask_head
    if options.precision == "int8" and options.calibration is not None and not MASK_HEADS[mask_head].static_int8:
        raise InputError(
            f"256 values are too few for the activations of the mask head {mask_head}; without --calibration only the "
            f"weights are quantised. Received: --calibration {options.calibration}"
        )
    spec = make_spec(model, options)
    module, function = serving_module(model, spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if options.precision == "fp16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif options.precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.calibration is not None:
            inputs = read_inputs(options.calibration, spec, model.config.image_size, limit=options.limit)
            converter.representative_dataset = lambda: ({"image": image} for image in inputs)
            # Operators without an 8-bit version stay in float32.
            converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
    content = converter.convert()
    return publish(
        model,
        spec,
        options,
        described=describe(model, spec, options, format="tflite", layout="unrolled", signature="serving_default"),
        write=lambda path: path.write_bytes(content),
        open_run=open_run,
    )


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
