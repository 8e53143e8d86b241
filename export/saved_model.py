"""Writes a model as a TensorFlow SavedModel: `python -m export.saved_model RUN`."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from export.options import Options, make_parser, read_options
from rsis_tf.engine import quiet_start
from rsis_tf.errors import InputError, command_line
from rsis_tf.inference.saved_model import open_run

if TYPE_CHECKING:
    import tensorflow as tf

    from export.graph import GraphSpec
    from rsis_tf.models import RSIS

EXAMPLE = "python -m export.saved_model runs/nuclei --size 256x256"
DEFAULT_OUT = "saved_model"


def export_saved_model(options: Options) -> pathlib.Path:
    """Writes the folder, compares it with the Keras model, and gives it its name.

    The signature `serving_default` takes `image` and returns `masks`, `classes`, `stop`. TensorFlow alone loads it;
    neither Keras nor this project has to be there.

    Returns:
        `options.out`; beside it lies a JSON file with the metadata and what the comparison found.

    Raises:
        InputError: for a model or an option that cannot be used.
        export.verify.VerificationError: when it does not answer as the model does; nothing is written then.
    """
    if options.precision != "fp32":
        raise InputError(
            "a SavedModel computes in float32; take export.onnx or export.tflite for less. "
            f"Received: --precision {options.precision}"
        )
    out = options.out
    if out.exists() and not (out / "saved_model.pb").is_file():
        raise InputError(f"expected --out to be a new folder, or a SavedModel to replace. Received: {out}")
    import tensorflow as tf

    from export.graph import make_spec, open_source
    from export.metadata import describe
    from export.publish import publish

    model, options = open_source(options)
    spec = make_spec(model, options)
    module, function = serving_module(model, spec)
    return publish(
        model,
        spec,
        options,
        described=describe(model, spec, options, format="saved_model", signature="serving_default"),
        write=lambda path: tf.saved_model.save(module, str(path), signatures={"serving_default": function}),
        open_run=open_run,
    )


def serving_module(model: "RSIS", spec: "GraphSpec") -> tuple["tf.Module", "tf.types.experimental.GenericFunction"]:
    """Returns an owner of the weights and the traced function `image` → `masks`, `classes`, `stop`."""
    import tensorflow as tf

    from export.graph import infer

    module = tf.Module(name="rsis")
    module.weights = [variable.value for variable in model.variables]
    signature = [tf.TensorSpec(spec.input_shape, tf.as_dtype(spec.input_type), name="image")]
    function = tf.function(lambda image: infer(model, image, spec), input_signature=signature)
    return module, function


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = make_parser(module="export.saved_model", default_out=DEFAULT_OUT, example=EXAMPLE)
    with command_line():
        options = read_options(parser.parse_args(arguments), default_out=DEFAULT_OUT)
        quiet_start()
        from export.publish import run_command

    run_command(lambda: export_saved_model(options))


if __name__ == "__main__":
    main()
