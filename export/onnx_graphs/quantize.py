"""Quantises ONNX graphs to 8 bits with ONNX Runtime; parts that a measurement shows to be sensitive are left out.

Convolutions hold nearly all weights and arithmetic, so only they are quantised, except for those that predict: weights
per channel to signed, inputs and outputs to unsigned 8 bits. Such graphs run on the CPU provider. On processors without
8-bit dot products (with AVX2 only) sums may saturate: measure the accuracy there before use.
"""

import copy
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata, add_pre_process_metadata

from export.calibration import PREDICTION_CHANNELS
from export.instances import compare_instances
from export.onnx_graphs.passes import GraphEditor
from export.options import Thresholds
from rsis_tf.runtime import OUTPUTS

Array = np.ndarray
JUDGED = 16
"""Number of images on which the effect of a part is measured."""
_MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool")
"""Nodes through which ONNX Runtime moves the restoring of 8-bit values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantized:
    """Result of `quantize`.

    Attributes:
        model: the 8-bit graph.
        agreement: with the float32 graph on calibration images, see `rsis_tf.evaluation.metrics.agreement.agreement`.
        parts: part → agreement if only this part is quantised; empty if the whole graph reached the target.
        excluded: parts left in float32.
    """

    model: onnx.ModelProto
    agreement: float
    parts: dict[str, float]
    excluded: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A float32 graph to quantise.

    Attributes:
        graph: as the exporter made it.
        feeds: returns what it is run with to measure the ranges of its activations, one feed after the other.
    """

    graph: onnx.ModelProto
    feeds: Callable[[], Iterator[dict[str, Array]]]


def calibrated(model: onnx.ModelProto, inputs: Sequence[Array]) -> Calibrated:
    """Returns a graph that reads images only, with its calibration images from `export.calibration.read_inputs`."""
    return Calibrated(graph=model, feeds=lambda: ({"image": image} for image in inputs))


def quantize(
    graphs: Sequence[Calibrated],
    inputs: Sequence[Array],
    *,
    thresholds: Thresholds,
    join: Callable[[Sequence[onnx.ModelProto]], onnx.ModelProto] = lambda graphs: graphs[0],
    target: float = 0.97,
) -> Quantized:
    """Quantises statically: the ranges of activations are measured on images.

    If the agreement of the 8-bit file with the float32 file is less than `target`, every part of the network is
    quantised alone. Then the parts with the lowest agreement are left in float32, one more at a time, until the target
    is reached.

    Args:
        graphs: that make up the file.
        inputs: images for the file, from `export.calibration.read_inputs`.
        thresholds: those of the file.
        join: makes the file of the graphs, float32 or 8 bits.
        target: agreement to reach.
    """
    prepared = [_prepared(one.graph) for one in graphs]
    ranges = [_ranges(graph, one.feeds()) for graph, one in zip(prepared, graphs, strict=True)]
    judged = [inputs[i] for i in np.linspace(0, len(inputs) - 1, min(len(inputs), JUDGED)).round().astype(int)]
    reference = _outputs(join([one.graph for one in graphs]), judged)
    sizes = [image.shape[1:3] for image in judged for _ in image]
    parts = [parts_of(graph) for graph in prepared]

    def attempt(kept_float: Sequence[str]) -> tuple[onnx.ModelProto, float]:
        quantized = join(
            [
                _quantize(graph, found, [name for name in _convolutions(graph) if of.get(name) in (None, *kept_float)])
                for graph, found, of in zip(prepared, ranges, parts, strict=True)
            ]
        )
        agreements = [
            compare_instances(wanted, got, size, thresholds).value
            for wanted, got, size in zip(reference, _outputs(quantized, judged), sizes, strict=True)
        ]
        return quantized, float(np.mean(agreements))

    best, reached = attempt(())
    alone: dict[str, float] = {}
    excluded: list[str] = []
    if reached < target:
        every = sorted({part for of in parts for part in of.values()})
        alone = {part: attempt([other for other in every if other != part])[1] for part in every}
        for part in sorted(every, key=lambda part: alone[part]):
            excluded.append(part)
            best, reached = attempt(excluded)
            if reached >= target:
                break
    return Quantized(model=best, agreement=reached, parts=alone, excluded=tuple(excluded))


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores the kernels of convolutions as 8-bit integers with a scale per channel; needs no images.

    The file is a quarter of the size. Arithmetic stays in float32, so the graph is as fast as before and nearly as
    exact. Dynamic quantisation of activations was no faster on the CPUs measured, and lost most objects of a model with
    pixel votes.

    Cast and Mul restore the values. ONNX Runtime computes them when it opens a file. It would leave a DequantizeLinear
    in the graph, in order to use integer kernels, and compute it in every run.
    """
    quantized = copy.deepcopy(model)
    editor = GraphEditor(quantized)
    restored: dict[str, str] = {}  # kernel → tensor of its float32 values, shared by all steps
    nodes = []
    for node in quantized.graph.node:
        if node.op_type == "Conv" and node.input[1] in editor.constants:
            name = node.input[1]
            if name not in restored:
                kernel = editor.value(name)  # (C_out, C_in, k, k)
                largest = np.abs(kernel).max(axis=(1, 2, 3))
                scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)[:, None, None, None]
                integers = editor.add_constant(f"{name}/int8", np.round(kernel / scale).astype(np.int8))
                stored_scale = editor.add_constant(f"{name}/scale", scale)
                whole, restored[name] = f"{name}/float", f"{name}/restored"
                nodes += [
                    helper.make_node("Cast", [integers], [whole], name=whole, to=TensorProto.FLOAT),
                    helper.make_node("Mul", [whole, stored_scale], [restored[name]], name=restored[name]),
                ]
            node.input[1] = restored[name]
        nodes.append(node)
    editor.commit(nodes)
    onnx.checker.check_model(quantized)
    return quantized


def parts_of(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the part of the network that each convolution of features belongs to, by the names of the nodes.

    Parts are the skip projections and stages by number, the neck, and the encoder in five pieces of equally many
    layers; a kernel's name holds that of its layer. Predictions (`PREDICTION_CHANNELS`) and what `moved_to_outputs`
    finds are in no part.
    """
    features = {
        kernel.name
        for kernel in model.graph.initializer
        if len(kernel.dims) == 4 and kernel.dims[0] >= PREDICTION_CHANNELS  # (C_out, C_in, k, k)
    }
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kernels = {node.name: node.input[1] for node in convolutions if node.input[1] in features}
    parts = {}
    for name, kernel in kernels.items():
        found = re.search(r"(skip|stage)_\d|neck", kernel)
        if found:
            parts[name] = found.group(0)
    encoder = [name for name in kernels if name not in parts]
    parts |= {name: f"encoder_{5 * i // len(encoder)}" for i, name in enumerate(encoder)}
    moved = moved_to_outputs(model)
    return {name: part for name, part in parts.items() if name not in moved}


def moved_to_outputs(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the convolutions whose values only change place on their way to an output of the graph.

    They stay in float32. In the layout `loop` the output is read inside the loop only, and ONNX Runtime 1.32 aborts the
    process when it moves the restoring of 8-bit values up to such a tensor. The gates of a stage whose map is one pixel
    are such values.
    """
    editor = GraphEditor(model)
    found = set()
    for output in editor.outputs:
        node = editor.producers.get(output)
        moved = False
        while node is not None and node.op_type in _MOVING:
            node, moved = editor.producers.get(node.input[0]), True
        if moved and node is not None and node.op_type == "Conv":
            found.add(node.name)
    return found


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[dict[str, Array]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy as the quantiser expects it."""
    prepared = onnx.shape_inference.infer_shapes(model)
    add_infer_metadata(prepared)  # the passes of the exporter have prepared the graph
    add_pre_process_metadata(prepared)
    return prepared


def _convolutions(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _ranges(model: onnx.ModelProto, feeds: Iterator[dict[str, Array]]) -> TensorsData:
    """Returns the smallest and the largest value of each input and output of a convolution."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "float.onnx"
        path.write_bytes(model.SerializeToString())
        calibrator = create_calibrator(
            path,
            ["Conv"],
            augmented_model_path=str(pathlib.Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Reader(feeds))
        return calibrator.compute_data()


def _quantize(model: onnx.ModelProto, ranges: TensorsData, excluded: list[str]) -> onnx.ModelProto:
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=["Conv"],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # the quantiser adds its nodes at the end
    return quantizer.model.model


def _outputs(model: onnx.ModelProto, inputs: Sequence[Array]) -> list[dict[str, Array]]:
    """Returns the outputs for each image."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for image in inputs:
        outputs = session.run(list(OUTPUTS), {"image": image})
        found += [dict(zip(OUTPUTS, each, strict=True)) for each in zip(*outputs, strict=True)]
    return found
