"""Samples per second of the input pipeline and the CPU time per sample, to compare with those of the train step.

Examples:
    python benchmarks/data_pipeline.py --data nuclei --size 256
    python benchmarks/data_pipeline.py --large 8 --size 256
        generated JPEG files of 12 megapixels: read whole, at reduced scale, and from a cache
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.data.reduced_samples import reduced_samples
from rsis_tf.errors import command_line

LARGE = (3000, 4000)
"""(height, width) of the images that `write_large` writes, 12 megapixels."""


def measure(
    one_pass: Callable[[int], Iterator], batch_size: int, seconds: float, *, warm_up: int = 1
) -> tuple[float, float]:
    """Returns the samples per second over several epochs and the CPU milliseconds per sample, after a warm-up.

    Args:
        one_pass: returns the batches of an epoch.
        batch_size: samples per batch.
        seconds: how long to measure; at least one batch.
        warm_up: batches before the measurement.
    """
    batches = itertools.chain.from_iterable(map(one_pass, itertools.count()))
    for _ in range(warm_up):
        next(batches)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while count == 0 or time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / count


def write_large(root: pathlib.Path, count: int) -> None:
    """Writes a dataset in COCO's format: coarse and fine noise in JPEG files of quality 90, each with 20 polygons."""
    rng = np.random.default_rng(0)
    height, width = LARGE
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((width, height))
    ground = np.clip(np.asarray(coarse) + rng.integers(-20, 20, (height, width, 1)), 0, 255).astype(np.uint8)
    images, annotations = [], []
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(count):
        image = Image.fromarray(np.roll(ground, 100 * number, axis=1))
        for _ in range(20):
            x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            radii = rng.uniform(100, 300) * rng.uniform(0.8, 1.2, 40)
            ring = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], -1).round(1).ravel().tolist()
            ImageDraw.Draw(image).polygon(ring, fill=tuple(rng.integers(0, 256, 3).tolist()))
            annotations.append({"image_id": number, "category_id": 1, "segmentation": [ring], "iscrowd": 0})
        image.save(root / "train" / f"{number}.jpg", quality=90)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
    for number, annotation in enumerate(annotations):
        annotation |= {"id": number, "area": 1, "bbox": [0, 0, 1, 1]}
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    (root / "annotations" / "train.json").write_text(json.dumps(content), encoding="utf-8")


def measure_large(count: int, sides: list[int], batch: int, seconds: float) -> None:
    """Prints one row for each way of reading large JPEG files, in plain batches on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_large(root / "data", count)
        sizes = [path.stat().st_size for path in (root / "data" / "train").iterdir()]
        print(f"{count} JPEG files of {LARGE[1]}x{LARGE[0]}, {np.mean(sizes) / 1e6:.1f} MB each, 20 objects")
        print(f"{'samples':<22} {'size':>9} {'augment':>8} {'plain /s':>9} {'CPU ms':>7} {'times less CPU':>15}")
        for side, augment in itertools.product(sides, (False, True)):
            plain = DataConfig(
                dataset="coco", root=str(root / "data"), image_size=(side, side), batch_size=batch, augment=augment
            )
            ways = {
                "whole": {},
                "reduced (--draft)": {"draft": True},
                "--draft --cache DIR": {"draft": True, "cache": str(root / f"cache-{side}-{augment}")},
                "--draft --cache memory": {"draft": True, "cache": "memory"},
            }
            first = 0.0
            for name, changes in ways.items():
                config = dataclasses.replace(plain, **changes)
                samples = reduced_samples(load_dataset(config, "train"), config, training=True)

                def one_pass(epoch: int, samples=samples, config=config) -> Iterator:
                    return plain_batches(samples, config, training=True, epoch=epoch)

                rate, cpu = measure(one_pass, batch, seconds, warm_up=-(-count // batch))
                first = first or cpu
                row = f"{name:<22} {side:>4}x{side:<4} {'yes' if augment else 'no':>8} {rate:>9.1f} {cpu:>7.1f}"
                print(f"{row} {first / cpu:>15.1f}", flush=True)


def measure_datasets(options: argparse.Namespace) -> None:
    """Prints one row per dataset, size and augmentation, for tf.data and plain batches."""
    configs = [DataConfig(image_size=(64, 64), batch_size=options.batch_size, max_objects=4)]
    if options.data:
        configs += [
            DataConfig(dataset="coco", root=options.data, image_size=(side, side), batch_size=options.batch_size)
            for side in options.size
        ]
    heads = f"{'tf.data /s':>11} {'CPU ms':>7} {'plain /s':>9} {'CPU ms':>7}"
    print(f"{'dataset':<10} {'size':>9} {'N':>3} {'augment':>8} {heads}")
    for config in configs:
        for augment in (False, True):
            config = DataConfig(**{**vars(config), "augment": augment})
            dataset = load_dataset(config, "train")

            def tensorflow_pass(epoch: int, dataset=dataset, config=config) -> Iterator:
                return iter(tf_batches(dataset, config, training=True, epoch=epoch))

            def plain_pass(epoch: int, dataset=dataset, config=config) -> Iterator:
                return plain_batches(dataset, config, training=True, epoch=epoch)

            measured = [measure(one, options.batch_size, options.seconds) for one in (tensorflow_pass, plain_pass)]
            (tf_rate, tf_cpu), (plain_rate, plain_cpu) = measured
            size = "x".join(map(str, config.image_size))
            row = f"{config.dataset:<10} {size:>9} {config.max_objects:>3} {'yes' if augment else 'no':>8}"
            print(f"{row} {tf_rate:>11.0f} {tf_cpu:>7.1f} {plain_rate:>9.0f} {plain_cpu:>7.1f}", flush=True)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="also measure this dataset in COCO's format")
    parser.add_argument("--large", type=int, metavar="N", help="measure N JPEG files of 12 megapixels instead")
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="sides of the batches (default: 256)")
    parser.add_argument("--batch-size", "--batch", type=int, default=8, metavar="B", help="batch size (default: 8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time per measurement (default: 4)")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, batch {options.batch_size}"
    )
    with command_line():
        if options.large:
            measure_large(options.large, options.size, options.batch_size, options.seconds)
        else:
            measure_datasets(options)


if __name__ == "__main__":
    main()
