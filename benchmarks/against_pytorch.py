"""Measures exported files and a PyTorch version of the network, eager and compiled, on a CPU and a GPU.

`prepare` needs TensorFlow and writes all files to a folder. `measure` needs ONNX Runtime and PyTorch, and Keras for the
row of the `.keras` file only. Weights are random; the instances of each row are compared with those of the first.

Example:
    python benchmarks/against_pytorch.py prepare comparison
    python benchmarks/against_pytorch.py measure comparison --batch-size 1 8 --out comparison/result
"""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from export.benchmark import check_numbers, check_results, read_images
from export.benchmarking.rows import Case, benchmark
from export.benchmarking.table import environment, finish
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import replacing, write_json

if TYPE_CHECKING:
    from rsis_tf.models import RSIS

ENCODERS = ("resnet34", "resnet50", "resnet101")
WORKER = (str(pathlib.Path(__file__).with_name("pytorch_worker.py")),)
ONNX = {
    "cpu": {".onnx": ["cpu"], ".keras": ["cpu"]},
    "cuda": {
        ".onnx": ["cuda", "cuda:use_tf32=0", "cuda:io_binding=1", "cuda:prefer_nhwc=1", "tensorrt"],
        "_fp16.onnx": ["cuda", "cuda:io_binding=1", "tensorrt:trt_fp16_enable=1"],
        "_batch{batch}.onnx": ["cuda:enable_cuda_graph=1"],
    },
}
"""Device → end of a file name → providers that run it."""
PYTORCH = {
    "cpu": ["cpu", "cpu:compile=1"],
    "cuda": [
        f"cuda:{way}{compiled}"
        for way in ("tf32=0", "tf32=1", "precision=fp16", "precision=fp16,channels_last=1")
        for compiled in ("", ",compile=1")
    ],
}
"""Device → options of `pytorch_worker`."""


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
            nargs="+",
            default=[1, 8],
            metavar="B",
            help="images in one run (default: 1 8)",
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
    add("--out", type=pathlib.Path, metavar="NAME", help="files to write, without suffix (default: FOLDER/result)")
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace) -> None:
    """Writes the Keras model, ONNX files (float32, float16, fixed batch sizes) and PyTorch weights of each encoder."""
    from rsis_tf.engine import quiet_start

    quiet_start()
    import keras

    from export.onnx import export_onnx
    from export.options import Options
    from rsis_tf.config import ModelConfig
    from rsis_tf.models import build_model

    options.folder.mkdir(parents=True, exist_ok=True)
    for encoder in options.encoder:
        keras.utils.set_random_seed(0)
        config = ModelConfig(
            encoder=encoder,
            hidden_size=options.hidden_size,
            num_steps=options.steps,
            image_size=(options.size, options.size),
        )
        model = build_model(config)
        # The outputs of random heads hardly vary. With contrast in the masks, instances can be compared.
        model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
        model.decoder.stop_head.bias.assign([1.0])
        source = options.folder / f"{encoder}.keras"
        model.save(source)
        write_weights(model, options.folder / f"{encoder}.torch.npz")
        variants: list[tuple[str, dict[str, Any]]] = [(".onnx", {}), ("_fp16.onnx", {"precision": "fp16"})]
        variants += [(f"_batch{batch}.onnx", {"batch": batch}) for batch in options.batch_sizes]
        for ending, variant in variants:
            out = options.folder / (encoder + ending)
            export_onnx(Options(source=source, out=out, resize=False, **variant))
            print(f"wrote {out}", flush=True)


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


def cases(folder: pathlib.Path, devices: list[str], batch_sizes: list[int]) -> list[Case]:
    """Returns the cases to measure, encoder by encoder.

    Raises:
        InputError: if the folder was not prepared.
    """
    encoders = [encoder for encoder in ENCODERS if (folder / f"{encoder}.torch.npz").is_file()]
    if not encoders:
        raise InputError(f"expected a folder that `prepare` wrote. Received: {folder}")
    made = []
    for encoder in encoders:
        for device in devices:
            for batch in batch_sizes:
                for ending, ways in ONNX[device].items():
                    path = folder / (encoder + ending.format(batch=batch))
                    made += [Case(path=path, provider=way, batch=batch) for way in ways]
                made += [
                    Case(path=folder / f"{encoder}.torch.npz", provider=way, batch=batch, worker=WORKER)
                    for way in PYTORCH[device]
                ]
    if missing := sorted({case.path.name for case in made if not case.path.is_file()}):
        raise InputError(f"expected the files of `prepare --batch-size …`. Received: no {', '.join(missing)}")
    return made


def measure(options: argparse.Namespace) -> None:
    """Measures all cases and writes a JSON file, a table and a plot."""
    rows, out = [], options.out or options.folder / "result"
    check_numbers(repeat=options.repeat, limit=options.limit, warm_up=options.warm_up)
    check_results(out)
    found = cases(options.folder, options.devices, options.batch_sizes)
    images = read_images(options.images, options.limit)
    for encoder in ENCODERS:  # instances are compared between files of the same encoder only
        own = [case for case in found if case.path.name.startswith(encoder)]
        if own:
            rows += benchmark(own, images=images, warm_up=options.warm_up, repeat=options.repeat)
    finish(rows, environment() | {"repeat": options.repeat, "warm-up": options.warm_up}, out)


def main(argv: list[str] | None = None) -> None:
    """Runs `prepare` or `measure`."""
    with command_line():
        options = parse(argv)
        check_numbers(batch_size=min(options.batch_sizes))
        {"prepare": prepare, "measure": measure}[options.command](options)


if __name__ == "__main__":
    main()
