"""Samples per second of the input pipeline, and the CPU time of one, to be held against those of the train step.

Example:
    python benchmarks/data_pipeline.py --data nuclei --size 256
"""

import argparse
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.errors import command_line


def measure(one_pass: Callable[[int], Iterator], batch_size: int, seconds: float) -> tuple[float, float]:
    """Samples per second of a run over epochs, and the milliseconds of CPU one takes, after one batch of warm-up."""
    batches = itertools.chain.from_iterable(map(one_pass, itertools.count()))
    next(batches)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / count


def main() -> None:
    """Prints one row per dataset, size and augmentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="a dataset in COCO's format, measured beside the synthetic one")
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="sides for the COCO dataset (default: 256)")
    parser.add_argument("--batch", type=int, default=8, help="batch size (default: 8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time per measurement (default: 4)")
    options = parser.parse_args()

    configs = [DataConfig(image_size=(64, 64), batch_size=options.batch, max_objects=4)]
    if options.data:
        configs += [
            DataConfig(dataset="coco", root=options.data, image_size=(side, side), batch_size=options.batch)
            for side in options.size
        ]
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, batch {options.batch}")
    heads = f"{'tf.data /s':>11} {'CPU ms':>7} {'plain /s':>9} {'CPU ms':>7}"
    print(f"{'dataset':<10} {'size':>9} {'N':>3} {'augment':>8} {heads}")
    for config in configs:
        for augment in (False, True):
            config = DataConfig(**{**vars(config), "augment": augment})
            with command_line():
                dataset = load_dataset(config, "train")

            def tensorflow_pass(epoch: int, dataset=dataset, config=config) -> Iterator:
                return iter(tf_batches(dataset, config, training=True, epoch=epoch))

            def plain_pass(epoch: int, dataset=dataset, config=config) -> Iterator:
                return plain_batches(dataset, config, training=True, epoch=epoch)

            measured = [measure(one, options.batch, options.seconds) for one in (tensorflow_pass, plain_pass)]
            (tf_rate, tf_cpu), (plain_rate, plain_cpu) = measured
            size = "x".join(map(str, config.image_size))
            row = f"{config.dataset:<10} {size:>9} {config.max_objects:>3} {'yes' if augment else 'no':>8}"
            print(f"{row} {tf_rate:>11.0f} {tf_cpu:>7.1f} {plain_rate:>9.0f} {plain_cpu:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
