"""The folder of label images that the CVPPP Leaf Segmentation Challenge accepts, and its scores without MATLAB.

Source: the evaluation scripts of the challenge (see `metrics.leaves`). `FOLDER/A1/plant007_label.png` is an 8-bit image
of one plant, 0 = background, 1 … n = leaves. The organisers' script reads the set from the path and the plant from the
last number in the name.
"""

import csv
import io
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rsis_tf import files, outputs
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics import leaves
from rsis_tf.evaluation.metrics.bootstrap import known_mean, mean_interval
from rsis_tf.files import inside
from rsis_tf.images import read_label_image

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

SETS = ("A1", "A2", "A3", "A4", "A5")
COLUMNS = ("SymmetricBestDice", "FGBGDice", "AbsDiffFGLabels", "DiffFGLabels")


class SubmissionFolder:
    """Writes one label image for each plant; a sink.

    Args:
        folder: created if it does not exist.
        leaf_set: "A1" … "A5", the subfolder.
        overlap: "earliest" or "latest", see `leaves.label_map`.

    Raises:
        InputError: if there is no such set, the folder cannot be written to, a plant's name has no number, or it has
            more than 255 leaves.
    """

    def __init__(self, folder: str | pathlib.Path, *, leaf_set: str = "A1", overlap: str = "earliest") -> None:
        if leaf_set not in SETS:
            raise InputError(f"the set must be one of {', '.join(SETS)}. Received: {leaf_set!r}")
        self.folder = outputs.make_folder(pathlib.Path(folder) / leaf_set, option="the output")
        self._overlap = overlap

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if not re.search(r"\d", sample.image_id):
            raise InputError(
                f"expected the number of the plant in the name of its image. Received: {sample.image_id!r}"
            )
        labels = leaves.label_map(instances, sample.image.shape[:2], overlap=self._overlap)
        if labels.max(initial=0) > 255:
            raise InputError(f"an 8-bit label image holds 255 leaves. Received: {labels.max()} in {sample.image_id!r}")
        with files.replacing(inside(self.folder, f"{sample.image_id}_label.png")) as partial:
            Image.fromarray(labels.astype(np.uint8)).save(partial, format="PNG")


def score_folders(predicted: str | pathlib.Path, truth: str | pathlib.Path) -> dict[str, dict[str, float]]:
    """Scores label images as the organisers' script does.

    Args:
        predicted: folder of `*_label.png`; the last number in each name is the plant. A plant that is missing counts
            as one without predicted leaves.
        truth: folder of `*_label.png`.

    Returns:
        Name of the true label image → "SymmetricBestDice", "FGBGDice", "AbsDiffFGLabels", "DiffFGLabels".

    Raises:
        InputError: if a folder is missing, there is no label image or no plant in common, a plant has two images, or
            sizes differ.
    """
    predictions, truths = _by_plant(predicted), _by_plant(truth)
    if not truths:
        raise InputError(f"expected label images named *_label.png. Received: none in {truth}")
    if predictions.keys().isdisjoint(truths):
        raise InputError(f"expected label images, *_label.png, of the plants of {truth}. Received: none in {predicted}")
    scores = {}
    for plant, path in truths.items():
        labels = read_label_image(path)
        prediction = read_label_image(predictions[plant]) if plant in predictions else np.zeros_like(labels)
        if prediction.shape != labels.shape:
            received = f"{prediction.shape} in {predictions[plant]}"
            raise InputError(f"expected the size of {path}, {labels.shape}. Received: {received}")
        values = (
            leaves.symmetric_best_dice(prediction, labels),
            leaves.foreground_dice(prediction, labels),
            leaves.absolute_count_difference(prediction, labels),
            leaves.count_difference(prediction, labels),
        )
        scores[path.name] = dict(zip(COLUMNS, values, strict=True))
    return scores


def unpaired(predicted: str | pathlib.Path, truth: str | pathlib.Path) -> list[str]:
    """Returns a line for the plants without a predicted label map, and one for those without a true one.

    Args:
        predicted, truth: as for `score_folders`.

    Raises:
        InputError: as `score_folders`.
    """
    predictions, truths = _by_plant(predicted).keys(), _by_plant(truth).keys()
    lines = []
    if missing := len(truths - predictions):
        lines.append(f"{missing} of {len(truths)} plants have no label map in {predicted} and count as without leaves")
    if surplus := len(predictions - truths):
        lines.append(f"{surplus} of {len(predictions)} plants of {predicted} are not in {truth} and are not scored")
    return lines


def table(scores: dict[str, dict[str, float]]) -> str:
    """Returns the mean, the standard deviation (n − 1, as published) and the 95 % interval of each score as text."""
    lines = [f"{len(scores)} plants", f"{'score':<20}{'mean':>8}{'std':>8}   95 % interval"]
    for name in COLUMNS:
        values = np.array([row[name] for row in scores.values()], float)
        known = values[~np.isnan(values)]
        spread = known.std(ddof=1) if known.size > 1 else 0.0
        low, high = mean_interval(values)
        lines.append(f"{name:<20}{known_mean(values):>8.4f}{spread:>8.4f}   {low:.4f} … {high:.4f}")
    return "\n".join(lines)


def write_csv(path: str | pathlib.Path, scores: dict[str, dict[str, float]]) -> None:
    """Writes the scores as CSV, one row for each plant."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["file", *COLUMNS])
    writer.writeheader()
    writer.writerows({"file": name} | row for name, row in scores.items())
    files.write_text(path, text.getvalue())


def _by_plant(folder: str | pathlib.Path) -> dict[int, pathlib.Path]:
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a folder of label images. Received: {folder}")
    plants: dict[int, pathlib.Path] = {}
    for path in sorted(folder.glob("*_label.png")):
        numbers = re.findall(r"\d+", path.name)
        if not numbers:
            raise InputError(f"expected the number of the plant in the name. Received: {path}")
        if int(numbers[-1]) in plants:
            raise InputError(
                f"expected one label image for each plant. Received: {plants[int(numbers[-1])]} and {path}"
            )
        plants[int(numbers[-1])] = path
    return plants
