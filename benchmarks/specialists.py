"""Scores other tools for nuclei beside models of this project, on the same images, with the same scores.

`otsu` is a threshold by Otsu's method and a watershed on the distance to the background, as tutorials of scikit-image
do it. StarDist (Schmidt et al., arXiv 1806.03535) is trained on the training images for a given CPU time, with random
flips, quarter turns and changes of intensity, and chooses its two thresholds on the training images. Both need
packages of their own: `pip install scikit-image stardist`.

Examples:
    python benchmarks/specialists.py train nuclei --cpu-minutes 52 --out stardist
    python benchmarks/specialists.py score nuclei --otsu --stardist stardist --model nuclei runs/nuclei --out table.json
"""

import argparse
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from rsis_tf.config import DataConfig
from rsis_tf.data import Dataset, load_dataset
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.evaluation.scoring import Scores, evaluate
from rsis_tf.files import write_json
from rsis_tf.inference import open_model
from rsis_tf.runtime import CroppedMask, Instance, Instances

Segment = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""An image (H, W, 3) uint8 → a label map (H, W), whose values are 1 … N, and the N scores."""

SHOWN = ("ap", "ap50", "sbd", "abs_dic")


class LabelMaps:
    """Predicts with a tool that returns label maps.

    Args:
        segment: the tool.
        class_name: of its only class.
    """

    def __init__(self, segment: Segment, class_name: str) -> None:
        self.segment, self.class_names = segment, ("background", class_name)

    def __call__(self, image: np.ndarray) -> Instances:
        labels, scores = self.segment(image)
        order = np.argsort(-scores, kind="stable")
        instances = [
            Instance(
                mask=CroppedMask.of(labels == index + 1),
                class_id=1,
                class_name=self.class_names[1],
                score=float(scores[index]),
                step=step,
                objectness=float(scores[index]),
                class_probs=np.array([0, 1], np.float32),
            )
            for step, index in enumerate(order)
        ]
        return Instances(instances, size=image.shape[:2])


def otsu(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segments by Otsu's threshold and a watershed; the side of the threshold with fewer pixels is the objects."""
    from scipy import ndimage
    from skimage import feature, filters, morphology, segmentation

    grey = filters.gaussian(image.astype(np.float32).mean(axis=2), 1, preserve_range=True)
    mask = grey > filters.threshold_otsu(grey)
    if mask.mean() > 0.5:  # stained tissue: dark nuclei on a bright ground
        mask = ~mask
    mask = ndimage.binary_fill_holes(morphology.remove_small_objects(mask, max_size=19))
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    peaks = feature.peak_local_max(distance, min_distance=5, labels=ndimage.label(mask)[0], exclude_border=False)
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels, _, _ = segmentation.relabel_sequential(segmentation.watershed(-distance, markers, mask=mask))
    return labels, np.ones(labels.max())


def stardist(folder: pathlib.Path) -> Segment:
    """Returns a trained StarDist model as a function.

    Raises:
        InputError: if there is no model in the folder.
    """
    if not (folder / "thresholds.json").is_file():
        raise InputError(f"expected a folder that `train` wrote. Received: {folder}")
    from stardist.models import StarDist2D

    model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))

    def segment(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, details = model.predict_instances(normalized(image))
        return labels, np.asarray(details["prob"], float)

    return segment


def normalized(image: np.ndarray) -> np.ndarray:
    """Scales an image so that its 1st and 99.8th percentiles become 0 and 1, as StarDist's examples do."""
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / max(high - low, 1)).astype(np.float32)


class Augmenter:
    """Turns and flips a patch at random and changes its intensity, as StarDist's examples do."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turns = int(self.rng.integers(4))
        image, labels = np.rot90(image, turns), np.rot90(labels, turns)
        if self.rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return image * self.rng.uniform(0.6, 2) + self.rng.uniform(-0.2, 0.2), labels


def train(arguments: argparse.Namespace) -> None:
    """Trains StarDist for a CPU time and writes the model to a folder."""
    if arguments.out.exists():
        raise InputError(f"expected a folder that does not exist. Received: {arguments.out}")
    import keras
    from stardist.models import Config2D, StarDist2D

    keras.utils.set_random_seed(arguments.seed)
    training = opened(arguments.data, "train", arguments.images)
    samples = [training[index] for index in range(len(training))]
    images = [normalized(sample.image) for sample in samples]
    labels = [np.maximum(sample.label_map, 0).astype(np.uint16) for sample in samples]
    held_out = opened(arguments.data, "val")
    validation = [held_out[index] for index in range(len(held_out))]
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        train_patch_size=(arguments.patch,) * 2,
        train_batch_size=4,
        train_epochs=arguments.epochs,
        train_steps_per_epoch=100,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name=arguments.out.name, basedir=str(arguments.out.parent))
    model.prepare_for_training()
    started = time.process_time()

    class Limit(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            spent = (time.process_time() - started) / 60
            print(f"{spent:.1f} CPU minutes", flush=True)
            if arguments.cpu_minutes and spent >= arguments.cpu_minutes:
                self.model.stop_training = True

    model.callbacks.append(Limit())
    model.train(
        images,
        labels,
        validation_data=([normalized(s.image) for s in validation], [np.maximum(s.label_map, 0) for s in validation]),
        augmenter=Augmenter(arguments.seed),
        seed=arguments.seed,
    )
    model.optimize_thresholds(images, labels)


def opened(root: str, split: str, images: int | None = None) -> Dataset:
    """Opens a split, or the first images of the training split, as `rsis train --train-size` does."""
    return load_dataset(DataConfig(dataset="coco", root=root, train_size=images), split)


def score(arguments: argparse.Namespace) -> None:
    """Prints one row for each tool and model."""
    dataset = opened(arguments.data, arguments.split)
    name = dataset.class_names[1]
    tools: dict[str, Callable[[], Any]] = {}
    if arguments.otsu:
        tools["Otsu and watershed"] = lambda: LabelMaps(otsu, name)
    for folder in arguments.stardist:
        tools[f"StarDist {folder}"] = functools.partial(_stardist_tool, folder, name)
    for model in arguments.model:
        tools[model] = functools.partial(open_model, model)
    if not tools:
        raise InputError("expected at least one of --otsu, --stardist and --model. Received: none")
    rows: dict[str, Scores] = {}
    print(f"{'':<28}" + "".join(f"{column:>24}" for column in SHOWN))
    for label, make in tools.items():
        rows[label] = scores = evaluate(make(), dataset)
        cells = [
            "{:.3f} ({:.3f}–{:.3f})".format(getattr(scores, column), *scores.intervals[column]) for column in SHOWN
        ]
        print(f"{label:<28}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    if arguments.out:
        write_json(
            arguments.out,
            {label: {column: getattr(row, column) for column in SHOWN} for label, row in rows.items()},
        )


def _stardist_tool(folder: pathlib.Path, class_name: str) -> LabelMaps:
    return LabelMaps(stardist(folder), class_name)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("train", help="train StarDist").add_argument
    add("data", help="folder in COCO's layout with the splits train and val")
    add("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="folder of the model")
    add("--cpu-minutes", type=float, metavar="M", help="ends after the epoch in which this is reached")
    add("--epochs", type=int, default=400, help="of 100 batches of 4 patches (default: %(default)s, as StarDist's)")
    add("--patch", type=int, default=128, help="side of a patch in pixels (default: %(default)s)")
    add("--images", type=int, metavar="N", help="train on the first N images (default: all)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add = commands.add_parser("score", help="score tools and models").add_argument
    add("data", help="folder in COCO's layout")
    add("--split", default="val", help="(default: %(default)s)")
    add("--otsu", action="store_true", help="score Otsu's threshold and a watershed")
    add("--stardist", type=pathlib.Path, nargs="*", default=[], metavar="FOLDER", help="folders that `train` wrote")
    add("--model", nargs="*", default=[], metavar="MODEL", help="models of this project")
    add("--out", type=pathlib.Path, metavar="FILE", help="JSON file for the scores")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        arguments = parse(argv)
        {"train": train, "score": score}[arguments.command](arguments)


if __name__ == "__main__":
    main()
