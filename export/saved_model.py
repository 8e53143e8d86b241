"""Writes a model as a TensorFlow SavedModel: `python -m export.saved_model RUN`."""

import errno
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from export.arguments import make_parser, read_options
from export.checks import check_format
from export.formats import FORMATS
from export.options import Options
from rsis_tf.engine import quiet_start
from rsis_tf.errors import command_line, reason_of
from rsis_tf.inference.saved_model import open_run

if TYPE_CHECKING:
    import tensorflow as tf

    from export.graph import GraphSpec
    from rsis_tf.models import RSIS

FORMAT = FORMATS["saved_model"]


def export_saved_model(options: Options) -> pathlib.Path:
    """Writes the folder and compares it with the Keras model.

    The signature `serving_default` takes `image` and returns `masks`, `classes`, `stop`. TensorFlow loads the folder
    without Keras and without this project.

    Returns:
        `options.out`; a JSON file with the metadata and the result of the comparison lies beside it.

    Raises:
        InputError: for a model or an option that cannot be used.
        export.verify.VerificationError: when the outputs differ from those of the model; then nothing is written.
    """
    check_format(options, FORMAT)
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
        write=lambda path: _save(module, function, path),
        open_run=open_run,
    )


def serving_module(model: "RSIS", spec: "GraphSpec") -> tuple["tf.Module", "tf.types.experimental.GenericFunction"]:
    """Returns a module that holds the weights, and the traced function `image` → `masks`, `classes`, `stop`."""
    import tensorflow as tf

    from export.graph import infer

    module = tf.Module(name="rsis")
    module.weights = [variable.value for variable in model.variables]
    signature = [tf.TensorSpec(spec.input_shape, tf.as_dtype(spec.input_type), name="image")]
    function = tf.function(lambda image: infer(model, image, spec), input_signature=signature)
    return module, function


def _save(module: "tf.Module", function: "tf.types.experimental.GenericFunction", path: pathlib.Path) -> None:
    import tensorflow as tf

    try:
        tf.saved_model.save(module, str(path), signatures={"serving_default": function})
    except tf.errors.OpError as error:  # TensorFlow's name for a full disk
        raise OSError(errno.EIO, reason_of(error)) from None


def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None:
    """Runs the command."""
    parser = make_parser(FORMAT, prog=prog)
    with command_line():
        options = read_options(parser.parse_args(arguments), FORMAT)
        check_format(options, FORMAT)  # before the slow imports
        quiet_start()
        from export.publish import run_command

    run_command(lambda: export_saved_model(options))


if __name__ == "__main__":
    main()
