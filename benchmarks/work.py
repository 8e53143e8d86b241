"""Counts the multiply-adds of an ONNX graph."""

import math
import pathlib

import onnx


def multiply_adds(path: pathlib.Path, *, batch: int) -> int:
    """Returns the multiply-adds of the convolutions and matrix products of a graph.

    Args:
        path: an ONNX file of fixed image size.
        batch: images in one run.

    Raises:
        ValueError: if the shape of a tensor is not fixed, or the graph has a loop.
    """
    return sum(multiply_adds_of_nodes(path, batch=batch, resizes=False).values())


def multiply_adds_of_nodes(path: pathlib.Path, *, batch: int, resizes: bool) -> dict[str, int]:
    """Returns first output of a node → multiply-adds, for the nodes that have any.

    Args:
        path: an ONNX file of fixed image size.
        batch: images in one run.
        resizes: whether to count bilinear resizing, with four for each value: its neighbours and their weights.

    Raises:
        ValueError: if the shape of a tensor is not fixed, or the graph has a loop.
    """
    model = onnx.load(path)
    if any(node.op_type == "Loop" for node in model.graph.node):
        raise ValueError(f"expected a graph without a loop (--layout unrolled). Received: {path}")
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    for values in (model.graph.value_info, model.graph.output):
        for value in values:  # stored shapes are of any batch
            value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            shapes[value.name] = [size.dim_value for size in sizes]

    def shape(name: str) -> list[int]:
        if name not in shapes:
            raise ValueError(f"expected a graph of fixed shapes. Received: {path}, where {name} has none")
        return shapes[name]

    counts = {}
    for node in graph.node:
        if node.op_type == "Conv":
            # Weights (O, I/groups, h, w), output (B, O, H, W).
            counts[node.output[0]] = math.prod(shape(node.output[0])) * math.prod(shape(node.input[1])[1:])
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            inner = shape(node.input[0])[-2 if transposed else -1]
            counts[node.output[0]] = math.prod(shape(node.output[0])) * inner
        elif node.op_type == "Resize" and resizes:
            counts[node.output[0]] = 4 * math.prod(shape(node.output[0]))
    return counts
