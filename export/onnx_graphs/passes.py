"""Passes that rewrite an ONNX graph without changing what it computes; each docstring states the rounding."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

TO_LAST = [0, 2, 3, 1]
"""(B, C, H, W) → (B, H, W, C)."""
TO_FIRST = [0, 3, 1, 2]
"""(B, H, W, C) → (B, C, H, W)."""


class GraphEditor:
    """Tables of a graph: the node that produces each tensor, the nodes that read it, and the constants.

    They are valid until the graph changes. `commit` writes a new list of nodes and rebuilds the tables.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.opset = model.opset_import[0].version
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._index()

    def _index(self) -> None:
        self.outputs = {output.name for output in self.graph.output}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> np.ndarray:
        """Returns the value of a constant."""
        return numpy_helper.to_array(self.constants[name])

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Stores a constant and returns its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Returns the only node that reads a tensor, or None if there are several or the tensor is an output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def commit(self, nodes: Iterable[onnx.NodeProto], renamed: dict[str, str] | None = None) -> None:
        """Writes the nodes of the graph, given in topological order; inputs in `renamed` get their new names."""
        copies = [_copy(node) for node in nodes]
        for node in copies:
            for i, name in enumerate(node.input):
                while renamed and name in renamed:
                    name = renamed[name]
                node.input[i] = name
        del self.graph.node[:]
        self.graph.node.extend(copies)
        used = {name for node in copies for name in node.input}
        self.constants = {name: tensor for name, tensor in self.constants.items() if name in used}
        del self.graph.initializer[:]
        self.graph.initializer.extend(self.constants.values())
        self._index()


def embed_weights(model: onnx.ModelProto, weights: dict[str, np.ndarray]) -> None:
    """Turns the named inputs of the graph into constants."""
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())


def fold_constants(model: onnx.ModelProto) -> None:
    """Replaces nodes that depend on constants only by their values, computed with onnx's reference evaluator.

    The name of a new constant is that of the first constant it depends on, followed by its own.
    """
    editor = GraphEditor(model)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    known: dict[str, np.ndarray] = {}
    origin = {name: name for name in editor.constants}
    kept = []
    for node in model.graph.node:
        varies = not node.input or any(name and name not in origin for name in node.input)
        if varies or editor.outputs.intersection(node.output):
            kept.append(node)
            continue
        feed = {}
        for name in filter(None, node.input):
            if name not in known:
                known[name] = editor.value(name)
            feed[name] = known[name]
        values = ReferenceEvaluator(node, opsets=opsets).run(None, feed)
        known.update(zip(node.output, map(np.asarray, values), strict=True))
        origin.update(dict.fromkeys(node.output, origin[next(iter(feed))]))
    renamed = {}
    for name in dict.fromkeys(name for node in kept for name in node.input):
        if name not in editor.constants and name in known:
            renamed[name] = editor.add_constant(f"{origin[name]}/{name}", known[name])
    editor.commit(kept, renamed)


def fold_scales(model: onnx.ModelProto) -> None:
    """Folds a product or sum with a constant per channel (batch normalisation) into the convolution before it.

    Changes the rounding of a weight in the last bit.
    """
    editor = GraphEditor(model)
    gone = set()
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in editor.constants:
            continue
        kernel = editor.value(node.input[1]).astype(np.float64)  # (C_out, C_in, k, k)
        channels = len(kernel)
        bias = editor.value(node.input[2]).astype(np.float64) if len(node.input) > 2 else np.zeros(channels)
        output, changed = node.output[0], False
        while (reader := editor.only_reader(output)) is not None and reader.op_type in ("Mul", "Add"):
            (other,) = [name for name in reader.input if name != output] or [""]
            constant = _per_channel(editor, other, channels)
            if constant is None:
                break
            if reader.op_type == "Mul":
                kernel, bias = kernel * constant[:, None, None, None], bias * constant
            else:
                bias = bias + constant
            gone.add(id(reader))
            output, changed = reader.output[0], True
        if changed:
            # New names, since another convolution may read the same kernel.
            kernel_name = editor.add_constant(f"{node.input[1]}/{output}", kernel.astype(np.float32))
            bias_name = editor.add_constant(f"{kernel_name}/bias", bias.astype(np.float32))
            node.input[:] = [node.input[0], kernel_name, bias_name]
            node.output[0] = output
    editor.commit(node for node in model.graph.node if id(node) not in gone)


def channels_first(model: onnx.ModelProto) -> None:
    """Keeps the ConvLSTM cells in the layout of the convolutions, so that nothing is transposed between them.

    The converter transposes to channels last before each split of the gates, and back after the cell. Results stay the
    same, bit for bit.
    """
    editor = GraphEditor(model)
    last = set()  # tensors that are channels last now and channels first afterwards
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Transpose" and _attribute(node, "perm") == TO_LAST and node.output[0] not in editor.outputs:
            renamed[node.output[0]] = node.input[0]
            last.add(node.output[0])
        elif not last.intersection(node.input):
            nodes.append(node)
        elif node.op_type == "Transpose" and _attribute(node, "perm") == TO_FIRST:
            if node.output[0] in editor.outputs:
                nodes.append(helper.make_node("Identity", node.input, node.output, name=node.name))
            else:
                renamed[node.output[0]] = node.input[0]
        elif (converted := _move_channels(editor, node, last)) is not None:
            nodes.extend(converted)
            last.update(name for name in node.output if node.op_type != "ReduceMax")
        else:  # an operator that needs channels last
            for name in last.intersection(node.input):
                back = f"{name}/{node.name}/channels_last"
                nodes.append(helper.make_node("Transpose", [name], [back], name=back, perm=TO_LAST))
                node.input[:] = [back if given == name else given for given in node.input]
            nodes.append(node)
    exposed = last & editor.outputs
    if exposed:
        raise AssertionError(f"graph outputs with moved channels: {sorted(exposed)}")
    editor.commit(nodes, renamed)


def safe_resizes(model: onnx.ModelProto) -> None:
    """Makes the output of every Resize the intended size, and removes its region of interest.

    The size is floor(n · scale) in float32, where 26 · (53 / 26) is less than 53. Scales are therefore enlarged by one
    millionth; with aligned corners only the resulting size matters. The region of interest is read in another mode
    only. All nodes share it as one constant, which tools that rename constants per node cannot handle.
    """
    editor = GraphEditor(model)
    for node in model.graph.node:
        if node.op_type != "Resize":
            continue
        node.input[1] = ""
        scales = node.input[2]
        aligned = _attribute(node, "coordinate_transformation_mode") == b"align_corners"
        if aligned and scales in editor.constants and editor.value(scales).size:
            value = editor.value(scales).astype(np.float64)
            grown = np.where(value == np.round(value), value, value * (1 + 1e-6))
            node.input[2] = editor.add_constant(f"{node.name}/scales", grown.astype(np.float32))
    editor.commit(model.graph.node)


def _move_channels(editor: GraphEditor, node: onnx.NodeProto, last: set[str]) -> list[onnx.NodeProto] | None:
    """Returns nodes that compute the same from channels-first input, or None if this pass knows none."""
    if node.op_type in ("Sigmoid", "Tanh", "Relu"):
        return [node]
    if node.op_type in ("Split", "Concat"):
        if _attribute(node, "axis") not in (3, -1) or not all(
            name in last for name in node.input[: None if node.op_type == "Concat" else 1]
        ):
            return None
        return [_with(node, axis=1)]
    if node.op_type == "ReduceMax":
        axes = _attribute(node, "axes") if editor.opset < 18 else editor.value(node.input[1]).tolist()
        if axes != [1, 2] or _attribute(node, "keepdims") != 0:
            return None
        if editor.opset < 18:
            return [_with(node, axes=[2, 3])]
        node.input[1] = editor.add_constant("spatial_axes", np.array([2, 3], np.int64))
        return [node]
    if node.op_type in ("Mul", "Add"):
        before = []
        for i, name in enumerate(node.input):
            if name in last:
                continue
            first = f"{name}/channels_first"
            if name in editor.constants:
                value = editor.value(name)
                if value.ndim == 4:
                    value = value.transpose(TO_FIRST)
                elif value.ndim == 1 and value.size > 1:
                    value = value[:, None, None]  # (C, 1, 1)
                elif value.size > 1:
                    return None
                editor.add_constant(first, value)
            else:
                first = f"{first}/{node.name}"
                before.append(helper.make_node("Transpose", [name], [first], name=first, perm=TO_FIRST))
            node.input[i] = first
        return [*before, node]
    return None


def _per_channel(editor: GraphEditor, name: str, channels: int) -> np.ndarray | None:
    """Returns a constant as (channels,) float64; None if it is not one value per channel of a (B, C, H, W) tensor."""
    if name not in editor.constants:
        return None
    value = editor.value(name).astype(np.float64)
    padded = (1,) * (4 - value.ndim) + value.shape
    if len(padded) != 4 or padded[0] != 1 or padded[2:] != (1, 1) or padded[1] not in (1, channels):
        return None
    return np.broadcast_to(value.reshape(-1), (channels,))


def _attribute(node: onnx.NodeProto, name: str) -> object:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return None


def _with(node: onnx.NodeProto, **attributes: object) -> onnx.NodeProto:
    kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])
    return node


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
