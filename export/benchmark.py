"""Compares model files: time, memory, size and agreement: `python -m export.benchmark RUN/best.keras FILE …`."""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np

from export.benchmarking.fastest import fastest
from export.benchmarking.rows import Case, benchmark
from export.benchmarking.table import SUFFIXES, environment, finish
from export.formats import FORMATS
from export.images import find_images
from rsis_tf import outputs
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image, synthetic_image
from rsis_tf.inference import find_model, model_path

EPILOG = """examples:
  {prog} runs/nuclei/best.keras runs/nuclei/model.onnx runs/nuclei/model.tflite --batch-size 1 8
  {prog} model.onnx --provider cpu cuda cuda:use_tf32=0 cuda:use_tf32=0,prefer_nhwc=1 tensorrt

Options after the name of a provider are those of ONNX Runtime. io_binding=1 keeps inputs and outputs on the device;
enable_cuda_graph=1 implies it and needs a file of fixed batch size that was exported with --no-resize.
TensorRT leaves to CUDA what it cannot run. Options that begin with trt_ go to TensorRT, the others to CUDA.

Rows of the CPU are measured in processes that see no GPU. "host MB" is the peak of main memory. "device MB" is the
memory that nvidia-smi counts for the process after the runs. Where it does not know the process, as in a container, it
is the memory that the end of the process frees; – where nvidia-smi gives no number.
The scores in FILE.scores.json, written by `rsis evaluate FILE --out FILE.scores.json`, appear in the row of the file.
The exit code is 1 if no file could be measured.
"""


def parse(arguments: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=prog,
        description="Measures model files and writes a JSON file, a table and a plot.",
        epilog=EPILOG.format(prog=prog),
    )
    exports = ", ".join(format.default_out for format in FORMATS.values())
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=model_path,
        metavar="FILE",
        help=f"a name that `rsis zoo` lists, the folder of a run, a .keras file, or an export such as {exports}",
    )
    add(
        "--provider",
        "--providers",
        dest="providers",
        nargs="+",
        default=["cpu"],
        metavar="NAME[:OPTION=VALUE,…]",
        help="cpu, cuda or tensorrt, each with options (default: cpu)",
    )
    add(
        "--batch-size",
        "--batch",
        dest="batch_sizes",
        nargs="+",
        type=int,
        default=[1],
        metavar="B",
        help="images in one run (default: 1)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads for one operation (default: one per core)")
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare an export with the SHA-256 in the JSON file beside it, if there is one (default: --verify)",
    )
    add(
        "--images",
        type=pathlib.Path,
        metavar="DIR",
        help="folder of images, with its subfolders (default: a synthetic image); the time of a file that ends early "
        "depends on them",
    )
    add("--limit", type=int, default=8, metavar="N", help="use the first N images only (default: %(default)s)")
    add("--repeat", type=int, default=50, metavar="N", help="measured runs (default: %(default)s)")
    add("--warm-up", type=int, default=5, metavar="N", help="runs before them (default: %(default)s)")
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("benchmark"),
        metavar="NAME",
        help="files to write, without suffix: NAME.json, NAME.md and NAME.png (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m export.benchmark") -> None:
    """Runs the command."""
    with command_line():
        options = parse(arguments, prog=prog)
        check_numbers(
            batch_size=min(options.batch_sizes),
            limit=options.limit,
            repeat=options.repeat,
            threads=options.threads,
            warm_up=options.warm_up,
        )
        check_results(options.out)
        files = [find_model(path)[1] for path in options.files]
        cases = [
            Case(path=path, provider=provider, batch=batch)
            for path in files
            for provider in options.providers
            for batch in options.batch_sizes
        ]
        rows = benchmark(
            cases,
            threads=options.threads,
            images=read_images(options.images, options.limit),
            warm_up=options.warm_up,
            repeat=options.repeat,
            verify=options.verify,
        )
        facts = environment() | {"threads": options.threads or "all", "repeat": options.repeat}
        finish(rows, facts, options.out)
        print("\n".join(fastest(rows)))


def check_numbers(*, warm_up: int = 0, **positive: int | None) -> None:
    """Refuses numbers out of range.

    Args:
        warm_up: must be 0 or more.
        **positive: option → value that must be 1 or more, or None.

    Raises:
        InputError: the message names the first option out of range.
    """
    for name, value in positive.items():
        if value is not None and value < 1:
            raise InputError(f"expected 1 or more for --{name.replace('_', '-')}. Received: {value}")
    if warm_up < 0:
        raise InputError(f"expected 0 or more for --warm-up. Received: {warm_up}")


def check_results(out: pathlib.Path) -> None:
    """Checks that the files of `export.benchmarking.table.write` can be written.

    Raises:
        InputError: if one cannot.
    """
    for suffix in SUFFIXES:
        outputs.check_file(out.with_name(out.name + suffix))


def read_images(folder: pathlib.Path | None, limit: int) -> list[np.ndarray]:
    """Returns the first images of a folder, or one synthetic image for None.

    Raises:
        InputError: for a folder without images.
    """
    return [synthetic_image()] if folder is None else [read_image(path) for path in find_images(folder)[:limit]]


if __name__ == "__main__":
    main()
