"""The layout `loop`: one ONNX file that repeats the step until no image of the batch has an object left.

The first step is computed before the loop, because its states are zero and it needs fewer convolutions. Only the small
mask logits are collected in the loop; they are enlarged after it. The most steps and the stop threshold are the
constants `steps` (int64) and `stop_threshold` (float32). `rsis_tf.runtime` makes them inputs of the graph when it opens
a file with other values.

Encoder and step are graphs of their own until they are joined, so each can be converted to another precision before.
States and contexts pass from one to the other in float32.
"""

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graphs.layouts import Layout, StepGraphs
from rsis_tf.runtime import STEP_OUTPUTS


def loop_graph(layout: Layout, graphs: StepGraphs, *, stop_threshold: float) -> onnx.ModelProto:
    """Returns one graph that repeats the step until no image has an object left.

    Its outputs are those of the unrolled graph with the number of steps that were taken, `spec.steps` at most; the last
    step is the one that ended the sequences.

    Args:
        layout: names and shapes.
        graphs: from `step_graphs`, in any precision; they are not changed.
        stop_threshold: objectness below which the sequence of an image has ended.
    """
    spec = layout.spec
    model = copy.deepcopy(graphs.encoder)
    first = [f"first/{name}" for name in STEP_OUTPUTS]
    _rename(model.graph, dict(zip(STEP_OUTPUTS, first, strict=True)))
    body = _body(layout, copy.deepcopy(graphs.step))
    masks = _with_prefix(copy.deepcopy(graphs.masks), "enlarge/", keep=("logits", "masks", *layout.image))
    states = list(layout.states)
    constants: dict[str, np.ndarray] = {
        "steps": np.array(spec.steps, np.int64),
        "stop_threshold": np.array(stop_threshold, np.float32),
        "loop/one": np.array(1, np.int64),
        "loop/front": np.array([0], np.int64),
        "loop/back": np.array([1], np.int64),
    }
    stacked = [f"loop/{name}" for name in STEP_OUTPUTS]
    make = helper.make_node
    nodes = [
        make("Sub", ["steps", "loop/one"], ["loop/most"], name="loop/most"),
        *_more("first/", first[-1], "loop/go"),
        make(
            "Loop",
            ["loop/most", "loop/go", *states],
            [*(f"loop/last_{name}" for name in states), *stacked],
            name="loop",
            body=body,
        ),
    ]
    for one, later, name in zip(first, stacked, ("logits", "classes", "stop"), strict=True):
        axes = [1, 0, *range(2, len(layout.steps[one.removeprefix("first/")]) + 1)]
        nodes += [
            # Without a later step, dynamic axes of `later` are zero. They get the sizes of the first step.
            make("Shape", [one], [f"{one}/shape"], name=f"{one}/shape"),
            make("Shape", [later], [f"{later}/shape"], name=f"{later}/shape"),
            make("Slice", [f"{later}/shape", "loop/front", "loop/back"], [f"{later}/count"], name=f"{later}/count"),
            make("Concat", [f"{later}/count", f"{one}/shape"], [f"{later}/sizes"], name=f"{later}/sizes", axis=0),
            make("Reshape", [later, f"{later}/sizes"], [f"{later}/sized"], name=f"{later}/sized", allowzero=1),
            make("Unsqueeze", [one, "loop/front"], [f"{one}/stacked"], name=f"{one}/stacked"),  # (1, B, …)
            make("Concat", [f"{one}/stacked", f"{later}/sized"], [f"{later}/all"], name=f"{later}/all", axis=0),
            make("Transpose", [f"{later}/all"], [name], name=f"{later}/batch_first", perm=axes),  # (B, T, …)
        ]
    model.graph.node.extend([*nodes, *masks.node])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.initializer.extend(masks.initializer)
    shapes = {
        "masks": layout.masks,
        "classes": (layout.batch, "step", layout.model.config.num_classes),
        "stop": (layout.batch, "step"),
    }
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    onnx.checker.check_model(model)
    return model


def step_feeds(
    layout: Layout, graphs: StepGraphs, images: Iterable[np.ndarray], *, stop_threshold: float
) -> Iterator[dict[str, np.ndarray]]:
    """Runs the loop step by step and yields what the step reads each time; every image has a second step.

    Args:
        layout: names and shapes.
        graphs: in float32.
        images: for the file, each (B, H, W, 3).
        stop_threshold: at which a sequence ends.
    """
    encoder, step = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (graphs.encoder, graphs.step)
    )
    read = {value.name for value in step.get_inputs()}
    names = [value.name for value in step.get_outputs()]
    for image in images:
        outputs = encoder.run(None, {"image": image})
        known = dict(zip((value.name for value in encoder.get_outputs()), outputs, strict=True)) | {"image": image}
        for _ in range(max(layout.spec.steps - 1, 1)):
            feed = {name: value for name, value in known.items() if name in read}
            yield feed
            after = dict(zip(names, step.run(names, feed), strict=True))
            if after[STEP_OUTPUTS[-1]].max() < stop_threshold:
                break
            known |= {name: after[f"next_{name}"] for name in layout.states}


def _body(layout: Layout, step: onnx.ModelProto) -> onnx.GraphProto:
    """Returns the step as a loop's body; its contexts, the threshold and the image come from the graph around it."""
    graph = _with_prefix(step, "step/", keep=(*layout.contexts, *layout.image))
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [*graph.node, *_more("step/", "step/stop_of_step", "step/more")],
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


def _more(prefix: str, stop: str, result: str) -> list[onnx.NodeProto]:
    """Returns the nodes that compute whether an image of the batch has an object left after a step."""
    largest = f"{prefix}largest"
    return [
        helper.make_node("ReduceMax", [stop], [largest], name=largest, keepdims=0),
        helper.make_node("GreaterOrEqual", [largest, "stop_threshold"], [result], name=result),
    ]


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Gives tensors other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


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
