"""Compares the ONNX layouts by the number of steps that an image needs, in CPU time of one thread.

Makes the network of a preset with random weights and exports it in each layout. The number of steps is set, not found:
with `steps` for the layouts that stop early; the unrolled graph always takes all of its steps. All layouts run in turn,
so that other work on the machine slows each of them alike. Times are those that the processor spent in this process.

Example:
    taskset -c 1 python benchmarks/early_exit.py --out build/early_exit --repeat 30
"""

import argparse
import importlib.util
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.runtime import Predictor


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/early_exit"), metavar="DIR",
                        help="folder of the models, made if it is missing (default: %(default)s)")  # fmt: skip
    parser.add_argument("--preset", default="nuclei", help="whose network to make (default: %(default)s)")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 5, 10, 20], metavar="N",
                        help="steps to measure; the unrolled graph takes the largest (default: 1 5 10 20)")  # fmt: skip
    parser.add_argument("--earlier", nargs=2, type=pathlib.Path, metavar=("RUNTIME", "FOLDER"),
                        help="runtime.py of an earlier version and its stepwise export of the same model")  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="images in one run (default: 1)")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="measured runs (default: %(default)s)")
    return parser.parse_args(argv)


def prepare(folder: pathlib.Path, preset: str, steps: int) -> dict[str, pathlib.Path]:
    """Makes the model and its exports where they are missing; returns the exports by layout."""
    paths = {"unrolled": folder / "unrolled.onnx", "stepwise": folder / "stepwise", "loop": folder / "loop.onnx"}
    if not (folder / "best.keras").is_file():
        import keras

        from rsis_tf.config.presets import PRESETS
        from rsis_tf.models import build_model

        keras.utils.set_random_seed(1)
        folder.mkdir(parents=True, exist_ok=True)
        build_model(PRESETS[preset]().model).save(folder / "best.keras")
    for layout, path in paths.items():
        if not path.exists():
            from export import onnx as exporter

            options = ["--layout", layout, "--steps", str(steps), "--no-verify", "--out", str(path)]
            exporter.main([str(folder), *options])
    return paths


def earlier_predictor(runtime: pathlib.Path) -> type[Predictor]:
    """Returns the predictor of the runtime of an earlier version, which is a single file."""
    spec = importlib.util.spec_from_file_location("earlier_runtime", runtime)
    if spec is None or spec.loader is None:
        raise InputError(f"expected the runtime.py of an earlier version. Received: {runtime}")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Predictor


def opened(
    paths: dict[str, pathlib.Path], steps: list[int], earlier: tuple[pathlib.Path, pathlib.Path] | None
) -> dict[tuple[str, int], Predictor]:
    """Returns the predictors to measure, by layout and number of steps."""
    predictors = {("unrolled", steps[-1]): Predictor(paths["unrolled"], threads=1)}
    kinds = [(name, Predictor, path) for name, path in paths.items() if name != "unrolled"]
    if earlier:
        kinds.append(("stepwise, earlier version", earlier_predictor(earlier[0]), earlier[1]))
    for name, kind, path in kinds:
        for count in steps:
            predictors[name, count] = kind(path, threads=1, steps=count, stop_mode="each")
    return predictors


def main(argv: list[str] | None = None) -> None:
    """Prints a row for each layout and number of steps."""
    with command_line():
        options = parse(argv)
        paths = prepare(options.out, options.preset, max(options.steps))
        predictors = opened(paths, sorted(options.steps), options.earlier)
        size = predictors["unrolled", max(options.steps)].image_size
        images = np.random.default_rng(0).integers(0, 256, (options.batch, *size, 3), dtype=np.uint8)
        times: dict[tuple[str, int], list[float]] = {case: [] for case in predictors}
        for repeat in range(-2, options.repeat):  # two runs before the measurement
            for case, predictor in predictors.items():
                start = time.process_time()
                predictor.run(images)
                if repeat >= 0:
                    times[case].append(1000 * (time.process_time() - start))
        whole = np.array(times["unrolled", max(options.steps)])
        print("| layout | steps | CPU ms, median | smallest | ratio to unrolled, median of pairs |")
        print("|---|---|---|---|---|")
        for (name, count), values in times.items():
            ratio = np.median(np.array(values) / whole)
            print(f"| {name} | {count} | {np.median(values):.1f} | {min(values):.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
