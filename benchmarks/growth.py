"""Measures how time and memory of a prediction grow with steps, hidden size, image size, batch size and objects.

Each axis is varied alone, from the same network; "objects" is the layout that stops early, at the number of objects and
the step that finds none. All points are measured in turns. The expected time of a point is that of the axis' last point
times the ratio of the multiply-adds, which are counted in the exported graphs. Needs TensorFlow for the export.

Example:
    python benchmarks/growth.py build/growth --encoder resnet50 --plot docs/growth.png
"""

import argparse
import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from export.benchmark import check_numbers
from export.benchmarking.rows import Case, Row, Turns, benchmark
from export.benchmarking.table import environment
from rsis_tf.errors import ArgumentParser, command_line
from rsis_tf.files import replacing, write_json, write_text
from rsis_tf.images import synthetic_image
from rsis_tf.outputs import check_file

LOOP = (str(pathlib.Path(__file__).with_name("loop_worker.py")),)
AXES = {
    "steps": "steps T",
    "hidden_size": "hidden size D",
    "size": "side in pixels",
    "batch": "batch size B",
    "objects": "objects in the image",
}
"""Name of an axis → its label."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One network at one batch size; `objects` is None for the layout without early stop."""

    encoder: str
    steps: int = 10
    hidden_size: int = 128
    size: int = 256
    batch: int = 1
    objects: int | None = None

    @property
    def name(self) -> str:
        """Name of its file, without suffix; points that differ in batch size or objects share a file."""
        loop = "" if self.objects is None else "_loop"
        return f"{self.encoder}_t{self.steps}_d{self.hidden_size}_{self.size}{loop}"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=pathlib.Path, help="folder of the exports, made where they are missing, and of the results")
    add("--encoder", default="resnet50", choices=("resnet34", "resnet50", "resnet101"), help="(default: resnet50)")
    for name, values, what in (
        ("steps", [1, 2, 5, 10, 20], "steps"),
        ("hidden-size", [32, 64, 128, 256], "hidden sizes"),
        ("size", [128, 192, 256, 384, 512], "sides in pixels, multiples of 32"),
        ("batch", [1, 2, 4, 8], "batch sizes"),
        ("objects", [0, 1, 3, 5, 9], "objects, fewer than the steps of the base"),
    ):
        shown = " ".join(map(str, values))
        add(f"--{name}", type=int, nargs="*", default=values, metavar="N", help=f"{what} (default: {shown})")
    add("--base", type=int, nargs=3, default=[10, 128, 256], metavar=("T", "D", "SIDE"),
        help="the network whose axes are varied (default: 10 128 256)")  # fmt: skip
    add("--repeat", type=int, default=10, metavar="N", help="measured runs (default: 10)")
    add("--rounds", type=int, default=5, metavar="N", help="turns that the runs are divided into (default: 5)")
    add("--plot", type=pathlib.Path, metavar="FILE", help="plot to write (default: FOLDER/growth.png)")
    return parser.parse_args(argv)


def points(options: argparse.Namespace) -> dict[str, list[Point]]:
    """Returns the points of each axis that has at least one."""
    steps, hidden_size, size = options.base
    base = Point(encoder=options.encoder, steps=steps, hidden_size=hidden_size, size=size)
    made = {axis: [dataclasses.replace(base, **{axis: value}) for value in getattr(options, axis)] for axis in AXES}
    return {axis: found for axis, found in made.items() if found}


def export(point: Point, folder: pathlib.Path) -> pathlib.Path:
    """Exports the network of a point, if its file is missing."""
    out = folder / f"{point.name}.onnx"
    if not out.is_file():
        from random_model import random_model

        from export.onnx import export_onnx
        from export.options import Options
        from rsis_tf.config import ModelConfig

        config = ModelConfig(
            encoder=point.encoder,
            hidden_size=point.hidden_size,
            num_steps=point.steps,
            image_size=(point.size, point.size),
        )
        source = out.with_suffix(".keras")
        random_model(config).save(source)
        layout = "unrolled" if point.objects is None else "loop"
        export_onnx(Options(source=source, out=out, resize=False, verify=False), layout=layout)
        source.unlink()
    return out


def counted(axes: dict[str, list[Point]], folder: pathlib.Path) -> dict[Point, int]:
    """Returns the multiply-adds of each point. Each step after the first takes the same number."""
    from work import multiply_adds

    of_file: dict[str, int] = {}

    def of(point: Point) -> int:
        if point.name not in of_file:
            of_file[point.name] = multiply_adds(export(point, folder), batch=1)
        return of_file[point.name]

    found = {}
    for point in itertools.chain(*axes.values()):  # a point that several axes share is counted once
        plain = dataclasses.replace(point, objects=None, batch=1)
        work = of(plain)
        if point.objects is not None:
            step = work - of(dataclasses.replace(plain, steps=point.steps - 1)) if point.steps > 1 else 0
            work -= (point.steps - point.objects - 1) * step
        found[point] = work * point.batch
    return found


def case(point: Point, folder: pathlib.Path) -> Case:
    """Returns the case that measures a point."""
    path = export(point, folder)
    if point.objects is None:
        return Case(path=path, batch=point.batch)
    return Case(path=path, batch=point.batch, provider=f"cpu:steps={point.objects + 1}", worker=LOOP)


def to_markdown(axes: dict[str, list[Point]], rows: dict[Point, Row], work: dict[Point, int]) -> str:
    """Returns a table with one row for each point."""
    lines = ["| axis | value | multiply-adds, G | median ms | expected ms | host MB |", "|---|---|---|---|---|---|"]
    for axis, found in axes.items():
        for point, expected in zip(found, expectation(found, rows, work), strict=True):
            row = rows[point]
            cells = [
                AXES[axis],
                str(getattr(point, axis)),
                f"{work[point] / 1e9:.2f}",
                f"{row['median_ms']:.1f}",
                f"{expected:.1f}",
                f"{row['host_memory_mb']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def expectation(found: Sequence[Point], rows: dict[Point, Row], work: dict[Point, int]) -> list[float]:
    """Returns the time of each point of an axis if it were proportional to the multiply-adds, scaled to the last."""
    scale = rows[found[-1]]["median_ms"] / work[found[-1]]
    return [scale * work[point] for point in found]


def plot(axes: dict[str, list[Point]], rows: dict[Point, Row], work: dict[Point, int], path: pathlib.Path) -> None:
    """Draws time and memory over each axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(axes), 4.4), layout="constrained")
    grid = figure.subplots(2, len(axes), squeeze=False)
    for column, (axis, found) in enumerate(axes.items()):
        values = [getattr(point, axis) for point in found]
        time, memory = grid[0, column], grid[1, column]
        time.plot(values, [rows[point]["median_ms"] for point in found], "o-", color="#0072b2", label="measured")
        time.plot(values, expectation(found, rows, work), "--", color="#d55e00", label="as multiply-adds")
        memory.plot(values, [rows[point]["host_memory_mb"] for point in found], "o-", color="#0072b2")
        memory.set_xlabel(AXES[axis])
        for drawn in (time, memory):
            drawn.set_ylim(bottom=0)
            drawn.set_xticks(values)
    grid[0, 0].set_ylabel("median, ms")
    grid[1, 0].set_ylabel("peak of main memory, MB")
    grid[0, 0].legend(fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=90, format="png")


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        options = parse(argv)
        check_numbers(repeat=options.repeat, rounds=options.rounds)
        image = options.plot or options.folder / "growth.png"
        options.folder.mkdir(parents=True, exist_ok=True)
        check_file(image)
        axes = points(options)
        work = counted(axes, options.folder)
        asked = list(work)
        turns = Turns(together=len(asked), rounds=options.rounds, pause=0.3)
        cases = [case(point, options.folder) for point in asked]
        found = benchmark(
            cases, images=[synthetic_image()], warm_up=1, repeat=options.repeat, turns=turns, verify=False
        )
        rows = dict(zip(asked, found, strict=True))
        facts = environment() | {"encoder": options.encoder, "base": options.base, "repeat": options.repeat}
        write_json(options.folder / "growth.json", {"environment": facts, "rows": found})
        text = to_markdown(axes, rows, work)
        write_text(options.folder / "growth.md", text)
        plot(axes, rows, work, image)
        print(text)


if __name__ == "__main__":
    main()
