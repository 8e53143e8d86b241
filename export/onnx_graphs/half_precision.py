"""Converts an ONNX graph to float16: half the size, and faster on GPUs. CPUs convert the values back to float32."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graphs.passes import GraphEditor

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
ALWAYS_FLOAT = {"Resize": (1, 2)}
"""Operator → inputs that its definition requires in float32 (region and scales)."""


def to_half(model: onnx.ModelProto) -> None:
    """Converts weights and arithmetic to float16; `image`, `masks`, `classes` and `stop` keep their type.

    Nodes before the first convolution stay in float32: colours from 0 to 255 and pixel positions in large images have
    more digits than float16 holds. Comparisons stay too (`nodes_compared`).
    """
    types = _element_types(model)
    editor = GraphEditor(model)
    before = {id(node) for node in nodes_before_convolutions(model)}
    exact = {id(node) for node in nodes_compared(model)}
    half: set[str] = set()  # tensors that are float16 afterwards
    ready: dict[str, str] = {}  # float32 tensor or constant → its float16 copy
    restored: dict[str, str] = {}  # float16 tensor → its float32 copy
    nodes = []
    for node in model.graph.node:
        if id(node) in before:
            nodes.append(node)
            continue
        if id(node) in exact:
            for i, name in enumerate(node.input):
                if name not in half:
                    continue
                if name not in restored:
                    restored[name] = f"{name}/exact"
                    nodes.append(helper.make_node("Cast", [name], [restored[name]], name=restored[name], to=FLOAT))
                node.input[i] = restored[name]
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if types.get(name) != FLOAT or name in half or i in ALWAYS_FLOAT.get(node.op_type, ()):
                continue
            if name not in ready:
                ready[name] = f"{name}/half"
                if name in editor.constants:
                    editor.add_constant(ready[name], editor.value(name).astype(np.float16))
                else:
                    nodes.append(helper.make_node("Cast", [name], [ready[name]], name=ready[name], to=HALF))
            node.input[i] = ready[name]
        if node.op_type == "Cast":
            for attribute in node.attribute:
                attribute.i = HALF if attribute.i == FLOAT else attribute.i
        if node.op_type == "ConstantOfShape":
            for attribute in node.attribute:
                value = numpy_helper.to_array(attribute.t)
                if value.dtype == np.float32:
                    attribute.t.CopyFrom(numpy_helper.from_array(value.astype(np.float16)))
        nodes.append(node)
        for i, name in enumerate(node.output):
            if types.get(name) == FLOAT:
                if name in editor.outputs:
                    node.output[i] = f"{name}/half"
                    ready[name] = node.output[i]  # for nodes that read this output too
                    nodes.append(helper.make_node("Cast", [node.output[i]], [name], name=f"{name}/float", to=FLOAT))
                half.add(node.output[i])
    del model.graph.value_info[:]
    editor.commit(nodes)


def nodes_before_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Returns the nodes that do not depend on a convolution."""
    fed: set[str] = set()
    before = []
    for node in model.graph.node:  # in topological order
        if node.op_type == "Conv" or fed.intersection(node.input):
            fed.update(node.output)
        else:
            before.append(node)
    return before


def nodes_compared(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Returns the comparisons, and what computes their operands after the last convolution or resize.

    A maximum is compared with the values it is taken from. If one of the two were rounded and the other not, as ONNX
    Runtime does on CPUs, no value would equal the maximum.
    """
    wanted: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        if node.op_type == "GreaterOrEqual" or (
            wanted.intersection(node.output) and node.op_type not in ("Conv", "Resize", "Shape")
        ):
            found.append(node)
            wanted.update(node.input)
    return found


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Returns the element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}
