"""Measures tracking on generated sequences: identities, switches and the number of distinct objects.

python benchmarks/tracking.py                    levels of errors, and what each part of the method contributes
python benchmarks/tracking.py --model MODEL      a model of leaves, on generated plants that turn and grow

Discs and leaves move on smooth paths in an image of 240x320 pixels. They cross, hide each other, leave and enter. The
objects of a frame are the true ones with the errors of a network: missed objects, objects that do not exist, masks that
are shifted or ragged. An object that returns after more than 15 frames counts as another one. No network is run
without --model.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from moving_shapes import Errors, Mover, instance, predicted, scene, truth
from scipy import ndimage
from tracking_scores import score

from rsis_tf.runtime import Instance, Instances
from rsis_tf.tracking import MEMORY, Tracker

SIZE = 240, 320
LEVELS = {
    "none": Errors(),
    "low": Errors(missed=0.02, flicker=0.1, shift=0.5, ragged=0.2),
    "medium": Errors(missed=0.1, flicker=0.5, shift=1, ragged=0.5),
    "high": Errors(missed=0.25, flicker=2, shift=2, ragged=0.7),
}
VARIANTS = {
    "defaults": {},
    "--track-memory 0": {"memory": 0},
    "--track-memory 5": {"memory": 5},
    "--track-memory 30": {"memory": 30},
    "--track-confirm 1": {"confirm": 1},
    "--track-confirm 3": {"confirm": 3},
}


def wanderers(count: int, frames: int, speed: float, generator: np.random.Generator) -> list[Mover]:
    """Returns objects on curves through the image; a third of them leave it or enter it."""
    movers = []
    for number in range(count):
        radius = generator.uniform(7, 14)
        extent = np.array(SIZE[::-1]) / 2 * (1.3 if number % 3 == 0 else 0.9)
        phase = generator.uniform(0, 2 * np.pi, 2)
        # The fastest point of the curve moves by speed · radius in a frame.
        rate = generator.uniform(0.4, 1, 2) * speed * radius / extent

        def path(frame: int, extent=extent, phase=phase, rate=rate) -> tuple[float, float]:
            x, y = np.array(SIZE[::-1]) / 2 + extent * np.sin(phase + rate * frame)
            return float(x), float(y)

        turn = generator.uniform(0, np.pi), generator.uniform(-0.05, 0.05)
        movers.append(Mover(path=path, radius=radius, class_id=1 + number % 2, turn=turn))
    return movers


def sequence(
    seed: int, frames: int, count: int, speed: float, errors: Errors
) -> tuple[list[dict[int, Instance]], list[Instances]]:
    """Returns the true objects and the predicted ones of each frame."""
    generator = np.random.default_rng(seed)
    movers = wanderers(count, frames, speed, generator)
    true = []
    last: dict[int, int] = {}
    visits: dict[int, int] = {}
    for frame in range(frames):
        seen = truth(movers, scene(movers, frame, SIZE), least=12)
        for number in seen:
            visits[number] = visits.get(number, 0) + (frame - last.get(number, frame) > MEMORY + 1)
            last[number] = frame
        true.append({number + 1000 * visits[number]: one for number, one in seen.items()})
    return true, [predicted(objects, SIZE, errors, generator) for objects in true]


def plants(model: str, count: int, frames: int) -> list[tuple[list[dict[int, Instance]], list[Instances]]]:
    """Returns the true leaves of plants that turn by a degree in each frame and grow by a third, and those found."""
    from rsis_tf.config import DataConfig
    from rsis_tf.data import load_dataset
    from rsis_tf.inference import open_model

    predictor = open_model(model, threads=1)
    dataset = load_dataset(DataConfig(dataset="leaves", image_size=predictor.image_size, max_objects=10), "val")
    cases = []
    for number in range(count):
        sample = dataset[number]
        true, images = [], []
        for frame in range(frames):
            angle, zoom = np.radians(frame), 0.75 + 0.25 * frame / frames
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
            middle = (np.array(sample.label_map.shape) - 1) / 2
            offset = middle - turn @ middle
            labels = ndimage.affine_transform(sample.label_map, turn, offset, order=0)
            channels = [
                ndimage.affine_transform(sample.image[..., c], turn, offset, order=1, mode="mirror") for c in range(3)
            ]
            images.append(np.stack(channels, axis=-1))
            values = [int(value) for value in np.unique(labels) if value > 0]
            true.append({value: instance(labels == value) for value in values})
        cases.append((true, predictor.batch(images)))
    return cases


def report(name: str, cases: Sequence[tuple[list[dict[int, Instance]], list[Instances]]], **options: int) -> None:
    """Prints a row of the table."""
    totals, distinct, objects, seconds, frames = [], 0, 0, 0.0, 0
    for true, found in cases:
        start = time.process_time()
        tracker = Tracker(**options)
        tracked = list(tracker.stream(found))
        seconds, frames = seconds + time.process_time() - start, frames + len(found)
        totals.append(score(true, [{i: one for one, i in zip(f or (), ids, strict=True) if i} for f, ids in tracked]))
        distinct += tracker.count
        objects += len({number for frame in true for number in frame})
    print(
        f"{name:<20} IDF1 {np.mean([s.idf1 for s in totals]):.3f}, MOTA {np.mean([s.mota for s in totals]):.3f}, "
        f"switches {sum(s.switches for s in totals)}, distinct objects {distinct} of {objects}, "
        f"{1000 * seconds / frames:.1f} ms of CPU time a frame",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=150, help="of a sequence (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=12, help="in a sequence (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=0.3, help="radii of the object a frame (default: %(default)s)")
    parser.add_argument("--model", help="of leaves")
    arguments = parser.parse_args(argv)
    if arguments.model:
        found = plants(arguments.model, arguments.sequences, arguments.frames)
        for name in ("defaults", "--track-confirm 1", "--track-confirm 3", "--track-memory 0"):
            report(name, found, **VARIANTS[name])
        return

    def cases(errors: Errors, speed: float) -> list[tuple[list[dict[int, Instance]], list[Instances]]]:
        shape = arguments.frames, arguments.objects, speed, errors
        return [sequence(seed, *shape) for seed in range(arguments.sequences)]

    for level, errors in LEVELS.items():
        report(f"errors: {level}", cases(errors, arguments.speed))
    for speed in (0.6, 1.0, 1.5, 2.0):
        report(f"speed: {speed}", cases(LEVELS["low"], speed))
    medium = cases(LEVELS["medium"], arguments.speed)
    for name, options in VARIANTS.items():
        report(name, medium, **options)


if __name__ == "__main__":
    main()
