"""An ONNX graph with the exporter's names whose outputs can be counted by hand."""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASS_NAMES = ("background", "leaf", "stone")
CLASS_PROBS = np.array([[0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.8, 0.15, 0.05]], np.float32)  # (T, K)


def write_toy_graph(
    path: pathlib.Path,
    *,
    size: tuple[int | str, int | str] = (8, 8),
    batch: int | str = "batch",
    dtype: int = TensorProto.UINT8,
    metadata: dict[str, str] | None = None,
) -> pathlib.Path:
    """Writes a graph of three steps: step t's mask is colour channel t / 255, its objectness the channel's maximum."""
    constants = {
        "scale": np.array(255, np.float32),
        "probs": CLASS_PROBS[None],  # (1, T, K)
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["channels", "scale"], ["masks"]),
        helper.make_node("ReduceMax", ["masks"], ["stop"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["stop", "last"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "probs"], ["classes"]),
    ]
    constants["last"] = np.array([2], np.int64)
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", dtype, [batch, *size, 3])],
        [
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, [batch, 3, *size]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, 3, 3]),
            helper.make_tensor_value_info("stop", TensorProto.FLOAT, [batch, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    properties = {
        "class_names": json.dumps(CLASS_NAMES),
        "image_size": "[8, 8]",
        "dynamic_size": "false" if isinstance(size[0], int) else "true",
        "num_steps": "3",
        "stop_threshold": "0.5",
        "mask_threshold": "0.5",
    }
    helper.set_model_props(model, properties if metadata is None else metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
