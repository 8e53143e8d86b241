"""Cityscapes' instance scores (paper, table 2), computed by cityscapesScripts.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", arXiv 1604.01685. Predictions
are written in the benchmark's format, which its server accepts. Then the official functions are called with arguments
that keep them from writing into the installed package or the current folder. The official code expects the distances of
the true objects, which the public release does not contain. For AP100m and AP50m they are computed here from the
dataset's folders `disparity` and `camera`.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsis_tf import files
from rsis_tf.data.sample import Dataset, Sample
from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.cityscapes_files import ResultFiles, prediction_files, stem_of
from rsis_tf.evaluation.json_values import plain
from rsis_tf.evaluation.metrics.bootstrap import Interval, known_mean
from rsis_tf.evaluation.metrics.cityscapes_curves import ap_intervals, ap_matrix
from rsis_tf.evaluation.predictions import Predictor, Progress, predict_dataset
from rsis_tf.evaluation.protocols import PROTOCOLS, Protocol
from rsis_tf.images import read_label_image

SCORES = ("ap", "ap50", "ap100m", "ap50m")
RESAMPLES = 200
_DISTANCE = {"ap": 0, "ap50": 0, "ap100m": 1, "ap50m": 2}
"""Score → position of its distance in the official code: any, 100 m, 50 m."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CityscapesScores:
    """Fractions in 0 … 1; NaN where there are no objects, None where distances are unknown.

    Attributes:
        mean: "ap", "ap50", "ap100m", "ap50m", mean over the classes that have objects.
        per_class: class name → the same keys.
        intervals: 95 % bootstrap interval over images of each of `mean`.
        images: number of images.
    """

    mean: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    intervals: dict[str, Interval | None]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return plain(dataclasses.asdict(self))


def evaluate_cityscapes(
    predictor: Predictor,
    dataset: Dataset,
    *,
    root: str | pathlib.Path,
    split: str,
    results: str | pathlib.Path,
    protocol: Protocol = PROTOCOLS["paper-cityscapes"],
    cache: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> CityscapesScores | None:
    """Predicts a split of Cityscapes, writes the benchmark's result files and scores them.

    Args:
        predictor: maps images to instances; should follow the protocol too (`protocol_masks.follow`).
        dataset: the images of the split, or some of them.
        root: the dataset's folder. Distances are used if it has `disparity` and `camera` for the split.
        split: name of the split's folders.
        results: new or empty folder for the result files.
        protocol: its `every_class` applies to the result files.
        cache: see `evaluate_files`.
        progress: called after each image.

    Returns:
        The scores; None if the split has no annotations.

    Raises:
        InputError: if the dataset's classes are not the predictor's or not Cityscapes', or a file cannot be used.
    """
    root = pathlib.Path(root)
    annotations = (root / "gtFine" / split).glob("*/*_gtFine_instanceIds.png")
    truths = {stem_of(path.name): path for path in sorted(annotations)}
    if truths:
        # Without them this fails here and not after the whole split was predicted.
        _official()
        _cached(cache)
    writer = ResultFiles(results, dataset.class_names, every_class=protocol.every_class)
    stems: list[str] = []

    def note_stem(sample: Sample, instances: Sequence[Any]) -> None:
        stems.append(stem_of(sample.image_id))

    predict_dataset(predictor, dataset, [writer, note_stem], progress=progress)
    if not truths:
        return None
    with_distances = all((root / kind / split).is_dir() for kind in ("disparity", "camera"))
    return evaluate_files(results, [truths[stem] for stem in stems], cache=cache, with_distances=with_distances)


def evaluate_files(
    results: str | pathlib.Path,
    truth_files: Sequence[str | pathlib.Path],
    *,
    cache: str | pathlib.Path | None = None,
    with_distances: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CityscapesScores:
    """Scores result files with cityscapesScripts' instance evaluation.

    Args:
        results: folder that `ResultFiles` wrote, or another in the benchmark's format.
        truth_files: `*_gtFine_instanceIds.png`; with distances they must be in the dataset's folders.
        cache: JSON file that stores the true objects for the next call; None for no cache.
        with_distances: compute the distances for AP100m and AP50m from `disparity` and `camera`.
        resamples: number of bootstrap draws for the intervals.
        seed: seed of the draws.

    Raises:
        InputError: if a file is missing or the official code refuses one.
    """
    truth_paths = [pathlib.Path(path).absolute() for path in truth_files]
    if not truth_paths:
        raise InputError("expected files named *_gtFine_instanceIds.png. Received: none")
    results = pathlib.Path(results).absolute()
    predictions = prediction_files(results, truth_paths)
    official = _official()
    arguments = types.SimpleNamespace(**vars(official.args))
    arguments.quiet, arguments.colorized, arguments.JSONOutput = True, False, False
    arguments.predictionPath, arguments.distanceAvailable = str(results), with_distances
    official.setInstanceLabels(arguments)
    truths = _true_instances(official, truth_paths, cache, with_distances)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            names = [str(path) for path in truth_paths]
            matches = official.matchGtWithPreds([str(path) for path in predictions], names, truths, arguments)
            aps = _official_precision(official, matches, arguments)  # (distances, classes, overlaps)
    except SystemExit:
        raise InputError(f"cityscapesScripts refused a file. Received: {printed.getvalue().strip()}") from None
    keys = [name for name in SCORES if with_distances or not name.endswith("m")]
    per_class = {
        name: {key: float(_select(aps[:, [k]], key).mean()) for key in keys}
        for k, name in enumerate(arguments.instLabels)
    }
    intervals = ap_intervals(
        matches,
        arguments,
        {key: (_DISTANCE[key], range(1) if key == "ap50" else range(len(arguments.overlaps))) for key in keys},
        resamples=resamples,
        seed=seed,
    )
    missing = dict.fromkeys(name for name in SCORES if name not in keys)
    return CityscapesScores(
        mean={key: known_mean(_select(aps, key)) for key in keys} | missing,
        per_class={name: values | missing for name, values in per_class.items()},
        intervals=intervals | missing,
        images=len(truth_paths),
    )


def distances(ids: np.ndarray, disparity: np.ndarray, camera: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Computes the distances of objects as Cityscapes' evaluation expects them.

    Args:
        ids: (H, W) int instance ids.
        disparity: (H, W) uint16 as in `*_disparity.png`: 0 = unknown, else disparity · 256 + 1, in pixels.
        camera: contents of `*_camera.json`.

    Returns:
        id → (median distance in metres, share of pixels with known disparity); −1 m if no disparity is known.
    """
    focal_times_baseline = camera["intrinsic"]["fx"] * camera["extrinsic"]["baseline"]
    result = {}
    for number in np.unique(ids):
        values = disparity[ids == number].astype(np.float64)
        known = values[values > 1]
        metres = float(np.median(focal_times_baseline * 256 / (known - 1))) if len(known) else -1.0
        result[int(number)] = metres, len(known) / len(values)
    return result


def table(scores: CityscapesScores) -> str:
    """Returns table 2 as text, in percent."""
    columns = {"ap": "AP", "ap50": "AP50", "ap100m": "AP100m", "ap50m": "AP50m"}
    lines = [f"{scores.images} images, percent", f"{'class':<12}" + "".join(f"{c:>9}" for c in columns.values())]
    for name, values in [("mean", scores.mean), *scores.per_class.items()]:
        lines.append(f"{name:<12}" + "".join(f"{_percent(values[key]):>9}" for key in columns))
    lines += ["", "95 % intervals over images"]
    for key, pair in scores.intervals.items():
        if pair is not None:
            lines.append(f"{columns[key]:<9}{_percent(pair[0])} … {_percent(pair[1])}")
    return "\n".join(lines)


def _official_precision(official: Any, matches: dict[str, Any], arguments: Any) -> np.ndarray:
    try:
        return official.evaluateMatches(matches, arguments)
    except IndexError:
        # The official code fails on a class that has objects but whose predictions all lie on ignored pixels.
        return ap_matrix(matches, arguments)


def _select(aps: np.ndarray, key: str) -> np.ndarray:
    """Selects from (distances, classes, overlaps) the (classes, overlaps) that a score is the mean of."""
    return aps[_DISTANCE[key], :, :1] if key == "ap50" else aps[_DISTANCE[key]]


def _true_instances(
    official: Any, truth_files: Sequence[pathlib.Path], cache: str | pathlib.Path | None, with_distances: bool
) -> dict[str, Any]:
    """Returns the official code's description of the true objects, by file and class."""
    stored = _cached(cache)
    truths = {}
    for file in truth_files:
        # The cache must not be used for a file that has changed, nor for distances that it does not hold.
        status = file.stat() if file.is_file() else None
        if status is None:
            raise InputError(f"expected an annotation. Received: {file} (no such file)")
        stamp = [status.st_size, status.st_mtime_ns, with_distances]
        entry = stored.get(str(file))
        if entry is None or entry["stamp"] != stamp:
            instances = official.instances2dict([str(file)], False)[str(file)]
            if with_distances:
                _add_distances(instances, file)
            entry = stored[str(file)] = {"stamp": stamp, "instances": instances}
        truths[str(file)] = entry["instances"]
    if cache is not None:
        files.write_json(cache, plain(stored))
    return truths


def _cached(cache: str | pathlib.Path | None) -> dict[str, Any]:
    """Returns the content of the cache; empty if there is none yet.

    Raises:
        InputError: if the file is not one that `_true_instances` wrote.
    """
    if cache is None or not pathlib.Path(cache).is_file():
        return {}
    try:
        stored = json.loads(pathlib.Path(cache).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"expected a cache of true instances (delete it). Received: {cache} ({error})") from None
    entries = list(stored.values()) if isinstance(stored, dict) else [stored]
    if not all(isinstance(entry, dict) and entry.keys() == {"stamp", "instances"} for entry in entries):
        raise InputError(f"expected a cache of true instances. Received: {cache}, which holds something else")
    return stored


def _add_distances(instances: dict[str, list[dict[str, Any]]], file: pathlib.Path) -> None:
    city, split, root = file.parent, file.parent.parent, file.parent.parent.parent.parent
    stem = file.name.removesuffix("_gtFine_instanceIds.png")
    folders = [root / kind / split.name / city.name for kind in ("disparity", "camera")]
    camera_file = folders[1] / f"{stem}_camera.json"
    disparity = read_label_image(folders[0] / f"{stem}_disparity.png")
    ids = read_label_image(file)
    try:
        known = distances(ids, disparity, json.loads(camera_file.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, json.JSONDecodeError, IndexError) as error:
        raise InputError(f"expected disparity and camera of {stem}. Received: {camera_file} ({error!r})") from None
    for objects in instances.values():
        for instance in objects:
            instance["medDist"], instance["distConf"] = known[instance["instID"]]


def _official() -> Any:
    """Returns the module of cityscapesScripts that scores instances."""
    try:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
    except ImportError as error:
        reason = f"Received: {error}"
        raise InputError(f"expected cityscapesScripts (pip install cityscapesscripts). {reason}") from None
    if not hasattr(np, "in1d"):
        # Version 2.3 calls np.in1d, which NumPy 2.4 has removed in favour of isin.
        official.np = types.SimpleNamespace(**vars(np), in1d=np.isin)
    return official


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f}"
