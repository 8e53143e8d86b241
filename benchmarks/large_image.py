"""Measures the merging of tiles on a large image: objects found, found twice or cut, time and memory.

python benchmarks/large_image.py                      3,000 drawn objects, and a predictor that finds what it is shown
python benchmarks/large_image.py --model MODEL --data DIR  images of a COCO dataset, pasted side by side; the model
                                                      predicts the whole by tiles, and each image by itself

In the second case, the objects found in the large image are assigned to the pasted images by their centres. Both rows
are then scores of the same images with the same truth.
"""

import argparse
import dataclasses
import pathlib
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from exact_predictor import ExactPredictor, blobs, compared, image_of

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.evaluation.metrics.average_precision import AveragePrecision
from rsis_tf.evaluation.metrics.leaves import consecutive, label_map, symmetric_best_dice
from rsis_tf.inference import open_model
from rsis_tf.runtime import CroppedMask, Instance, Instances

GAP = 8
"""Black pixels between pasted images: objects of two images never touch."""


def exact(side: int, count: int) -> None:
    """Prints how many of the drawn objects are found to the pixel."""
    labels = blobs(side, count, radii=(6, 16))
    predictor = ExactPredictor(side=256, tile="auto")
    found = report(predictor, image_of(labels))
    print(f"{count} objects drawn: {compared(labels, found)}, {predictor.seen} tiles")


def report(predictor: Any, image: np.ndarray) -> Instances:
    """Predicts an image and prints time and memory."""
    start = time.perf_counter()
    found = predictor(image)
    seconds = time.perf_counter() - start
    crops = sum(instance.cropped.crop.nbytes for instance in found) / 1e6
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    print(f"{image.shape[0]}x{image.shape[1]}: {len(found)} objects in {seconds:.1f} s; full: {found.full}")
    print(f"masks {crops:.1f} MB, most memory of the process {resident:.2f} GB")
    return found


def pasted(model: str, data: str, side: int, size: int, threads: int) -> None:
    """Prints scores and counts of a large image and of its parts by themselves."""
    dataset = load_dataset(DataConfig(dataset="coco", root=data), "val")
    samples = [sample for sample in (dataset[i] for i in range(len(dataset))) if sample.image.shape[:2] == (size, size)]
    slots = [(y, x) for y in range(0, side - size + 1, size + GAP) for x in range(0, side - size + 1, size + GAP)]
    canvas = np.zeros((side, side, 3), np.uint8)
    for number, (y, x) in enumerate(slots):
        canvas[y : y + size, x : x + size] = samples[number % len(samples)].image
    print(f"{len(slots)} places for {len(samples)} images of {size}x{size} pixels")
    alone = open_model(model, threads=threads).batch([sample.image for sample in samples])
    parts: list[list[Instance]] = [[] for _ in slots]
    outside = 0
    for instance in report(open_model(model, threads=threads, tile=size), canvas):
        x0, y0, x1, y1 = instance.box
        row, column = (y0 + y1) // 2 // (size + GAP), (x0 + x1) // 2 // (size + GAP)
        number = row * ((side + GAP) // (size + GAP)) + column
        part = _within(instance, slots[number], size) if number < len(slots) else None
        if part is None:
            outside += 1
        else:
            parts[number].append(part)
    truth = [samples[number % len(samples)] for number in range(len(slots))]
    _scores("by tiles", parts, truth)
    _scores("each image alone", [alone[number % len(samples)] for number in range(len(slots))], truth)
    print(f"{outside} objects outside of the images")


def _within(instance: Instance, slot: tuple[int, int], size: int) -> Instance | None:
    """Returns an object as one of the image at a place, None if it has no pixel there."""
    rows, columns = (slice(start, start + size) for start in slot)
    mask = CroppedMask.of(instance.mask[rows, columns])
    if mask.area == 0:
        return None
    return dataclasses.replace(instance, mask=mask)


def _scores(name: str, parts: Sequence[Sequence[Instance]], truth: Sequence[Any]) -> None:
    precision = AveragePrecision(("background", "nucleus"))
    dice, errors = [], []
    for number, (found, sample) in enumerate(zip(parts, truth, strict=True)):
        precision.add(str(number), found, sample.label_map, sample.classes)
        labels = np.where(sample.label_map < 0, 0, sample.label_map)
        dice.append(symmetric_best_dice(label_map(found, labels.shape), consecutive(labels)))
        errors.append(len(found) - len(sample.classes))
    mean = precision.summarize().mean
    objects = sum(len(sample.classes) for sample in truth)
    print(
        f"{name:<18} {sum(map(len, parts))} of {objects} objects, AP {mean['ap']:.3f}, AP50 {mean['ap50']:.3f}, "
        f"SBD {np.mean(dice):.3f}, |DiC| {np.abs(errors).mean():.2f}, DiC {np.mean(errors):+.2f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4000, help="of the large image (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=3000, help="drawn objects (default: %(default)s)")
    parser.add_argument("--model", help="of one class, nuclei for example")
    parser.add_argument("--data", help="folder of the COCO dataset")
    parser.add_argument(
        "--size", type=int, default=256, help="sides of the pasted images and the tiles (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    if arguments.model:
        pasted(arguments.model, arguments.data, arguments.side, arguments.size, arguments.threads)
    else:
        exact(arguments.side, arguments.objects)


if __name__ == "__main__":
    main()
