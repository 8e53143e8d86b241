"""Converts a Keras model to an ONNX graph.

tf2onnx copies every constant in each of its passes, which takes most of its time for 30 million weights. Kernels are
therefore inputs of the graph while it is converted, and become constants afterwards.
"""

from collections.abc import Callable, MutableSequence
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import helper
from tf2onnx import optimizer, tf_loader
from tf2onnx.tfonnx import process_tf_graph

from export.onnx_graphs import passes

Tensor = Any  # TensorFlow has no type information
Shape = tuple[int | str, ...]


def convert(
    model: keras.Model,
    build: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    *,
    inputs: dict[str, tuple[Shape, str]],
    outputs: dict[str, Shape],
    opset: int = 17,
) -> onnx.ModelProto:
    """Converts the function `build`, which computes with the model.

    Args:
        model: holds the weights.
        build: input tensors by name → output tensors by name.
        inputs: shape and dtype of each input; a dynamic axis is given by its name.
        outputs: shape of each output, in the order of the graph's outputs.
        opset: version of the ONNX operators, 17 or 18.

    Returns:
        The ONNX model: float32 weights, ConvLSTM cells in the layout of the convolutions, batch normalisation folded.
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
    passes.embed_weights(proto, weights)
    passes.fold_constants(proto)
    passes.fold_scales(proto)
    passes.channels_first(proto)
    passes.safe_resizes(proto)
    _declare(proto.graph.input, {name: shape for name, (shape, _) in inputs.items()})
    _declare(proto.graph.output, outputs)
    onnx.checker.check_model(proto)
    return proto


def add_metadata(proto: onnx.ModelProto, text: dict[str, str], version: str) -> None:
    """Writes metadata, and the version of this package, into a model."""
    helper.set_model_props(proto, text)
    proto.producer_name, proto.producer_version = "rsis_tf", version


def _trace(
    model: keras.Model,
    build: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    inputs: dict[str, tuple[Shape, str]],
    outputs: list[str],
) -> tuple[tf.compat.v1.GraphDef, dict[str, np.ndarray]]:
    """Returns the TensorFlow graph, and by name the weights that are inputs of it."""
    # The name contains that of the layer, and the passes keep it: `quantize` reads the part of the network from it.
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


def _declare(values: MutableSequence[onnx.ValueInfoProto], shapes: dict[str, Shape]) -> None:
    """Gives inputs or outputs the order and the axes of `shapes`, in place of those that the converter chose."""
    by_name = {value.name: value for value in values}
    declared = [
        helper.make_tensor_value_info(name, by_name[name].type.tensor_type.elem_type, shape)
        for name, shape in shapes.items()
    ]
    del values[:]
    values.extend(declared)
