"""Compares model files on real images, in CPU time of one thread.

Every file predicts the same image before the next image is taken, so that other work on the machine slows each of them
alike. Times are those that the processor spent in this process. A file that stops early stops where it would in use.

Example:
    taskset -c 1 python benchmarks/file_times.py model.onnx loop.onnx model.tflite --images DATA/val --repeat 40
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from export.images import find_images
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image
from rsis_tf.inference import open_model
from rsis_tf.runtime import resize_image


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="of one network; ratios are to the first")
    parser.add_argument("--images", type=pathlib.Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="images in one run (default: 1)")
    parser.add_argument("--repeat", type=int, default=40, metavar="N", help="measured runs (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Prints a row for each file."""
    with command_line():
        options = parse(argv)
        if min(options.batch, options.repeat) < 1:
            raise InputError(f"expected 1 or more for --batch and --repeat. Received: {options.batch, options.repeat}")
        opened = [open_model(file, threads=1, batch_size=options.batch) for file in options.files]
        size, aspect = opened[0].image_size, opened[0].aspect
        images = [resize_image(read_image(path), size, aspect) for path in find_images(options.images)]
        times = np.zeros((len(opened), options.repeat))
        for run in range(-2, options.repeat):  # two runs before the measurement
            first = max(run, 0) * options.batch
            batch = np.stack([images[(first + i) % len(images)] for i in range(options.batch)])
            for i, model in enumerate(opened):
                start = time.process_time()
                model.run(batch)
                if run >= 0:
                    times[i, run] = 1000 * (time.process_time() - start)
        print("| file | CPU ms, median | smallest | ratio to the first, median of pairs |")
        print("|---|---|---|---|")
        for file, values in zip(options.files, times, strict=True):
            ratio = np.median(values / times[0])
            print(f"| {pathlib.Path(file).name} | {np.median(values):.1f} | {values.min():.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
