"""The exported network beside its rendition in PyTorch, eager and compiled, on a CPU and a GPU, in one run.

`prepare` needs TensorFlow and writes everything into a folder; `measure` needs ONNX Runtime and PyTorch, and Keras only
for the row of the `.keras` file. Weights are random; the answers of all are compared with those of the first row.

Example:
    python benchmarks/against_pytorch.py prepare yardstick
    python benchmarks/against_pytorch.py measure yardstick --batch 1 8 --out yardstick/result
"""

import argparse
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from export import benchmark
from export.options import check_out
from rsis_tf.errors import ArgumentParser, InputError, command_line

ENCODERS = ("resnet34", "resnet50", "resnet101")
WORKER = (str(pathlib.Path(__file__).with_name("pytorch_worker.py")),)
# What is measured on a device: the end of a file's name → ways to run it.
ONNX = {
    "cpu": {".onnx": ["cpu"], ".keras": ["cpu"]},
    "cuda": {
        ".onnx": ["cuda", "cuda:use_tf32=0", "cuda:io_binding=1", "cuda:prefer_nhwc=1", "tensorrt"],
        "_fp16.onnx": ["cuda", "cuda:io_binding=1", "tensorrt:trt_fp16_enable=1"],
        "_batch{batch}.onnx": ["cuda:enable_cuda_graph=1"],
    },
}
PYTORCH = {
    "cpu": ["cpu", "cpu:compile=1"],
    "cuda": [
        f"cuda:{way}{compiled}"
        for way in ("tf32=0", "tf32=1", "precision=fp16", "precision=fp16,channels_last=1")
        for compiled in ("", ",compile=1")
    ],
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare_parser = commands.add_parser("prepare", help="write models, exports and weights")
    measure_parser = commands.add_parser("measure", help="measure what was prepared")
    for command in (prepare_parser, measure_parser):
        command.add_argument("folder", type=pathlib.Path)
        command.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="(default: 1 8)")
    add = prepare_parser.add_argument
    add("--encoder", nargs="+", choices=ENCODERS, default=["resnet50", "resnet101"], help="(default: the paper's two)")
    add("--hidden-size", type=int, default=128, metavar="D", help="(default: 128)")
    add("--steps", type=int, default=10, metavar="T", help="(default: 10)")
    add("--size", type=int, default=256, help="side in pixels (default: 256)")
    add = measure_parser.add_argument
    add("--devices", nargs="+", choices=("cpu", "cuda"), default=["cpu", "cuda"], help="(default: both)")
    add("--repeat", type=int, default=50, help="runs measured (default: 50)")
    add("--warm-up", type=int, default=5, help="runs before (default: 5)")
    add("--images", type=pathlib.Path, metavar="DIR", help="pictures (default: one that is made up)")
    add("--out", type=pathlib.Path, metavar="NAME", help="results without suffix (default: FOLDER/result)")
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace) -> None:
    """Writes, for each encoder: Keras model, ONNX in float32, float16 and of fixed batches, weights for PyTorch."""
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
        # Random heads answer much the same everywhere: masks with edges and a sequence make answers comparable.
        model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
        model.decoder.stop_head.bias.assign([1.0])
        source = options.folder / f"{encoder}.keras"
        model.save(source)
        write_weights(model, options.folder / f"{encoder}.torch.npz")
        variants: list[tuple[str, dict[str, Any]]] = [(".onnx", {}), ("_fp16.onnx", {"precision": "fp16"})]
        variants += [(f"_batch{batch}.onnx", {"batch": batch}) for batch in options.batch]
        for ending, variant in variants:
            out = options.folder / (encoder + ending)
            export_onnx(Options(source=source, out=out, resize=False, **variant))
            print(f"wrote {out}", flush=True)


def write_weights(model: Any, path: pathlib.Path) -> None:
    """Writes a model's weights for `pytorch_rendition.Rendition`, and a JSON file that describes them."""
    from rsis_tf.models.pytorch.convert import state_dicts

    states = dict(zip(("encoder", "decoder"), state_dicts(model), strict=True))
    arrays = {f"{part}.{name}": array for part, state in states.items() for name, array in state.items()}
    arrays |= {
        name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64)
        for name in arrays
        if name.endswith("running_mean")
    }
    partial = path.with_name(f".{path.name}.partial.npz")
    np.savez(partial, **arrays)
    os.replace(partial, path)
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
    path.with_name(path.name + ".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def cases(folder: pathlib.Path, devices: list[str], batches: list[int]) -> list[benchmark.Case]:
    """Returns what is to be measured, encoder by encoder.

    Raises:
        InputError: if the folder was not prepared.
    """
    encoders = [encoder for encoder in ENCODERS if (folder / f"{encoder}.torch.npz").is_file()]
    if not encoders:
        raise InputError(f"expected a folder that `prepare` has written. Received: {folder}")
    made = []
    for encoder in encoders:
        for device in devices:
            for batch in batches:
                for ending, ways in ONNX[device].items():
                    path = folder / (encoder + ending.format(batch=batch))
                    made += [benchmark.Case(path=path, provider=way, batch=batch) for way in ways]
                made += [
                    benchmark.Case(path=folder / f"{encoder}.torch.npz", provider=way, batch=batch, worker=WORKER)
                    for way in PYTORCH[device]
                ]
    if missing := sorted({case.path.name for case in made if not case.path.is_file()}):
        raise InputError(f"expected files that `prepare --batch …` has written. Received: no {', '.join(missing)}")
    return made


def measure(options: argparse.Namespace) -> None:
    """Measures all cases and writes JSON, table and plot."""
    rows, out = [], options.out or options.folder / "result"
    benchmark.check_numbers(repeat=options.repeat, warm_up=options.warm_up)
    check_out(out)
    made = cases(options.folder, options.devices, options.batch)
    pictures = benchmark.read_pictures(options.images)
    for encoder in ENCODERS:  # answers of one encoder are compared with each other alone
        own = [case for case in made if case.path.name.startswith(encoder)]
        if own:
            rows += benchmark.benchmark(own, pictures=pictures, warm_up=options.warm_up, repeat=options.repeat)
    facts = benchmark.environment() | {"repeat": options.repeat, "warm-up": options.warm_up}
    benchmark.finish(rows, facts, out)


def main(argv: list[str] | None = None) -> None:
    with command_line():
        options = parse(argv)
        benchmark.check_numbers(batch=min(options.batch))
        {"prepare": prepare, "measure": measure}[options.command](options)


if __name__ == "__main__":
    main()
