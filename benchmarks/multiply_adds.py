"""Prints where the multiply-adds of the presets' networks lie, counted in their exported ONNX graphs.

python benchmarks/multiply_adds.py                       the presets nuclei, leaves and paper
python benchmarks/multiply_adds.py --graph model.onnx    an unrolled export with --no-resize

Each network is made with random weights and exported with all of its steps at its fixed size. Parts are known by the
names of the nodes; nodes without such a name belong to the mask head if they come after a gate, and otherwise to the
context that `ConvLSTMCell.prepare` computes once per image.
"""

import argparse
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence

import onnx
from work import multiply_adds_of_nodes

from rsis_tf.config.presets import PRESETS
from rsis_tf.engine import quiet_start

PARTS = (
    "encoder",
    "neck or skip projections",
    "dense head",
    "context, once per image",
    *(f"gates of stage {stage}" for stage in range(5)),
    "mask head",
    "class head and stop head",
    "resizes before the steps",
    "resizes in the steps",
)
NAMED = {
    r"/(skip_\d_convolution|neck)_": "neck or skip projections",
    r"/(stop|class)_head_": "class head and stop head",
    r"/dense_head_": "dense head",
}
"""Pattern of the name of a node → its part."""
_GATES = re.compile(r"/stage_(\d)_")
_ENCODER = re.compile(r"^[^/]+/[^/]+/[^/]+/")


def parts(path: pathlib.Path) -> dict[str, int]:
    """Returns part of the network, one of `PARTS` → multiply-adds for one image.

    Args:
        path: an unrolled ONNX export that was made with `--no-resize`.

    Raises:
        ValueError: if the shape of a tensor is not fixed.
    """
    counts = multiply_adds_of_nodes(path, batch=1, resizes=True)
    graph = onnx.load(path).graph
    after_gates: set[str] = set()
    found: dict[str, int] = {}
    for node in graph.node:  # sorted: each node comes after its inputs
        gates = _GATES.search(node.name)
        if gates or not after_gates.isdisjoint(node.input):
            after_gates.update(node.output)
        if node.output[0] in counts:
            part = f"gates of stage {gates[1]}" if gates else _part(node, node.output[0] in after_gates)
            found[part] = found.get(part, 0) + counts[node.output[0]]
    return found


def _part(node: onnx.NodeProto, after_gates: bool) -> str:
    """Returns the part of a node that belongs to no gate."""
    if node.op_type == "Resize":
        return "resizes in the steps" if after_gates else "resizes before the steps"
    for pattern, part in NAMED.items():
        if re.search(pattern, node.name):
            return part
    if _ENCODER.match(node.name):
        return "encoder"
    return "mask head" if after_gates else "context, once per image"


def export_preset(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Exports the network of a preset with random weights; returns the path of the graph."""
    import keras

    from export import onnx as exporter
    from rsis_tf.models import build_model

    keras.utils.set_random_seed(0)
    model, graph = folder / f"{name}.keras", folder / f"{name}.onnx"
    build_model(PRESETS[name]().model).save(model)
    exporter.main([str(model), "--layout", "unrolled", "--no-resize", "--no-verify", "--out", str(graph)])
    return graph


def table(columns: Mapping[str, dict[str, int]]) -> str:
    """Returns a Markdown table, a column for each graph: millions of multiply-adds, and their share of the sum.

    The sum is that of convolutions and matrix products; resizes stand below it.
    """
    names = [name for name in PARTS if any(name in column for column in columns.values())]
    below = [name for name in names if name.startswith("resizes")]
    above = [name for name in names if name not in below]
    sums = {graph: sum(column.get(name, 0) for name in above) for graph, column in columns.items()}
    rows = [["part", *columns], ["---"] * (1 + len(columns))]
    for name in [*above, "sum", *below]:
        values = [(column | {"sum": sums[graph]}).get(name, 0) for graph, column in columns.items()]
        shares = [value / total for value, total in zip(values, sums.values(), strict=True)]
        rows.append([name, *(f"{v / 1e6:,.2f} ({s:.1%})" if v else "–" for v, s in zip(values, shares, strict=True))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=["nuclei", "leaves", "paper"])
    parser.add_argument(
        "--graph", type=pathlib.Path, nargs="+", default=[], help="unrolled exports, instead of presets"
    )
    arguments = parser.parse_args(argv)
    if arguments.graph:
        print(table({path.name: parts(path) for path in arguments.graph}))
        return
    quiet_start()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: export_preset(name, pathlib.Path(folder)) for name in arguments.presets}
        print(table({name: parts(path) for name, path in paths.items()}))


if __name__ == "__main__":
    main()
