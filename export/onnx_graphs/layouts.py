"""Layouts of an ONNX export that stop early: an encoder graph and a step graph, or both in one graph with a Loop.

`stepwise`: the program that runs the two graphs passes the states from step to step and decides when to end; both
graphs keep all of ONNX Runtime's optimisations. `loop`: one file, ends by itself when no image of the batch has an
object left; ONNX Runtime optimises the body of a loop less.
"""

from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from export.graph import GraphSpec, resample
from export.onnx_graphs.convert import Shape, convert
from rsis_tf.models import RSIS
from rsis_tf.models.decoder import StepState, stage_channels
from rsis_tf.models.mask_heads.interface import ImageContext, StageContext
from rsis_tf.ops import resize

Tensor = Any
STEP_OUTPUTS = ("mask", "classes_of_step", "stop_of_step")


class Layout:
    """Names and shapes of what passes between encoder and step, channels first.

    Args:
        model: the network.
        spec: shape of the graph, of fixed size.
    """

    def __init__(self, model: RSIS, spec: GraphSpec) -> None:
        if spec.size is None:
            raise ValueError("expected a graph of fixed size. Received: spec.size=None")
        self.model, self.spec, self.size = model, spec, spec.size
        context = self.read(tf.zeros((1, *self.size, 3)))
        self.sizes = [(int(height), int(width)) for height, width in context.sizes]
        self.batch = spec.named_input_shape[0]
        self.contexts: dict[str, Shape] = {
            name: self._shape(part.shape) for name, part in self.tensors_of(context).items()
        }
        self.states: dict[str, Shape] = {
            f"{kind}_{stage}": (self.batch, channels, *self.sizes[stage])
            for stage, channels in enumerate(stage_channels(model.config))
            for kind in ("hidden", "cell")
        }
        head = model.decoder.start(context).head
        self.states |= {name: self._shape(part.shape) for name, part in head.items()}
        self.head_contexts, self.head_states = tuple(context.head), tuple(head)

    def read(self, images: Tensor) -> ImageContext:
        """Returns what every step reads of (B, H, W, 3) images."""
        return self.model.decoder.prepare(self.model.project(images, training=False), self.size)

    def tensors_of(self, context: ImageContext) -> dict[str, Tensor]:
        """Returns the parts of a context that depend on the image, by name, each (B, h, w, C)."""
        tensors = dict(context.head)
        for stage, (cell, projection) in enumerate(context.stages):
            if len(cell.gates.shape) == 4:  # otherwise only the bias, a constant of the step
                tensors[f"gates_{stage}"] = cell.gates
            if projection is not None:
                tensors[f"skip_{stage}"] = projection
        return tensors

    def context_from(self, tensors: dict[str, Tensor]) -> ImageContext:
        """Returns the context whose parts are these tensors: the inverse of `tensors_of`."""
        stages = []
        for stage, cell in enumerate(self.model.decoder.cells):
            constant = cell.prepare(None)
            gates = tensors.get(f"gates_{stage}", constant.gates)
            stages.append(StageContext(constant._replace(gates=gates), tensors.get(f"skip_{stage}")))
        head = {name: tensors[name] for name in self.head_contexts}
        return ImageContext(stages, self.sizes, self.size, head, {})

    def state_from(self, tensors: dict[str, Tensor]) -> StepState:
        """Returns the state whose parts are these tensors, by the names in `states`."""
        stages = range(len(self.model.decoder.cells))
        cells = [(tensors[f"hidden_{stage}"], tensors[f"cell_{stage}"]) for stage in stages]
        return StepState(cells, {name: tensors[name] for name in self.head_states})

    def _shape(self, channels_last: Any) -> Shape:
        _, height, width, channels = channels_last
        return (self.batch, channels, height, width)


def encoder_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph `image` → what every step reads, and the states before the first step."""
    model, spec = layout.model, layout.spec

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image = inputs["image"]
        context = layout.read(resample(image, layout.size, spec.aspect) if spec.resize else image)
        outputs = {name: _first(part) for name, part in layout.tensors_of(context).items()}
        batch = tf.shape(image)[0] if spec.batch is None else spec.batch
        for name, (_, *shape) in layout.states.items():
            outputs[name] = tf.zeros(tf.stack([batch, *shape]))
        return outputs

    return convert(
        model,
        build,
        inputs={"image": (spec.named_input_shape, spec.input_type)},
        outputs=layout.contexts | layout.states,
        opset=opset,
    )


def step_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph of one step: contexts and states → mask, classes, stop, and the next states (`next_…`)."""
    model = layout.model
    decoder = model.decoder

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        last = {name: _last(value) for name, value in inputs.items()}
        step = decoder.step(layout.context_from(last), layout.state_from(last), training=False)
        logits = resize(step.mask_logits, layout.size)[..., 0]  # (B, H, W)
        class_probs, stop_logits = decoder.heads(step.features, training=False)
        outputs = dict(zip(STEP_OUTPUTS, (tf.sigmoid(logits), class_probs, tf.sigmoid(stop_logits)), strict=True))
        for stage, (hidden, cell) in enumerate(step.state.stages or []):
            outputs[f"next_hidden_{stage}"], outputs[f"next_cell_{stage}"] = _first(hidden), _first(cell)
        outputs |= {f"next_{name}": _first(part) for name, part in step.state.head.items()}
        return outputs

    batch = layout.batch
    shapes = ((batch, *layout.size), (batch, model.config.num_classes), (batch,))
    return convert(
        model,
        build,
        inputs={name: (shape, "float32") for name, shape in (layout.contexts | layout.states).items()},
        outputs=dict(zip(STEP_OUTPUTS, shapes, strict=True))
        | {f"next_{name}": shape for name, shape in layout.states.items()},
        opset=opset,
    )


def loop_graph(layout: Layout, opset: int, *, stop_threshold: float) -> onnx.ModelProto:
    """Returns one graph that repeats the step until no image has an object left, `spec.steps` times at most.

    Its outputs are those of the unrolled graph with the number of steps that were taken; the last step is the one that
    ended the sequences.
    """
    spec = layout.spec
    model, step = encoder_graph(layout, opset), step_graph(layout, opset)
    body = _body(layout, step, stop_threshold)
    states = list(layout.states)
    constants = {"loop/steps": np.array(spec.steps, np.int64), "loop/go": np.array(True)}
    stacked = ["loop/masks", "loop/classes", "loop/stop"]
    nodes = [
        helper.make_node(
            "Loop", [*constants, *states], [*(f"loop/last_{name}" for name in states), *stacked], name="loop", body=body
        ),
        helper.make_node("Transpose", [stacked[0]], ["masks"], name="loop/masks_first", perm=[1, 0, 2, 3]),
        helper.make_node("Transpose", [stacked[1]], ["classes"], name="loop/classes_first", perm=[1, 0, 2]),
        helper.make_node("Transpose", [stacked[2]], ["stop"], name="loop/stop_first", perm=[1, 0]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    shapes = {
        "masks": (layout.batch, "step", *layout.size),
        "classes": (layout.batch, "step", layout.model.config.num_classes),
        "stop": (layout.batch, "step"),
    }
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    onnx.checker.check_model(model)
    return model


def _body(layout: Layout, step: onnx.ModelProto, stop_threshold: float) -> onnx.GraphProto:
    """Returns the step as a loop's body; contexts come from the graph around it, all other names get a prefix."""

    def own(name: str) -> str:
        return name if not name or name in layout.contexts else f"step/{name}"

    graph = step.graph
    for node in graph.node:
        node.name = own(node.name)
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = own(tensor.name)
    threshold = numpy_helper.from_array(np.array(stop_threshold, np.float32), "step/threshold")
    largest = helper.make_node("ReduceMax", [own("stop_of_step")], ["step/largest"], name="step/largest", keepdims=0)
    more = helper.make_node("GreaterOrEqual", ["step/largest", "step/threshold"], ["step/more"], name="step/more")
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [*graph.node, largest, more],
        "step",
        [
            value("step/number", TensorProto.INT64, []),
            value("step/going", TensorProto.BOOL, []),
            *(value(own(name), TensorProto.FLOAT, shape) for name, shape in layout.states.items()),
        ],
        [
            value("step/more", TensorProto.BOOL, []),
            *(value(own(f"next_{name}"), TensorProto.FLOAT, shape) for name, shape in layout.states.items()),
            *(value(own(output.name), TensorProto.FLOAT, _shape(output)) for output in graph.output[:3]),
        ],
        [*graph.initializer, threshold],
    )


def _shape(output: onnx.ValueInfoProto) -> Shape:
    return tuple(side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim)


def _first(x: Tensor) -> Tensor:
    return tf.transpose(x, (0, 3, 1, 2))  # (B, C, h, w)


def _last(x: Tensor) -> Tensor:
    return tf.transpose(x, (0, 2, 3, 1))  # (B, h, w, C)
