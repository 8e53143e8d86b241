"""Layouts of an ONNX export that stop early: an encoder graph and a step graph, or both in one graph with a Loop.

`stepwise`: the program that runs them passes the states from step to step and ends when it likes; both graphs keep all
of ONNX Runtime's optimisations. `loop`: one file, ends by itself once no picture of the batch has an object left; ONNX
Runtime optimises the body of a loop less.
"""

from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from export.graph import GraphSpec, resample
from export.onnx_graphs.convert import Shape, convert
from rsis_tf.models import RSIS
from rsis_tf.models.decoder import Memory, Reading, stage_channels
from rsis_tf.models.mask_heads.voting import Ballot
from rsis_tf.ops import resize

Tensor = Any
BALLOT = ("foreground_logits", "votes", "candidates", "appearance")
STEP_OUTPUTS = ("mask", "classes_of_step", "stop_of_step")


class Layout:
    """Names and shapes of what passes between encoder and step, channels first.

    Args:
        model: the network.
        spec: shape of the graph, of fixed size.
    """

    def __init__(self, model: RSIS, spec: GraphSpec) -> None:
        self.model, self.spec = model, spec
        reading = self.read(tf.zeros((1, *spec.size, 3)))
        self.sizes = [tuple(map(int, size)) for size in reading.sizes]
        self.batch = spec.named_input_shape[0]
        self.contexts: dict[str, Shape] = {
            name: (self.batch, part.shape[3], *part.shape[1:3]) for name, part in self.parts(reading).items()
        }
        self.states: dict[str, Shape] = {
            f"{kind}_{stage}": (self.batch, channels, *self.sizes[stage])
            for stage, channels in enumerate(stage_channels(model.config))
            for kind in ("hidden", "cell")
        }
        if reading.ballot:
            self.states["found"] = (self.batch, 1, *self.sizes[-1])

    def read(self, images: Tensor) -> Reading:
        """Returns what all steps read of (B, H, W, 3) pictures."""
        return self.model.decoder.prepare(self.model.project(images, training=False), self.spec.size)

    def parts(self, reading: Reading) -> dict[str, Tensor]:
        """Returns what depends on the image of all that a step reads, by name, each (B, h, w, C)."""
        parts = {}
        if reading.ballot:
            parts |= {name: part for name in BALLOT if (part := getattr(reading.ballot, name)) is not None}
        for stage, (prepared, projection) in enumerate(reading.contexts):
            if len(prepared.gates.shape) == 4:  # else it is the bias alone, a constant of the step
                parts[f"gates_{stage}"] = prepared.gates
            if projection is not None and self.model.config.skip_mode == "mul":
                parts[f"skip_{stage}"] = projection
        return parts


def encoder_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph `image` → what every step reads, and the states before the first."""
    model, spec = layout.model, layout.spec

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image = inputs["image"]
        reading = layout.read(resample(image, spec.size, spec.aspect) if spec.resize else image)
        outputs = {name: _first(part) for name, part in layout.parts(reading).items()}
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
    model, spec = layout.model, layout.spec
    decoder = model.decoder

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        last = {name: _last(value) for name, value in inputs.items()}
        contexts = []
        for stage, cell in enumerate(decoder.cells):
            prepared = cell.prepare(None)
            gates = last.get(f"gates_{stage}", prepared.gates)
            contexts.append((prepared._replace(gates=gates), last.get(f"skip_{stage}")))
        states = [(last[f"hidden_{stage}"], last[f"cell_{stage}"]) for stage in range(len(decoder.cells))]
        ballot = None
        if decoder.voting:
            # Radii are read by training alone; a step has them among its candidates.
            ballot = Ballot(log_radius=None, **{name: last.get(name) for name in BALLOT})
        reading = Reading(contexts, layout.sizes, spec.size, ballot)
        step = decoder.step(reading, Memory(states, last.get("found")), training=False)
        logits = resize(step.mask_logits, spec.size)[..., 0]  # (B, H, W)
        class_probs, stop_logits = decoder.heads(step.features, training=False)
        outputs = dict(zip(STEP_OUTPUTS, (tf.sigmoid(logits), class_probs, tf.sigmoid(stop_logits)), strict=True))
        for stage, (hidden, cell) in enumerate(step.memory.states):
            outputs[f"next_hidden_{stage}"], outputs[f"next_cell_{stage}"] = _first(hidden), _first(cell)
        if step.memory.found is not None:
            outputs["next_found"] = _first(step.memory.found)
        return outputs

    batch = layout.batch
    shapes = ((batch, *spec.size), (batch, model.config.num_classes), (batch,))
    return convert(
        model,
        build,
        inputs={name: (shape, "float32") for name, shape in (layout.contexts | layout.states).items()},
        outputs=dict(zip(STEP_OUTPUTS, shapes, strict=True))
        | {f"next_{name}": shape for name, shape in layout.states.items()},
        opset=opset,
    )


def loop_graph(layout: Layout, opset: int, *, stop_threshold: float) -> onnx.ModelProto:
    """Returns one graph that repeats the step until no picture has an object left, `spec.steps` times at most.

    Its outputs are those of the unrolled graph with as many steps as were taken; the last of them is the one that
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
        "masks": (layout.batch, "step", *spec.size),
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
    """The step as a loop's body: contexts come from the graph around it, every other name is its own."""

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
