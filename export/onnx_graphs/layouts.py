"""The graphs of the ONNX layouts that stop early: `encoder` (with the first step), `step` and `masks`.

`stepwise` is a folder of the three. The program that runs them passes the states from step to step, decides when to
end, and enlarges the masks of the steps that were taken, all at once. `export.onnx_graphs.loop` makes one file of them.
"""

import dataclasses
from typing import Any

import onnx
import tensorflow as tf

from export.graph import GraphSpec, resample
from export.onnx_graphs.convert import Shape, convert
from rsis_tf.models import RSIS
from rsis_tf.models.decoder import Step, StepState, stage_channels
from rsis_tf.models.mask_heads.interface import ImageContext, StageContext
from rsis_tf.ops import resize, spatial_size
from rsis_tf.runtime import STEP_OUTPUTS

Tensor = Any


class Layout:
    """Names and shapes of what passes between encoder and step, channels first.

    Args:
        model: the network.
        spec: shape of the graph. Its size may be dynamic; then steps and masks read the size off the image.

    Attributes:
        size: (height, width) at which the network runs; None for the size of the image.
        image: name → shape and dtype of `image`, for the graphs after the encoder that read its size; empty for a fixed
            size.
        contexts: what every step reads, computed once per image.
        states: what passes from step to step.
        steps: what a step returns, see `STEP_OUTPUTS`.
        masks: shape of the masks of all steps, (B, "step", H, W).
    """

    def __init__(self, model: RSIS, spec: GraphSpec) -> None:
        self.model, self.spec, self.size = model, spec, spec.size
        self.batch = spec.named_input_shape[0]
        self.image: dict[str, tuple[Shape, str]] = (
            {} if self.size else {"image": (spec.named_input_shape, spec.input_type)}
        )
        self.masks: Shape = (self.batch, "step", *(self.size or spec.named_input_shape[1:3]))
        context = self.read(tf.zeros((1, *(self.size or model.config.image_size), 3)))
        self._sizes = [(int(height), int(width)) for height, width in context.sizes] if self.size else None
        self.contexts: dict[str, Shape] = {
            name: self._shape(name, part.shape) for name, part in self.tensors_of(context).items()
        }
        self.states: dict[str, Shape] = {
            f"{kind}_{stage}": self._shape(f"stage_{stage}", (1, *context.sizes[stage], channels))
            for stage, channels in enumerate(stage_channels(model.config))
            for kind in ("hidden", "cell")
        }
        start = model.decoder.start(context)
        self.states |= {name: self._shape(name, part.shape) for name, part in start.head.items()}
        self.head_contexts, self.head_states = tuple(context.head), tuple(start.head)
        logits = model.decoder.step(context, start, training=False).mask_logits
        batch, _, *mask_size = self._shape("logits", logits.shape)
        self.steps: dict[str, Shape] = {
            "logits_of_step": (batch, *mask_size),
            "classes_of_step": (self.batch, model.config.num_classes),
            "stop_of_step": (self.batch,),
        }

    def read(self, images: Tensor) -> ImageContext:
        """Returns what every step reads of (B, H, W, 3) images."""
        maps = self.model.project(images, training=False)
        return self.model.decoder.prepare(maps, self.size or spatial_size(images))

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
        """Returns the context whose parts are these tensors: the inverse of `tensors_of`.

        Args:
            tensors: contexts and states, each (B, h, w, C), and the image (B, H, W, 3) if the size is dynamic.
        """
        stages = []
        for stage, cell in enumerate(self.model.decoder.cells):
            constant = cell.prepare(None)
            gates = tensors.get(f"gates_{stage}", constant.gates)
            stages.append(StageContext(constant._replace(gates=gates), tensors.get(f"skip_{stage}")))
        head = {name: tensors[name] for name in self.head_contexts}
        sizes = self._sizes or [spatial_size(tensors[f"hidden_{stage}"]) for stage in range(len(stages))]
        return ImageContext(stages, sizes, self.size or spatial_size(tensors["image"]), head, {})

    def state_from(self, tensors: dict[str, Tensor]) -> StepState:
        """Returns the state whose parts are these tensors, by the names in `states`."""
        stages = range(len(self.model.decoder.cells))
        cells = [(tensors[f"hidden_{stage}"], tensors[f"cell_{stage}"]) for stage in stages]
        return StepState(cells, {name: tensors[name] for name in self.head_states})

    def outputs_of(self, step: Step) -> dict[str, Tensor]:
        """Returns what a step returns and the states after it, by the names in `steps` and `states`."""
        class_probs, stop_logits = self.model.decoder.heads(step.features, training=False)
        outputs = dict(zip(STEP_OUTPUTS, (step.mask_logits[..., 0], class_probs, tf.sigmoid(stop_logits)), strict=True))
        for stage, (hidden, cell) in enumerate(step.state.stages or []):
            outputs[f"hidden_{stage}"], outputs[f"cell_{stage}"] = _first(hidden), _first(cell)
        return outputs | {name: _first(part) for name, part in step.state.head.items()}

    def _shape(self, name: str, channels_last: Any) -> Shape:
        """Returns the shape of a tensor of the graphs; a dynamic size gets names that begin with `name`."""
        _, height, width, channels = channels_last
        return (self.batch, channels, *((height, width) if self.size else (f"{name}_height", f"{name}_width")))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepGraphs:
    """The graphs that are run one after the other; the names are those of `rsis_tf.runtime.GRAPHS`.

    Attributes:
        encoder: with the first step, whose states are zero: it needs fewer convolutions.
        step: one further step.
        masks: enlarges the masks of all steps.
    """

    encoder: onnx.ModelProto
    step: onnx.ModelProto
    masks: onnx.ModelProto


def step_graphs(layout: Layout, opset: int) -> StepGraphs:
    """Returns the graphs in float32.

    Args:
        layout: names and shapes.
        opset: version of the ONNX operators.
    """
    return StepGraphs(
        encoder=encoder_graph(layout, opset), step=step_graph(layout, opset), masks=masks_graph(layout, opset)
    )


def encoder_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph `image` → what every step reads, what the first step returns, and the states after it.

    The states before the first step are zero, which saves it most of its convolutions.

    Args:
        layout: names and shapes.
        opset: version of the ONNX operators.
    """
    model, spec = layout.model, layout.spec

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image = inputs["image"]
        context = layout.read(resample(image, spec.fixed_size, spec.aspect) if spec.resize else image)
        outputs = {name: _first(part) for name, part in layout.tensors_of(context).items()}
        step = model.decoder.step(context, model.decoder.start(context), training=False)
        return outputs | layout.outputs_of(step)

    proto = convert(
        model,
        build,
        inputs={"image": (spec.named_input_shape, spec.input_type)},
        outputs=layout.contexts | layout.states | layout.steps,
        opset=opset,
    )
    _write_outputs_directly(proto.graph)
    return proto


def step_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph of one step: contexts and states → what the step returns, and the next states (`next_…`)."""
    decoder = layout.model.decoder
    passed = layout.contexts | layout.states

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        last = {name: _last(value) if name in passed else value for name, value in inputs.items()}
        step = decoder.step(layout.context_from(last), layout.state_from(last), training=False)
        return {f"next_{name}" if name in layout.states else name: x for name, x in layout.outputs_of(step).items()}

    proto = convert(
        layout.model,
        build,
        inputs={name: (shape, "float32") for name, shape in passed.items()} | layout.image,
        outputs=layout.steps | {f"next_{name}": shape for name, shape in layout.states.items()},
        opset=opset,
    )
    _write_outputs_directly(proto.graph)
    return proto


def masks_graph(layout: Layout, opset: int) -> onnx.ModelProto:
    """Returns the graph `logits` (B, T, h, w) → `masks` (B, T, H, W), probabilities at the size the network runs at."""

    def build(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        size = layout.size or spatial_size(inputs["image"])
        return {"masks": tf.sigmoid(_first(resize(_last(inputs["logits"]), size)))}

    _, *mask_size = layout.steps["logits_of_step"]
    return convert(
        layout.model,
        build,
        inputs={"logits": ((layout.batch, "step", *mask_size), "float32")} | layout.image,
        outputs={"masks": layout.masks},
        opset=opset,
    )


def _write_outputs_directly(graph: onnx.GraphProto) -> None:
    """Removes the copies (`Identity`) that only name an output: the node before it writes the output itself."""
    made = {name for node in graph.node for name in node.output}
    outputs = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] in outputs and node.input[0] in made - outputs:
            renamed.setdefault(node.input[0], node.output[0])  # a tensor with two names keeps a copy for the second
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and renamed.get(node.input[0]) == node.output[0]:
            continue
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _first(x: Tensor) -> Tensor:
    return tf.transpose(x, (0, 3, 1, 2))  # (B, C, h, w)


def _last(x: Tensor) -> Tensor:
    return tf.transpose(x, (0, 2, 3, 1))  # (B, h, w, C)
