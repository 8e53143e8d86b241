"""The layout `loop`: one ONNX file that repeats the step until no image of the batch has an object left.

Only the small mask logits are collected in the loop; they are enlarged after it. The most steps and the stop threshold
are optional inputs, `steps` (int64) and `stop_threshold` (float32), whose defaults are in the file.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graphs.layouts import Layout, encoder_graph, masks_graph, step_graph


def loop_graph(layout: Layout, opset: int, *, stop_threshold: float) -> onnx.ModelProto:
    """Returns one graph that repeats the step until no image has an object left, `steps` times at most.

    The defaults of its inputs `steps` and `stop_threshold` are `spec.steps` and `stop_threshold`. Its outputs are those
    of the unrolled graph with the number of steps that were taken; the last step is the one that ended the sequences.
    """
    spec = layout.spec
    model = encoder_graph(layout, opset, first_step=False)
    body = _body(layout, step_graph(layout, opset))
    masks = _with_prefix(masks_graph(layout, opset), "enlarge/", keep=("logits", "masks"))
    states = list(layout.states)
    defaults: dict[str, np.ndarray] = {
        "steps": np.array(spec.steps, np.int64),
        "stop_threshold": np.array(stop_threshold, np.float32),
    }
    constants: dict[str, np.ndarray] = {**defaults, "loop/go": np.array(True)}
    stacked = ["loop/logits", "loop/classes", "loop/stop"]
    nodes = [
        helper.make_node(
            "Loop",
            ["steps", "loop/go", *states],
            [*(f"loop/last_{name}" for name in states), *stacked],
            name="loop",
            body=body,
        ),
        helper.make_node("Transpose", [stacked[0]], ["logits"], name="loop/logits_first", perm=[1, 0, 2, 3]),
        helper.make_node("Transpose", [stacked[1]], ["classes"], name="loop/classes_first", perm=[1, 0, 2]),
        helper.make_node("Transpose", [stacked[2]], ["stop"], name="loop/stop_first", perm=[1, 0]),
    ]
    model.graph.node.extend([*nodes, *masks.node])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.initializer.extend(masks.initializer)
    shapes = {
        "masks": (layout.batch, "step", *layout.size),
        "classes": (layout.batch, "step", layout.model.config.num_classes),
        "stop": (layout.batch, "step"),
    }
    model.graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [])
        for name, value in defaults.items()
    )
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    onnx.checker.check_model(model)
    return model


def _body(layout: Layout, step: onnx.ModelProto) -> onnx.GraphProto:
    """Returns the step as a loop's body; its contexts and the threshold come from the graph around it."""
    graph = _with_prefix(step, "step/", keep=layout.contexts)
    largest = helper.make_node("ReduceMax", ["step/stop_of_step"], ["step/largest"], name="step/largest", keepdims=0)
    more = helper.make_node("GreaterOrEqual", ["step/largest", "stop_threshold"], ["step/more"], name="step/more")
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [*graph.node, largest, more],
        "step",
        [
            value("step/number", TensorProto.INT64, []),
            value("step/going", TensorProto.BOOL, []),
            *(value(f"step/{name}", TensorProto.FLOAT, shape) for name, shape in layout.states.items()),
        ],
        [
            value("step/more", TensorProto.BOOL, []),
            *(value(f"step/next_{name}", TensorProto.FLOAT, shape) for name, shape in layout.states.items()),
            *(value(f"step/{name}", TensorProto.FLOAT, shape) for name, shape in layout.steps.items()),
        ],
        graph.initializer,
    )


def _with_prefix(model: onnx.ModelProto, prefix: str, *, keep: Iterable[str]) -> onnx.GraphProto:
    """Returns the graph of a model with a prefix before all names of tensors and nodes, except those in `keep`."""
    kept = {"", *keep}

    def own(name: str) -> str:
        return name if name in kept else f"{prefix}{name}"

    graph = model.graph
    for node in graph.node:
        node.name = own(node.name)
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = own(tensor.name)
    return graph
