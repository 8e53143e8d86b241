"""Measures exported files and a PyTorch version of the network, eager and compiled, on a CPU and a GPU.

`prepare` needs TensorFlow and writes all files to a folder. `measure` needs ONNX Runtime and PyTorch, and Keras for the
rows of the `.keras` file only; what is missing becomes a row that says so. Weights are random; the instances of each
row are compared with those of the first. The rows of one encoder and batch size are measured in turns, so that other
work on the machine slows all of them alike, and the results are written after each turn.

The floor of a row is the time that its multiply-adds take at the rate of a large matrix product of the same precision,
measured in the same turns. They are counted in the exported graph, in which each convolution of the image is done once.

Example:
    python benchmarks/against_pytorch.py prepare comparison
    python benchmarks/against_pytorch.py measure comparison --batch-size 1 8 --out comparison/result
"""

import argparse
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import matrix_rate

from export.benchmark import check_numbers, check_results, read_images
from export.benchmarking.rows import Case, Row, Turns, benchmark
from export.benchmarking.table import environment, finish, write
from export.benchmarking.worker import is_cpu
from rsis_tf.config.json_file import read_json
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import replacing, write_json

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

ENCODERS = ("resnet34", "resnet50", "resnet101")
HERE = pathlib.Path(__file__).parent
FILES = {
    "cpu": {".onnx": ["cpu"], "_batch{batch}.tflite": ["cpu"], ".keras": ["cpu"]},
    "cuda": {
        ".onnx": ["cuda:io_binding=1", "cuda", "cuda:use_tf32=0", "cuda:prefer_nhwc=1,io_binding=1"],
        "_fp16.onnx": ["cuda:io_binding=1", "cuda", "cuda:prefer_nhwc=1,io_binding=1"],
        "_batch{batch}.onnx": ["cuda:enable_cuda_graph=1", "tensorrt"],
        "_fp16_batch{batch}.onnx": ["cuda:enable_cuda_graph=1", "tensorrt:trt_fp16_enable=1"],
    },
}
"""Device → end of a file name → providers that run it."""
PYTORCH = {
    "cpu": [
        "cpu",
        "cpu:compile=1",
        "cpu:channels_last=1",
        "cpu:channels_last=1,compile=1",
        "cpu:hoisted=1",
        "cpu:hoisted=1,compile=1",
        "cpu:hoisted=1,channels_last=1,compile=1",
    ],
    "cuda": [
        "cuda:tf32=1",
        "cuda:tf32=1,compile=1",
        "cuda:precision=fp16,channels_last=1",
        "cuda:precision=fp16,channels_last=1,compile=1",
        "cuda:tf32=1,hoisted=1",
        "cuda:tf32=1,hoisted=1,compile=1",
        "cuda:precision=fp16,channels_last=1,hoisted=1",
        "cuda:precision=fp16,channels_last=1,hoisted=1,compile=1",
        "cuda:tf32=0",
        "cuda:tf32=1,channels_last=1",
        "cuda:precision=fp16",
    ],
}
"""Device → options of `pytorch_worker`, the most important first."""
TRAINING = {
    "cpu": ["cpu", "cpu:channels_last=1"],
    "cuda": ["cuda:tf32=0", "cuda:tf32=1", "cuda:tf32=1,channels_last=1", "cuda:tf32=1,precision=bf16,channels_last=1"],
}
"""Device → options of `pytorch_training`."""
KERAS_TRAINING = {
    "cpu": ["cpu"],
    # The comparison cannot rely on TensorFlow's GPU build, which needs CUDA 12.
    "cuda": ["cuda:backend=jax", "cuda:backend=jax,tf32=1", "cuda:backend=jax,tf32=1,precision=bf16"],
}
"""Device → options of `keras_training`."""
EARLY_STEPS = 4
"""Steps of the row that stops early: those of an image with three objects."""
MATRIX = {"cpu": ["cpu"], "cuda": ["cuda:tf32=1", "cuda:precision=fp16", "cuda:tf32=0"]}
"""Device → options of `matrix_rate`."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare_parser = commands.add_parser("prepare", help="write models, exports and weights")
    measure_parser = commands.add_parser("measure", help="measure the prepared files")
    for command in (prepare_parser, measure_parser):
        command.add_argument("folder", type=pathlib.Path, help="folder of the prepared files")
        command.add_argument(
            "--batch-size",
            "--batch",
            dest="batch_sizes",
            type=int,
            nargs="*",
            default=[1, 8],
            metavar="B",
            help="images in one prediction (default: 1 8); without a number, only training steps are measured",
        )
    add = prepare_parser.add_argument
    add(
        "--encoder",
        nargs="+",
        choices=ENCODERS,
        default=["resnet50", "resnet101"],
        help="(default: the two of the paper)",
    )
    add("--hidden-size", type=int, default=128, metavar="D", help="channels of the hidden states (default: 128)")
    add("--steps", type=int, default=10, metavar="T", help="objects predicted at most (default: 10)")
    add("--size", type=int, default=256, help="side in pixels (default: 256)")
    add(
        "--weight-bits",
        type=int,
        choices=(2, 3, 4),
        metavar="N",
        help="round weights to 2^N values, 2 to 4, for small archives (default: no rounding)",
    )
    add = measure_parser.add_argument
    add(
        "--devices",
        nargs="+",
        choices=("cpu", "cuda"),
        default=["cpu", "cuda"],
        help="devices to measure on (default: both)",
    )
    add("--repeat", type=int, default=50, metavar="N", help="measured runs (default: 50)")
    add("--warm-up", type=int, default=5, metavar="N", help="runs before them (default: 5)")
    add("--images", type=pathlib.Path, metavar="DIR", help="folder of images (default: a synthetic image)")
    add("--limit", type=int, default=8, metavar="N", help="use the first N images only (default: 8)")
    add("--rounds", type=int, default=5, metavar="N", help="turns that the runs are divided into (default: 5)")
    add("--starting", type=int, default=1, metavar="N", help="files opened at the same time (default: 1)")
    add("--start-seconds", type=float, metavar="S", help="give up files that take longer to open (default: no limit)")
    add("--seconds", type=float, metavar="S", help="begin no turn of a table after this time (default: no limit)")
    add("--training-batch", type=int, default=4, metavar="B", help="images in a training step, 0 for none (default: 4)")
    add("--out", type=pathlib.Path, metavar="NAME", help="files to write, without suffix (default: FOLDER/result)")
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace) -> None:
    """Writes the Keras model, its exports (ONNX in float32 and float16, TFLite) and PyTorch weights of each encoder."""
    from rsis_tf.engine import quiet_start

    quiet_start()
    from random_model import random_model
    from work import multiply_adds

    from export.onnx import export_onnx
    from export.options import Options
    from export.tflite import export_tflite
    from rsis_tf.config import ModelConfig

    options.folder.mkdir(parents=True, exist_ok=True)
    for encoder in options.encoder:
        config = ModelConfig(
            encoder=encoder,
            hidden_size=options.hidden_size,
            num_steps=options.steps,
            image_size=(options.size, options.size),
        )
        model = random_model(config, weight_bits=options.weight_bits)
        source = options.folder / f"{encoder}.keras"
        model.save(source)
        write_weights(model, options.folder / f"{encoder}.torch.npz")
        variants: list[tuple[str, dict[str, Any]]] = [(".onnx", {}), ("_fp16.onnx", {"precision": "fp16"})]
        for batch in options.batch_sizes:
            variants.append((f"_batch{batch}.onnx", {"batch": batch}))
            variants.append((f"_fp16_batch{batch}.onnx", {"batch": batch, "precision": "fp16"}))
        for ending, variant in variants:
            out = options.folder / (encoder + ending)
            export_onnx(Options(source=source, out=out, resize=False, **variant), layout="unrolled")
            print(f"wrote {out}", flush=True)
        export_onnx(Options(source=source, out=options.folder / f"{encoder}_loop.onnx", resize=False), layout="loop")
        for batch in options.batch_sizes:
            out = options.folder / f"{encoder}_batch{batch}.tflite"
            export_tflite(Options(source=source, out=out, resize=False, batch=batch))
            print(f"wrote {out}", flush=True)
        counted = multiply_adds(options.folder / f"{encoder}.onnx", batch=1)
        write_json(options.folder / f"{encoder}.work.json", {"multiply_adds": counted})


def write_weights(model: "RSIS", path: pathlib.Path) -> None:
    """Writes the weights of a model for `pytorch_rendition.Rendition`, and a JSON file with its arguments."""
    from rsis_tf.models.pytorch.convert import state_dicts

    states = dict(zip(("encoder", "decoder"), state_dicts(model), strict=True))
    arrays = {f"{part}.{name}": array for part, state in states.items() for name, array in state.items()}
    arrays |= {
        name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64)
        for name in arrays
        if name.endswith("running_mean")
    }
    with replacing(path) as partial:
        np.savez(partial, **arrays)
    config = model.config
    facts = {
        "rendition": {
            "encoder": config.encoder,
            "hidden_size": config.hidden_size,
            "num_classes": config.num_classes,
            "num_steps": config.num_steps,
        },
        "image_size": list(config.image_size),
    }
    write_json(path.with_name(path.name + ".json"), facts)


def cases(folder: pathlib.Path, encoder: str, devices: list[str], batch: int) -> list[Case]:
    """Returns the cases of the predictions of one encoder at one batch size."""
    made = []
    if "cpu" not in devices:  # the reference of all agreements is computed in full float32
        made.append(Case(path=folder / f"{encoder}.onnx", batch=batch))
    for device in devices:
        made += matrix_cases(folder, encoder, device)
        for ending, ways in FILES[device].items():
            path = folder / (encoder + ending.format(batch=batch))
            for way in ways:
                # On a GPU, ONNX Runtime takes TF32 unless it is switched off.
                tf32 = device == "cuda" and "fp16" not in ending and "use_tf32=0" not in way
                made.append(Case(path=path, provider=way, batch=batch, facts={"precision": "tf32"} if tf32 else {}))
        if device == "cpu":
            path, way = folder / f"{encoder}_loop.onnx", f"cpu:steps={EARLY_STEPS}"
            loop = (str(HERE / "loop_worker.py"),)
            made.append(Case(path=path, provider=way, batch=batch, worker=loop, facts={"layout": "loop, stops early"}))
        made += [
            Case(
                path=folder / f"{encoder}.torch.npz",
                provider=way,
                batch=batch,
                worker=(str(HERE / "pytorch_worker.py"),),
                facts={"layout": "hoisted"} if "hoisted" in way else {"layout": "plain"},
            )
            for way in PYTORCH[device]
        ]
    return made


def training_cases(folder: pathlib.Path, encoder: str, devices: list[str], batch: int) -> list[Case]:
    """Returns the cases of the training steps of one encoder."""
    facts = {"layout": "training step"}
    made = []
    for device in devices:
        for ending, script, ways in (
            (".keras", "keras_training.py", KERAS_TRAINING[device]),
            (".torch.npz", "pytorch_training.py", TRAINING[device]),
        ):
            path, worker = folder / (encoder + ending), (str(HERE / script),)
            made += [Case(path=path, provider=way, batch=batch, worker=worker, facts=facts) for way in ways]
    return made


def matrix_cases(folder: pathlib.Path, encoder: str, device: str) -> list[Case]:
    """Returns the cases of matrix products."""
    facts = {"file": "matrix product", "layout": f"{matrix_rate.SIDE[device]}²"}
    worker = (str(HERE / "matrix_rate.py"),)
    path = folder / f"{encoder}.work.json"
    return [Case(path=path, provider=way, worker=worker, facts=facts) for way in MATRIX[device]]


def add_floors(rows: list[Row], multiply_adds: int) -> None:
    """Adds to each row of a prediction the floor of its time and the ratio of its median to it.

    Args:
        rows: of the same turns, those of matrix products among them.
        multiply_adds: of one image.
    """
    rates = {
        (_device(row), row["precision"]): row["multiply_adds"] / row["median_ms"]
        for row in rows
        if "multiply_adds" in row and "median_ms" in row
    }
    for row in rows:
        rate = rates.get((_device(row), row.get("precision", "")))
        if rate and "thresholds" in row and "median_ms" in row:
            row["floor_ms"] = row["batch"] * multiply_adds / rate
            row["of_floor"] = row["median_ms"] / row["floor_ms"]


def _device(row: Row) -> str:
    return "cpu" if is_cpu(row["provider"].partition(":")[0]) else "cuda"


def measure(options: argparse.Namespace) -> None:
    """Measures all cases and writes a JSON file, a table and a plot.

    Raises:
        InputError: if the folder was not prepared.
    """
    rows: list[Row] = []
    out = options.out or options.folder / "result"
    check_numbers(
        repeat=options.repeat,
        limit=options.limit,
        warm_up=options.warm_up,
        rounds=options.rounds,
        starting=options.starting,
    )
    check_results(out)
    encoders = [encoder for encoder in ENCODERS if (options.folder / f"{encoder}.torch.npz").is_file()]
    if not encoders:
        raise InputError(f"expected a folder that `prepare` wrote. Received: {options.folder}")
    images = read_images(options.images, options.limit)
    facts = environment() | {"repeat": options.repeat, "rounds": options.rounds, "warm-up": options.warm_up}
    started = time.monotonic()
    for encoder in encoders:
        work = read_json(options.folder / f"{encoder}.work.json", "a file of `prepare`")["multiply_adds"]
        facts[f"multiply-adds of {encoder}"] = f"{work / 1e9:.2f} G per image"
        groups = [cases(options.folder, encoder, options.devices, batch) for batch in options.batch_sizes]
        if options.training_batch:
            groups.append(training_cases(options.folder, encoder, options.devices, options.training_batch))
        for group in groups:
            turns = Turns(
                together=len(group),
                starting=options.starting,
                rounds=options.rounds,
                start_seconds=options.start_seconds,
                seconds=options.seconds,
                pause=0.3 if "cpu" in options.devices else 0.02,
            )
            before = tuple(rows)

            def report(found: list[Row], *, before: tuple[Row, ...] = before, work: int = work) -> None:
                add_floors(found, work)
                write([*before, *found], facts | {"seconds": round(time.monotonic() - started)}, out)

            rows += benchmark(
                group, images=images, warm_up=options.warm_up, repeat=options.repeat, turns=turns, report=report
            )
    finish(rows, facts | {"seconds": round(time.monotonic() - started)}, out)


def main(argv: list[str] | None = None) -> None:
    """Runs `prepare` or `measure`."""
    with command_line():
        options = parse(argv)
        check_numbers(batch_size=min(options.batch_sizes, default=None))
        {"prepare": prepare, "measure": measure}[options.command](options)


if __name__ == "__main__":
    main()
