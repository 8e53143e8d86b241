"""Compares runs in the form of the paper's table 5: the settings that differ, and the scores.

Table 5 reports AP50 over all classes and AP50 of persons, in the protocol of the paper's Pascal VOC evaluation
("paper-voc"). Its columns are the scores that `rsis evaluate RUN --protocol paper-voc` writes, for any dataset. The
other columns, COCO's AP and the leaf challenge's scores, are those of `rsis evaluate RUN`.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rsis_tf.config import RunConfig
from rsis_tf.config.json_file import load, read_json
from rsis_tf.config.run import FOLLOWING
from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.table import SCORES
from rsis_tf.evaluation.protocols import PLAIN, PROTOCOLS, Protocol, differences, metrics_file

_ALWAYS = ("model.encoder", "model.skip_mode", "model.decoder_stages")
_TITLES = {"model.encoder": "encoder", "model.skip_mode": "skip", "model.decoder_stages": "stages"}
_FOLLOWING = tuple(f"{part}.{name}" for part, names in FOLLOWING.items() for name in names)
"""Settings that follow the model's, which are in the table already."""
_NOT_SETTINGS = ("root", "class_names", "category_ids", "seed")
"""Last parts of the names of settings that say where data is or how it is numbered, not how the model is trained."""
_SHOWN = tuple(name for name, score in SCORES.items() if score.has_card)
_PAPER = PROTOCOLS["paper-voc"]
_CLASS = "person"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        name: name of its folder.
        settings: name → value of the settings shown.
        scores: name → value; fractions in 0 … 1 except "abs_dic"; NaN if not measured. "table5_ap50" and "table5_CLASS"
            are the columns of the paper's table, the others are the scores of `rsis evaluate RUN`.
        intervals: name → (low, high), the 95 % interval.
        measured_on: dataset; then split, stop rule, number of images and changed settings of each file of scores.
    """

    name: str
    settings: dict[str, Any]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    measured_on: tuple[Any, ...]


def read_runs(folders: Sequence[str | pathlib.Path], *, class_name: str | None = None) -> list[Row]:
    """Reads settings and scores of runs; settings with the same value in all runs are left out.

    Args:
        folders: folders of runs, each with `config.json` and at least one of `metrics-paper-voc.json` and
            `metrics.json`, which `rsis evaluate RUN --protocol paper-voc` and `rsis evaluate RUN` write.
        class_name: add AP50 of this class. By default "person", as in the paper, if all runs have its AP50 in the
            paper's protocol.

    Raises:
        InputError: if there is no run, a file is missing or broken, or the class was not scored.
    """
    if not folders:
        raise InputError("expected at least one run's folder. Received: none")
    read = [(pathlib.Path(folder), *_read(pathlib.Path(folder))) for folder in folders]
    everything = [_flat(dataclasses.asdict(config)) for _, config, _, _ in read]
    if class_name is None:
        paper_class = _CLASS if all(_CLASS in paper.get("per_class", {}) for *_, paper in read) else None
    else:
        paper_class = class_name
    changed = [
        name
        for name in dict.fromkeys(name for settings in everything for name in settings)
        if name not in _ALWAYS
        and name not in _FOLLOWING
        and _last(name) not in _NOT_SETTINGS
        and len({json.dumps(settings.get(name)) for settings in everything}) > 1
    ]
    rows = []
    for (folder, config, metrics, paper), settings in zip(read, everything, strict=True):
        scores = {"table5_ap50": _value(paper.get("ap50"))}
        if paper_class is not None:
            scores[f"table5_{paper_class}"] = _class_score(paper, paper_class, folder)
        scores |= {name: _value(metrics.get(name)) for name in _SHOWN}
        if class_name is not None:
            scores[class_name] = _class_score(metrics, class_name, folder)
        intervals = {name: _pair(pair) for name, pair in metrics.get("intervals", {}).items() if pair}
        if paper.get("intervals", {}).get("ap50"):
            intervals["table5_ap50"] = _pair(paper["intervals"]["ap50"])
        rows.append(
            Row(
                name=folder.name or str(folder),
                settings={name: settings.get(name) for name in (*_ALWAYS, *changed)},
                scores=scores,
                intervals={name: pair for name, pair in intervals.items() if name in scores},
                measured_on=(config.data.dataset, *_measured_on(metrics, PLAIN), *_measured_on(paper, _PAPER)),
            )
        )
    return rows


def table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """Returns the runs as a table: fractions in percent, each score with its 95 % interval over images.

    Scores that no run has are left out.
    """
    names = list(rows[0].settings)
    scores = [name for name in rows[0].scores if not all(math.isnan(row.scores[name]) for row in rows)]
    head = ["run", *(_TITLES.get(name, _last(name)) for name in names)]
    head += [_title(name) for name in scores]
    cells = [
        [row.name, *(_setting(row.settings[name]) for name in names), *(_score(row, name) for name in scores)]
        for row in rows
    ]
    if markdown:
        lines = [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells]]
        lines = [line.replace("|DiC|", "\\|DiC\\|") for line in lines]
    else:
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in [head, *cells]
        ]
    if len({row.measured_on for row in rows}) > 1:
        measured = [f"{row.name}: {', '.join(map(str, row.measured_on))}" for row in rows]
        lines += ["", "these runs were scored on different images or in different ways: " + "; ".join(measured)]
    return "\n".join(lines)


def not_in_the_papers_protocol(rows: Sequence[Row]) -> list[str]:
    """Returns the names of the runs without scores in the protocol of table 5."""
    return [row.name for row in rows if math.isnan(row.scores["table5_ap50"])]


def _read(folder: pathlib.Path) -> tuple[RunConfig, dict[str, Any], dict[str, Any]]:
    """Returns a run's settings, its scores, and its scores in the paper's protocol; one of the two may be empty."""
    if not folder.is_dir():
        raise InputError(f"expected a run's folder. Received: {folder}")
    plain = f"rsis evaluate {folder}"
    written_by = {PLAIN: plain, _PAPER: f"{plain} --protocol {_PAPER.name}"}
    files = {folder / metrics_file(protocol.name): command for protocol, command in written_by.items()}
    if not any(file.is_file() for file in files):
        received = " or ".join(file.name for file in files)
        raise InputError(f"expected {_scores_of(written_by[_PAPER])}. Received: {folder} without {received}")
    metrics, paper = (read_json(file, _scores_of(command)) if file.is_file() else {} for file, command in files.items())
    return load(RunConfig, folder / "config.json"), metrics, paper


def _scores_of(command: str) -> str:
    return f"the scores that `{command}` writes"


def _measured_on(metrics: dict[str, Any], protocol: Protocol) -> list[Any]:
    """Returns split, stop rule, number of images, and what differs from a protocol on whole images."""
    return [metrics[name] for name in ("split", "stop", "images") if name in metrics] + differences(metrics, protocol)


def _class_score(metrics: dict[str, Any], class_name: str, folder: pathlib.Path) -> float:
    if not metrics:
        return math.nan
    known = metrics.get("per_class", {})
    if class_name not in known:
        raise InputError(f"expected one of the classes {', '.join(known)}. Received: {class_name!r} ({folder})")
    return _value(known[class_name]["ap50"])


def _title(name: str) -> str:
    if name.startswith("table5_"):
        known = name.removeprefix("table5_")
        return f"{'AP50' if known == 'ap50' else f'AP50 {known}'} (table 5)"
    return SCORES[name].title if name in _SHOWN else f"AP50 {name}"


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _pair(values: Sequence[float | None]) -> tuple[float, float]:
    low, high = values
    return _value(low), _value(high)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score(row: Row, name: str) -> str:
    value = row.scores[name]
    if math.isnan(value):
        return "–"
    low, high = row.intervals.get(name, (math.nan, math.nan))
    if name in SCORES and not SCORES[name].is_fraction:
        shown, ends = f"{value:.2f}", f"{low:.2f}–{high:.2f}"
    else:
        shown, ends = f"{100 * value:.1f}", f"{100 * low:.1f}–{100 * high:.1f}"
    return shown if math.isnan(low) else f"{shown} ({ends})"
