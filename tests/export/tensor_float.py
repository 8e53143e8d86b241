"""TensorFloat-32 on a CPU: how a GPU since Ampere rounds the operands of matrix products and convolutions.

The format has the 8 exponent bits of float32 and 10 bits of mantissa (NVIDIA A100 white paper); products are summed in
float32. Depending on the kernel, hardware rounds to nearest or cuts the other 13 bits off.
"""

import numpy as np
import onnx
from onnx import helper

from export.onnx_graphs.passes import GraphEditor

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SPLITTER = np.float32(2**13 + 1)


def to_tensor_float(values: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Returns float32 values with 10 bits of mantissa left."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    if not cut:
        bits += 0x0FFF + ((bits >> 13) & 1)  # to nearest, ties to even
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32)


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy of a graph that rounds the operands of its products with ordinary float32 operations.

    Rounding is Veltkamp's: c = 8193·x, c − (c − x) holds x to 11 digits.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    editor = GraphEditor(copy)
    editor.add_constant("tf32/splitter", SPLITTER)
    rounded: dict[str, str] = {}
    nodes = []
    for node in copy.graph.node:
        for i, name in enumerate(node.input[:2] if node.op_type in PRODUCTS else ()):
            if name not in rounded:
                rounded[name] = f"{name}/tf32"
                if name in editor.constants:
                    editor.add_constant(rounded[name], to_tensor_float(editor.value(name)))
                else:
                    large, rest = f"{name}/tf32/large", f"{name}/tf32/rest"
                    nodes += [
                        helper.make_node("Mul", [name, "tf32/splitter"], [large], name=large),
                        helper.make_node("Sub", [large, name], [rest], name=rest),
                        helper.make_node("Sub", [large, rest], [rounded[name]], name=rounded[name]),
                    ]
            node.input[i] = rounded[name]
        nodes.append(node)
    editor.commit(nodes)
    return copy
