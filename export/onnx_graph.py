"""From a Keras model to an ONNX graph, quickly: the weights stay out of the conversion and are put in at its end.

tf2onnx copies every constant in each of its passes, which for 30 million weights is most of its time. Here kernels are
inputs of the graph while it is converted, and become constants afterwards.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import helper
from tf2onnx import optimizer, tf_loader
from tf2onnx.tfonnx import process_tf_graph

from export import onnx_passes

Tensor = Any
Shape = tuple[int | str, ...]


def convert(
    model: keras.Model,
    build: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    *,
    inputs: dict[str, tuple[Shape, str]],
    outputs: dict[str, Shape],
    opset: int = 17,
) -> onnx.ModelProto:
    """Converts what `build` computes with the model.

    Args:
        model: owner of the weights.
        build: from input tensors by name to output tensors by name.
        inputs: shape and dtype of each input; an open axis bears its name.
        outputs: shape of each output, in the order they shall have.
        opset: version of the ONNX operators, 17 or 18.

    Returns:
        The model; float32 weights, cells in the layout of the convolutions, batch normalisation folded.
    """
    graph_def, weights = _trace(model, build, inputs, list(outputs))
    input_names, output_names = [f"{name}:0" for name in (*inputs, *weights)], [f"{name}:0" for name in outputs]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        graph_def = tf_loader.tf_optimize(input_names, output_names, graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        converted = process_tf_graph(
            graph,
            opset=opset,
            input_names=input_names,
            output_names=output_names,
            tensors_to_rename={name: name.removesuffix(":0") for name in input_names + output_names},
        )
    proto = optimizer.optimize_graph(converted, catch_errors=False).make_model("rsis")
    onnx_passes.embed_weights(proto, weights)
    onnx_passes.fold_constants(proto)
    onnx_passes.fold_scales(proto)
    onnx_passes.channels_first(proto)
    onnx_passes.safe_resizes(proto)
    _declare(proto.graph.input, {name: shape for name, (shape, _) in inputs.items()})
    _declare(proto.graph.output, outputs)
    onnx.checker.check_model(proto)
    return proto


def add_metadata(proto: onnx.ModelProto, text: dict[str, str], version: str) -> None:
    """Writes what the file says about itself."""
    helper.set_model_props(proto, text)
    proto.producer_name, proto.producer_version = "rsis_tf", version


def _trace(
    model: keras.Model,
    build: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    inputs: dict[str, tuple[Shape, str]],
    outputs: list[str],
) -> tuple[tf.compat.v1.GraphDef, dict[str, np.ndarray]]:
    """Returns the TensorFlow graph and the weights that are inputs of it, by name."""
    # A name tells the layer, and the passes hand it on: tools that treat parts of the network apart read it.
    values = [(f"weight_{i}/{variable.path}", variable, variable.numpy()) for i, variable in enumerate(model.variables)]
    weights = {name: value for name, _, value in values if value.ndim > 1}
    with tf.Graph().as_default() as graph:
        placeholder = tf.compat.v1.placeholder
        tensors = {
            name: placeholder(dtype, [side if isinstance(side, int) else None for side in shape], name=name)
            for name, (shape, dtype) in inputs.items()
        }
        stand_ins = [
            (variable, placeholder(value.dtype, value.shape, name) if name in weights else tf.constant(value))
            for name, variable, value in values
        ]
        with keras.StatelessScope(state_mapping=stand_ins):
            built = build(tensors)
        with tf.name_scope(""):
            for name in outputs:
                tf.identity(built[name], name=name)
        return graph.as_graph_def(add_shapes=True), weights


def _declare(values: Any, shapes: dict[str, Shape]) -> None:
    """Writes names in the order of `shapes`, and sizes and names of axes, over what the converter made up."""
    by_name = {value.name: value for value in values}
    declared = [
        helper.make_tensor_value_info(name, by_name[name].type.tensor_type.elem_type, shape)
        for name, shape in shapes.items()
    ]
    del values[:]
    values.extend(declared)
