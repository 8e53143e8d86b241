"""Cityscapes' instance scores (paper, table 2): result files, and cityscapesScripts' own evaluation of them.

Predictions are written in the benchmark's format, which its server takes too; then the official functions are called
with arguments of our own, so that nothing is written into the installed package or the current folder. The official
code takes the true instances' distances as given, and its public release has none: AP100m and AP50m need the
dataset's `disparity` and `camera` folders, from which the distances are computed here.
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

from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation.benchmarks.cityscapes_results import ResultFiles, prediction_files, stem_of
from rsis_tf.evaluation.metrics.bootstrap import Interval
from rsis_tf.evaluation.metrics.cityscapes_curves import ap_intervals, ap_matrix
from rsis_tf.evaluation.runner import plain, write_json
from rsis_tf.images import read_label_image
from rsis_tf.progress import ProgressLine

SCORES = ("ap", "ap50", "ap100m", "ap50m")
RESAMPLES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class CityscapesScores:
    """Fractions 0 … 1; NaN where there is no object, None where distances are not known.

    Attributes:
        mean: "ap", "ap50", "ap100m", "ap50m", mean over the classes that have objects.
        per_class: class name → the same.
        intervals: 95 % bootstrap interval over pictures of each of `mean`.
        images: how many there were.
    """

    mean: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    intervals: dict[str, Interval | None]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return plain(dataclasses.asdict(self))


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
        results: folder that `ResultFiles` wrote, or any in the benchmark's format.
        truth_files: `*_gtFine_instanceIds.png`, in the dataset's folders if distances are asked for.
        cache: JSON file that keeps what was read of the truth for the next time; None for none.
        with_distances: compute the distances that AP100m and AP50m need from `disparity` and `camera`.
        resamples: draws for the intervals.
        seed: of the draws.

    Raises:
        InputError: if a file is missing or the official code refuses one.
    """
    truth_files = [pathlib.Path(path).absolute() for path in truth_files]
    if not truth_files:
        raise InputError("expected files named *_gtFine_instanceIds.png. Received: none")
    results = pathlib.Path(results).absolute()
    predictions = prediction_files(results, truth_files)
    official = _official()
    arguments = types.SimpleNamespace(**vars(official.args))
    arguments.quiet, arguments.colorized, arguments.JSONOutput = True, False, False
    arguments.predictionPath, arguments.distanceAvailable = str(results), with_distances
    official.setInstanceLabels(arguments)
    truths = _true_instances(official, truth_files, cache, with_distances)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            names = [str(path) for path in truth_files]
            matches = official.matchGtWithPreds([str(path) for path in predictions], names, truths, arguments)
            aps = _official_precision(official, matches, arguments)  # (distances, classes, overlaps)
    except SystemExit:
        raise InputError(f"cityscapesScripts refused a file. Received: {said.getvalue().strip()}") from None
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
        mean={key: _known_mean(_select(aps, key)) for key in keys} | missing,
        per_class={name: values | missing for name, values in per_class.items()},
        intervals=intervals | missing,
        images=len(truth_files),
    )


def distances(ids: np.ndarray, disparity: np.ndarray, camera: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Computes what Cityscapes' evaluation needs to know of the distance of objects.

    Args:
        ids: (H, W) instance ids.
        disparity: (H, W) uint16 as in `*_disparity.png`: 0 = unknown, else disparity · 256 + 1, in pixels.
        camera: contents of `*_camera.json`.

    Returns:
        id → (median distance in metres, share of its pixels with a known disparity); −1 m if none is known.
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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.benchmarks.cityscapes`."""
    from rsis_tf.cli import evaluation_options as command
    from rsis_tf.evaluation.benchmarks import protocols
    from rsis_tf.evaluation.runner import show

    arguments = command.parser(
        "Predicts Cityscapes, writes the benchmark's result files and scores them with cityscapesScripts (table 2).",
        "python -m rsis_tf.evaluation.benchmarks.cityscapes runs/city --data cityscapes --out runs/city/cityscapes",
    )
    command.add_model_and_data(arguments, dataset="cityscapes", stop=None)
    arguments.add_argument("--out", metavar="FOLDER", required=True, help="for results/ and cityscapes.json; new")
    arguments.add_argument("--cache", metavar="FILE", help="JSON file that keeps what was read of the truth")
    protocols.add_options(arguments, default="paper-cityscapes", scored_by=("every_class",))
    arguments.add_argument(
        "--best-class", dest="every_class", action="store_false", default=None, help="the same as --no-every-class"
    )
    options = arguments.parse_args(argv)
    with command_line():
        protocol = protocols.chosen(options)
        dataset, predictor = command.open_both(options)
        out = command.output_folder(options.out)
        writer = ResultFiles(out / "results", dataset.class_names, every_class=protocol.every_class)
        shown: list[str] = []
        sinks = [writer, lambda sample, instances: shown.append(stem_of(sample.image_id))]
        show(predictor, dataset, sinks, progress=ProgressLine())
        root = pathlib.Path(command.data_root(options))
        folder = root / "gtFine" / options.split
        found = {stem_of(path.name): path for path in sorted(folder.glob("*/*_gtFine_instanceIds.png"))}
        if not found:
            print(f"written: {out / 'results'} (not scored: no annotations in {folder})")
            return
        with_distances = (root / "disparity" / options.split).is_dir() and (root / "camera" / options.split).is_dir()
        scores = evaluate_files(
            out / "results", [found[stem] for stem in shown], cache=options.cache, with_distances=with_distances
        )
        write_json(out / "cityscapes.json", {"protocol": protocol.settings(), **scores.to_dict()})
        print(table(scores))
        print(f"\nwritten: {out / 'cityscapes.json'}, {out / 'results'}")


_DISTANCE = {"ap": 0, "ap50": 0, "ap100m": 1, "ap50m": 2}


def _official_precision(official: Any, matches: dict[str, Any], arguments: Any) -> np.ndarray:
    try:
        return official.evaluateMatches(matches, arguments)
    except IndexError:
        # The official code stumbles on a class that has objects but whose predictions all lie on ignored pixels.
        return ap_matrix(matches, arguments)


def _select(aps: np.ndarray, key: str) -> np.ndarray:
    """(distances, classes, overlaps) → the (classes, overlaps) a score is the mean of."""
    return aps[_DISTANCE[key], :, :1] if key == "ap50" else aps[_DISTANCE[key]]


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _true_instances(
    official: Any, files: Sequence[pathlib.Path], cache: str | pathlib.Path | None, with_distances: bool
) -> dict[str, Any]:
    """Returns per file and class what the official code wants to know of the true objects."""
    stored = {}
    if cache is not None and pathlib.Path(cache).is_file():
        try:
            stored = json.loads(pathlib.Path(cache).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"expected a cache of true instances (delete it). Received: {cache} ({error})") from None
    truths = {}
    for file in files:
        # A file that changed, or distances that were not asked for before, must not be taken from the cache.
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
        write_json(cache, stored)
    return truths


def _add_distances(instances: dict[str, list[dict]], file: pathlib.Path) -> None:
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
    """Returns cityscapesScripts' module for instances."""
    try:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
    except ImportError as error:
        reason = f"Received: {error}"
        raise InputError(f"expected cityscapesScripts (pip install cityscapesscripts). {reason}") from None
    if not hasattr(np, "in1d"):
        # Version 2.3 calls np.in1d, which NumPy 2.4 no longer has; isin is what took its place.
        official.np = types.SimpleNamespace(**vars(np), in1d=np.isin)
    return official


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
