"""Removes roundings from an 8-bit TFLite file that serve no integer operator.

TensorFlow's quantiser leaves pairs of QUANTIZE and DEQUANTIZE around operators that stay in float32, so that tensors
such as the features of the stop probability are rounded to 256 values for nothing.
"""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"


def without_useless_roundings(content: bytes) -> bytes:
    """Returns the file in which every float32 operator reads float32 values that were never rounded.

    A DEQUANTIZE whose input is a rounded float32 tensor is replaced by that tensor, a QUANTIZE of a rounded tensor
    rounds the original, and operators whose results nothing reads are removed.

    Args:
        content: of a file with one graph.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (graph,) = model.subgraphs
    rounded: dict[int, int] = {}  # 8-bit tensor → the float32 tensor whose values it holds
    same: dict[int, int] = {}  # tensor → the one that takes its place
    operators = []
    for operator in graph.operators:  # in the order of computation
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        operator.inputs = [same.get(tensor, tensor) for tensor in operator.inputs]
        source = rounded.get(operator.inputs[0], operator.inputs[0])
        if code == schema.BuiltinOperator.QUANTIZE and graph.tensors[source].type == schema.TensorType.FLOAT32:
            operator.inputs, rounded[operator.outputs[0]] = [source], source
        elif code == schema.BuiltinOperator.DEQUANTIZE and operator.inputs[0] in rounded:
            same[operator.outputs[0]] = source
            continue
        operators.append(operator)
    graph.outputs = [same.get(tensor, tensor) for tensor in graph.outputs]
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = same.get(output.tensorIndex, output.tensorIndex)
    read, live = set(graph.outputs), []
    for operator in reversed(operators):
        if read.intersection(operator.outputs):
            live.append(operator)
            read.update(operator.inputs)
    graph.operators = live[::-1]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())
