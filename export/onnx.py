"""Writes a model in the ONNX format: `python -m export.onnx RUN`."""

import sys

if __name__ == "__main__" and not __package__:
    # If this file ran as a script, `import onnx` would find it in place of the library.
    print("error: expected the command `python -m export.onnx`. Received: the path of its file", file=sys.stderr)
    sys.exit(2)

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from export.arguments import make_parser, read_options
from export.checks import check_format
from export.formats import FORMATS
from export.options import Options
from rsis_tf.engine import quiet_start
from rsis_tf.errors import InputError, command_line
from rsis_tf.runtime import GRAPHS, OUTPUTS, open_adjustable, open_graph, read_properties

if TYPE_CHECKING:
    import onnx

    from export.graph import GraphSpec
    from rsis_tf.models import RSIS

FORMAT = FORMATS["onnx"]
STEPWISE = dataclasses.replace(FORMAT, default_out="model_stepwise", folder_with="step.onnx")
"""The format of --layout stepwise, a folder of three graphs."""
LAYOUTS = ("loop", "unrolled", "stepwise")
VERIFY_PROVIDERS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
"""Provider on which a file can be compared with the model → options that make it compute in full float32. By default,
ONNX Runtime lets GPUs since Ampere round to TensorFloat-32."""


def export_onnx(
    options: Options, *, opset: int = 17, layout: str = "loop", verify_provider: str = "cpu"
) -> pathlib.Path:
    """Converts a model and compares the file with it.

    Args:
        options: what to export and how.
        opset: version of the ONNX operators, 17 or 18.
        layout: "loop", "unrolled" or "stepwise" (a folder with three files), see `export.onnx_graphs`.
        verify_provider: provider that runs the file in the comparison, one of `VERIFY_PROVIDERS`.

    Returns:
        `options.out`; a JSON file with the metadata and the result of the comparison lies beside it.

    Raises:
        InputError: for a model or an option that cannot be used.
        export.verify.VerificationError: when the outputs differ from those of the model; then nothing is written.
    """
    _check_layout(options, layout)
    _check_provider(options, verify_provider)
    import rsis_tf
    from export.graph import make_spec, open_source
    from export.metadata import as_text, describe
    from export.onnx_graphs.convert import add_metadata
    from export.onnx_graphs.layouts import Layout, step_graphs
    from export.publish import publish

    model, options = open_source(options)
    spec = make_spec(model, options)
    extra: dict[str, Any] = {"layout": layout, "opset": opset}
    if layout == "stepwise":
        graphs = step_graphs(Layout(model, spec), opset)
        files = {f"{name}.onnx": getattr(graphs, name) for name in GRAPHS}
        extra["graphs"] = list(GRAPHS)
    else:
        proto, quantization = (_loop if layout == "loop" else _unrolled)(model, spec, options, opset)
        files, extra = {"": proto}, extra | quantization
    described = describe(model, spec, options, format="onnx", **extra)
    for proto in files.values():
        add_metadata(proto, as_text(described), rsis_tf.__version__)

    def write(path: pathlib.Path) -> None:
        if layout == "stepwise":
            path.mkdir()
        for name, proto in files.items():
            (path / name if name else path).write_bytes(proto.SerializeToString())

    return publish(
        model,
        spec,
        options,
        described=described,
        write=write,
        open_run=lambda path: open_run(path, verify_provider),
    )


def open_run(path: pathlib.Path, provider: str = "cpu") -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Opens an ONNX export of any layout to run it in full float32.

    Args:
        path: the file or folder.
        provider: one of `VERIFY_PROVIDERS`.

    Returns:
        A function from (B, H, W, 3) images, of the dtype of the graph's input, to the outputs by name. With the layout
        loop it returns all steps and checks the early end.

    Raises:
        InputError: if the file or the provider cannot be used.
    """

    def run(session: Any, images: np.ndarray, **settings: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": images, **settings}), strict=True))

    providers = [(provider, VERIFY_PROVIDERS[provider])]
    graph = open_graph(path, providers=providers)
    metadata = read_properties(graph, path)
    if metadata.get("layout") != "loop":
        return functools.partial(run, graph)
    adjustable = open_adjustable(path, providers=providers)
    threshold = float(np.float32(metadata["stop_threshold"]))  # as the graph holds it

    def run_all_steps(images: np.ndarray) -> dict[str, np.ndarray]:
        whole = run(adjustable, images, stop_threshold=np.array(0, np.float32))
        check_early_end(whole, run(graph, images), threshold)
        return whole

    return run_all_steps


def check_early_end(whole: dict[str, np.ndarray], early: dict[str, np.ndarray], threshold: float) -> None:
    """Checks that a file with a loop ends after the right step, and returns the same outputs until then.

    Args:
        whole: its outputs by name, of all steps.
        early: its outputs when it may end early.
        threshold: objectness that a step must reach in an image of the batch, so that another step follows.

    Raises:
        export.verify.VerificationError: if not.
    """
    from export.verify import VerificationError

    ended = whole["stop"].max(axis=0) < threshold  # (T,)
    steps = int(np.argmax(ended)) + 1 if ended.any() else len(ended)
    for name in OUTPUTS:
        wanted, got = whole[name][:, :steps], early[name]
        if got.shape != wanted.shape:
            raise VerificationError(f"expected {name} of {steps} steps: {wanted.shape}. Received: {got.shape}")
        difference = float(np.abs(got - wanted).max())
        if not difference <= 1e-5:
            raise VerificationError(
                f"expected the same {name} whether the loop ends early or not. Received: a difference of {difference:g}"
            )


def main(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None:
    """Runs the command."""
    parser = make_parser(FORMAT, prog=prog)
    parser.add_argument("--opset", type=int, choices=(17, 18), default=17, help="version of the ONNX operators")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="loop",
        help="loop: one graph that ends when no object is left; unrolled: one graph that always takes all steps, for "
        "CUDA graphs and accelerators; stepwise: a folder with graphs of the encoder, of one step and of the masks, "
        "which ends early image by image",
    )
    parser.add_argument(
        "--verify-provider",
        choices=sorted(VERIFY_PROVIDERS),
        default="cpu",
        help="provider of ONNX Runtime that runs the file in the comparison, in full float32 without TensorFloat-32",
    )
    with command_line():
        parsed = parser.parse_args(arguments)
        layout, provider = parsed.layout, parsed.verify_provider
        options = read_options(parsed, STEPWISE if layout == "stepwise" else FORMAT)
        _check_layout(options, layout)  # before the slow imports
        _check_provider(options, provider)
        quiet_start()
        from export.publish import run_command

    run_command(lambda: export_onnx(options, opset=parsed.opset, layout=layout, verify_provider=provider))


def _check_layout(options: Options, layout: str) -> None:
    check_format(options, FORMAT if layout != "stepwise" else STEPWISE)
    if layout != "stepwise":
        return
    if options.size is None:
        raise InputError(f"the states of --layout {layout} have a fixed shape. Received: --size dynamic")
    if options.precision != "fp32":
        raise InputError(
            f"--layout {layout} keeps its states in float32 and supports no other precision; the other layouts do. "
            f"Received: --precision {options.precision}"
        )


def _check_provider(options: Options, provider: str) -> None:
    if not options.verify or provider == "cpu":
        return
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if f"{provider.upper()}ExecutionProvider" not in available:
        raise InputError(
            f"expected a provider of the installed onnxruntime for the comparison, {available}. "
            f"Received: --verify-provider {provider}"
        )


def _unrolled(
    model: "RSIS", spec: "GraphSpec", options: Options, opset: int
) -> tuple["onnx.ModelProto", dict[str, Any]]:
    """Returns the unrolled graph in the precision of the options, and the metadata of its quantisation."""
    from export.graph import infer
    from export.onnx_graphs.convert import convert
    from export.onnx_graphs.half_precision import to_half

    batch, height, width, _ = spec.named_input_shape
    proto = convert(
        model,
        lambda inputs: infer(model, inputs["image"], spec),
        inputs={"image": (spec.named_input_shape, spec.input_type)},
        outputs={
            "masks": (batch, spec.steps, *(spec.size or (height, width))),
            "classes": (batch, spec.steps, model.config.num_classes),
            "stop": (batch, spec.steps),
        },
        opset=opset,
    )
    if options.precision == "fp16":
        to_half(proto)
    if options.precision == "int8":
        return _to_int8([proto], model, spec, options)
    return proto, {}


def _loop(model: "RSIS", spec: "GraphSpec", options: Options, opset: int) -> tuple["onnx.ModelProto", dict[str, Any]]:
    """Returns the graph with a loop in the precision of the options, and the metadata of its quantisation."""
    from export.onnx_graphs.half_precision import to_half
    from export.onnx_graphs.layouts import Layout, step_graphs
    from export.onnx_graphs.loop import loop_graph, step_feeds

    layout, threshold = Layout(model, spec), options.thresholds["stop_threshold"]
    parts = step_graphs(layout, opset)

    def join(graphs: Sequence["onnx.ModelProto"]) -> "onnx.ModelProto":
        encoder, step = graphs
        return loop_graph(layout, dataclasses.replace(parts, encoder=encoder, step=step), stop_threshold=threshold)

    if options.precision == "fp16":
        to_half(parts.encoder)
        to_half(parts.step)
    if options.precision == "int8":
        feeds = functools.partial(step_feeds, layout, parts, stop_threshold=threshold)
        return _to_int8([parts.encoder, parts.step], model, spec, options, join=join, later_feeds=feeds)
    return join([parts.encoder, parts.step]), {}


def _to_int8(
    graphs: Sequence["onnx.ModelProto"],
    model: "RSIS",
    spec: "GraphSpec",
    options: Options,
    *,
    join: Callable[[Sequence["onnx.ModelProto"]], "onnx.ModelProto"] = lambda graphs: graphs[0],
    later_feeds: Callable[[Sequence[np.ndarray]], Iterator[dict[str, np.ndarray]]] | None = None,
) -> tuple["onnx.ModelProto", dict[str, Any]]:
    """Returns the 8-bit file and the metadata of its quantisation.

    Args:
        graphs: that make up the file; the first one reads images.
        model: the network.
        spec: of the file.
        options: of the export.
        join: makes the file of the graphs.
        later_feeds: from the images to what the second graph reads.
    """
    from export.calibration import read_inputs
    from export.onnx_graphs.quantize import Calibrated, calibrated, quantize, quantize_weights

    if options.calibration is None:
        return join([quantize_weights(graph) for graph in graphs]), {"quantization": {"kind": "weights"}}
    inputs = read_inputs(options.calibration, spec, model.config.image_size, limit=options.limit)
    first, *later = graphs
    sources = [calibrated(first, inputs)]
    if later_feeds is not None:
        sources += [Calibrated(graph=graph, feeds=functools.partial(later_feeds, inputs)) for graph in later]
    quantized = quantize(sources, inputs, thresholds=options.thresholds, join=join)
    print(f"quantised: agreement with float32 {quantized.agreement:.4f}, left in float32: {list(quantized.excluded)}")
    return quantized.model, {
        "quantization": {
            "kind": "static",
            "images": sum(map(len, inputs)),
            "agreement": quantized.agreement,
            "agreement_of_each_part_alone": quantized.parts,
            "excluded": list(quantized.excluded),
        }
    }


if __name__ == "__main__":
    main()
