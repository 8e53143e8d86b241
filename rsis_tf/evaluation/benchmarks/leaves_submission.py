"""The folder of label images that the CVPPP Leaf Segmentation Challenge takes, and its scores without MATLAB.

`FOLDER/A1/plant007_label.png`: one 8-bit image per plant, 0 = background, 1 … n = leaves; the organisers' script finds
the set in the path and the plant by the last number of the name.
"""

import csv
import io
import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation.metrics import leaves
from rsis_tf.evaluation.metrics.bootstrap import mean_interval
from rsis_tf.files import inside
from rsis_tf.images import read_label_image
from rsis_tf.progress import ProgressLine

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

SETS = ("A1", "A2", "A3", "A4", "A5")
COLUMNS = ("SymmetricBestDice", "FGBGDice", "AbsDiffFGLabels", "DiffFGLabels")


class SubmissionFolder:
    """Writes one label image per plant.

    Args:
        folder: made if it is not there.
        leaf_set: "A1" … "A5", the subfolder.
        overlap: which step keeps a pixel that several claim, see `leaves.label_map`.
    """

    def __init__(self, folder: str | pathlib.Path, *, leaf_set: str = "A1", overlap: str = "earliest") -> None:
        if leaf_set not in SETS:
            raise InputError(f"the set must be one of {', '.join(SETS)}. Received: {leaf_set!r}")
        self.folder = pathlib.Path(folder) / leaf_set
        self.folder.mkdir(parents=True, exist_ok=True)
        self._overlap = overlap

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if not re.search(r"\d", sample.image_id):
            raise InputError(f"expected a plant's number in the name of its picture. Received: {sample.image_id!r}")
        labels = leaves.label_map(instances, sample.image.shape[:2], overlap=self._overlap)
        if labels.max(initial=0) > 255:
            raise InputError(f"an 8-bit label image holds 255 leaves. Received: {labels.max()} in {sample.image_id!r}")
        path = inside(self.folder, f"{sample.image_id}_label.png")
        beside = path.with_name(f".{path.name}")
        Image.fromarray(labels.astype(np.uint8)).save(beside, format="PNG")
        os.replace(beside, path)


def score_folders(predicted: str | pathlib.Path, truth: str | pathlib.Path) -> dict[str, dict[str, float]]:
    """Scores label images as the organisers' script does.

    Args:
        predicted: folder of `*_label.png`, told apart by the last number in their names; a plant without one counts
            as a plant without leaves.
        truth: folder of `*_label.png`.

    Returns:
        Name of the truth's file → "SymmetricBestDice", "FGBGDice", "AbsDiffFGLabels", "DiffFGLabels".

    Raises:
        InputError: for a missing folder, no label image, two images of one plant, or sizes that differ.
    """
    found, there = _by_plant(predicted), _by_plant(truth)
    if not there:
        raise InputError(f"expected label images named *_label.png. Received: none in {truth}")
    scores = {}
    for plant, path in there.items():
        labels = read_label_image(path)
        prediction = read_label_image(found[plant]) if plant in found else np.zeros_like(labels)
        if prediction.shape != labels.shape:
            received = f"{prediction.shape} in {found[plant]}"
            raise InputError(f"expected the size of {path}, {labels.shape}. Received: {received}")
        difference = leaves.count_difference(prediction, labels)
        values = (
            leaves.symmetric_best_dice(prediction, labels),
            leaves.foreground_dice(prediction, labels),
            abs(difference),
            difference,
        )
        scores[path.name] = dict(zip(COLUMNS, values, strict=True))
    return scores


def table(scores: dict[str, dict[str, float]]) -> str:
    """Returns mean, standard deviation (as published, n − 1) and 95 % interval of each score as text."""
    lines = [f"{len(scores)} plants", f"{'score':<20}{'mean':>8}{'std':>8}   95 % interval"]
    for name in COLUMNS:
        values = np.array([row[name] for row in scores.values()], float)
        known = values[~np.isnan(values)]
        mean = known.mean() if known.size else np.nan
        spread = known.std(ddof=1) if known.size > 1 else 0.0
        low, high = mean_interval(values)
        lines.append(f"{name:<20}{mean:>8.4f}{spread:>8.4f}   {low:.4f} … {high:.4f}")
    return "\n".join(lines)


def write_csv(path: str | pathlib.Path, scores: dict[str, dict[str, float]]) -> None:
    """Writes a row per plant."""
    path = pathlib.Path(path)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["file", *COLUMNS])
    writer.writeheader()
    writer.writerows({"file": name} | row for name, row in scores.items())
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text.getvalue(), encoding="utf-8")
    os.replace(beside, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.benchmarks.leaves_submission`."""
    from rsis_tf.cli import evaluation_options as command
    from rsis_tf.evaluation.benchmarks import protocols
    from rsis_tf.evaluation.runner import show

    arguments = command.parser(
        "Writes the folder of label images that the CVPPP leaf challenge takes; with --score, scores such a folder.",
        "python -m rsis_tf.evaluation.benchmarks.leaves_submission runs/leaves --data CVPPP2017 --split test "
        "--out submission\n"
        "  python -m rsis_tf.evaluation.benchmarks.leaves_submission --score submission/A1 CVPPP2017/training/A1",
    )
    arguments.add_argument("--score", nargs=2, metavar=("PREDICTED", "TRUTH"), help="folders of *_label.png")
    arguments.add_argument("--csv", metavar="FILE", help="with --score: a row per plant")
    command.add_model_and_data(arguments, dataset="cvppp", stop=None, optional=True)
    arguments.add_argument("--set", default="A1", choices=SETS, help="the subfolder (default: %(default)s)")
    arguments.add_argument("--out", metavar="FOLDER", help="for the label images")
    protocols.add_options(arguments, default="paper-cvppp", scored_by=("overlap",))
    options = arguments.parse_args(argv)
    with command_line():
        if options.score:
            scores = score_folders(*options.score)
            if options.csv:
                write_csv(options.csv, scores)
            print(table(scores))
            return
        if not options.model or not options.out:
            raise InputError("expected MODEL and --out FOLDER, or --score PREDICTED TRUTH. Received: neither")
        dataset, predictor = command.open_both(options)
        folder = SubmissionFolder(options.out, leaf_set=options.set, overlap=protocols.chosen(options).overlap)
        show(predictor, dataset, [folder], progress=ProgressLine())
        print(f"written: {len(dataset)} label images in {folder.folder}")


def _by_plant(folder: str | pathlib.Path) -> dict[int, pathlib.Path]:
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a folder of label images. Received: {folder}")
    plants: dict[int, pathlib.Path] = {}
    for path in sorted(folder.glob("*_label.png")):
        numbers = re.findall(r"\d+", path.name)
        if not numbers:
            raise InputError(f"expected a plant's number in the name. Received: {path}")
        if int(numbers[-1]) in plants:
            raise InputError(f"expected one label image per plant. Received: {plants[int(numbers[-1])]} and {path}")
        plants[int(numbers[-1])] = path
    return plants


if __name__ == "__main__":
    main()
