"""Runs side by side in the form of the paper's table 5: what was changed, and what it did to the scores.

Table 5 gives AP50 over all classes and that of persons, in the protocol of the paper's Pascal VOC evaluation
("paper-voc"). Those columns come from the scores that `evaluate.py RUN --protocol paper-voc` writes, for any dataset;
the others, COCO's AP and the leaf challenge's scores, from those of `evaluate.py RUN`.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rsis_tf.config import RunConfig
from rsis_tf.config.json_file import load, read_json
from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation.benchmarks.protocols import PLAIN, PROTOCOLS, Protocol, metrics_file
from rsis_tf.evaluation.runner import plain, write_json

_ALWAYS = ("model.encoder", "model.skip_mode", "model.decoder_stages")
_TITLES = {"model.encoder": "encoder", "model.skip_mode": "skip", "model.decoder_stages": "stages"}
_NOT_SETTINGS = ("data.root", "model.class_names", "model.category_ids", "train.seed", "data.seed")
_SCORES = {"ap50": "AP50", "ap": "AP", "sbd": "SBD", "abs_dic": "|DiC|"}
_PAPER = PROTOCOLS["paper-voc"]
_CLASS = "person"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        name: of its folder.
        settings: name → value, of the settings shown.
        scores: name → value; fractions 0 … 1 but for "abs_dic"; NaN where not measured. "table5_ap50" and
            "table5_CLASS" are those of the paper's table, the others as `evaluate.py RUN` gives them.
        intervals: name → (low, high), the 95 % interval.
        measured_on: dataset; split, stop rule, number of images and changed settings of each file of scores.
    """

    name: str
    settings: dict[str, Any]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    measured_on: tuple[Any, ...]


def read_runs(folders: Sequence[str | pathlib.Path], *, class_name: str | None = None) -> list[Row]:
    """Reads settings and scores of runs; settings that are the same in all runs are left out.

    Args:
        folders: of runs, each with `config.json` and at least one of `metrics-paper-voc.json` and `metrics.json`, which
            `evaluate.py RUN --protocol paper-voc` and `evaluate.py RUN` write.
        class_name: add AP50 of this class. By default "person", as in the paper, where the paper's protocol scored it
            in all runs.

    Raises:
        InputError: if there is no run, a file is missing or broken, or no such class was scored.
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
        for name in everything[0]
        if name not in (*_ALWAYS, *_NOT_SETTINGS) and len({json.dumps(settings[name]) for settings in everything}) > 1
    ]
    rows = []
    for (folder, config, metrics, paper), settings in zip(read, everything, strict=True):
        scores = {"table5_ap50": _value(paper.get("ap50"))}
        if paper_class is not None:
            scores[f"table5_{paper_class}"] = _class_score(paper, paper_class, folder)
        scores |= {name: _value(metrics.get(name)) for name in _SCORES}
        if class_name is not None:
            scores[class_name] = _class_score(metrics, class_name, folder)
        intervals = {name: tuple(map(_value, pair)) for name, pair in metrics.get("intervals", {}).items() if pair}
        if paper.get("intervals", {}).get("ap50"):
            intervals["table5_ap50"] = tuple(map(_value, paper["intervals"]["ap50"]))
        rows.append(
            Row(
                name=folder.name or str(folder),
                settings={name: settings[name] for name in (*_ALWAYS, *changed)},
                scores=scores,
                intervals={name: pair for name, pair in intervals.items() if name in scores},
                measured_on=(config.data.dataset, *_measured_on(metrics, PLAIN), *_measured_on(paper, _PAPER)),
            )
        )
    return rows


def table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """Returns the runs as a table; fractions in percent, each score with its 95 % interval over pictures.

    Scores that no run has are left out.
    """
    names = list(rows[0].settings)
    scores = [name for name in rows[0].scores if not all(math.isnan(row.scores[name]) for row in rows)]
    head = ["run", *(_TITLES.get(name, name.split(".", 1)[1]) for name in names)]
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
        lines += ["", "not scored on the same pictures in the same way: " + "; ".join(measured)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.studies.ablation`."""
    from rsis_tf.cli import evaluation_options as command

    arguments = command.parser(
        "Puts runs side by side as table 5 of the paper does; score each with evaluate.py --protocol paper-voc first.",
        "python -m rsis_tf.evaluation.studies.ablation runs/concat runs/sum runs/none --out ablation.json",
        more="\nThe columns (table 5) are the scores of python evaluate.py RUN --protocol paper-voc,\n"
        "the others those of python evaluate.py RUN. docs/protocols.md says how they differ.\n",
    )
    arguments.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, scored by evaluate.py")
    arguments.add_argument(
        "--class", dest="class_name", metavar="NAME", help="add AP50 of this class (default: person, where it is known)"
    )
    arguments.add_argument("--markdown", action="store_true", help="print a Markdown table")
    arguments.add_argument("--out", metavar="FILE", type=pathlib.Path, help="write the rows as JSON too")
    options = arguments.parse_args(argv)
    with command_line():
        if options.out is not None and not options.out.absolute().parent.is_dir():
            raise InputError(f"expected a file in a folder that is there. Received: --out {options.out}")
        rows = read_runs(options.runs, class_name=options.class_name)
        print(table(rows, markdown=options.markdown))
        missing = [row.name for row in rows if math.isnan(row.scores["table5_ap50"])]
        if missing:
            command_words = f"python evaluate.py RUN --protocol {_PAPER.name}"
            print(f"\nnot scored in the protocol of table 5 ({command_words}): {', '.join(missing)}")
        if options.out is not None:
            write_json(options.out, [plain(dataclasses.asdict(row)) for row in rows])
            print(f"\nwritten: {options.out}")


def _read(folder: pathlib.Path) -> tuple[RunConfig, dict[str, Any], dict[str, Any]]:
    """Returns a run's settings, its scores, and those in the paper's protocol; one of the two may be empty."""
    if not folder.is_dir():
        raise InputError(f"expected a run's folder. Received: {folder}")
    expected = f"the scores that `python evaluate.py {folder} --protocol {_PAPER.name}` writes"
    files = [folder / metrics_file(protocol.name) for protocol in (PLAIN, _PAPER)]
    if not any(file.is_file() for file in files):
        received = " or ".join(file.name for file in files)
        raise InputError(f"expected {expected}. Received: {folder} without {received}")
    metrics, paper = (read_json(file, expected) if file.is_file() else {} for file in files)
    return load(RunConfig, folder / "config.json"), metrics, paper


def _measured_on(metrics: dict[str, Any], protocol: Protocol) -> list[Any]:
    """Returns split, stop rule, number of images and the settings with which scores depart from a protocol."""
    stored = metrics.get("protocol", {})
    changes = [
        f"{name}={stored[name]}" for name, value in protocol.settings().items() if stored.get(name, value) != value
    ]
    return [metrics[name] for name in ("split", "stop", "images") if name in metrics] + changes


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
        return f"{_SCORES['ap50'] if known == 'ap50' else f'AP50 {known}'} (table 5)"
    return _SCORES.get(name, f"AP50 {name}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _value(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score(row: Row, name: str) -> str:
    value = row.scores[name]
    if math.isnan(value):
        return "–"
    low, high = row.intervals.get(name, (math.nan, math.nan))
    if name == "abs_dic":
        shown, ends = f"{value:.2f}", f"{low:.2f}–{high:.2f}"
    else:
        shown, ends = f"{100 * value:.1f}", f"{100 * low:.1f}–{100 * high:.1f}"
    return shown if math.isnan(low) else f"{shown} ({ends})"


if __name__ == "__main__":
    main()
