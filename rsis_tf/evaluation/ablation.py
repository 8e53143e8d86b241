"""Runs side by side in the form of the paper's table 5: what was changed, and what it did to the scores."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rsis_tf.config import RunConfig
from rsis_tf.config_file import load, read_json
from rsis_tf.errors import InputError, command_line
from rsis_tf.evaluation.runner import plain, write_json

_ALWAYS = ("model.encoder", "model.skip_mode", "model.decoder_stages")
_TITLES = {"model.encoder": "encoder", "model.skip_mode": "skip", "model.decoder_stages": "stages"}
_NOT_SETTINGS = ("data.root", "model.class_names", "model.category_ids", "train.seed", "data.seed")
_SCORES = {"ap50": "AP50", "ap": "AP", "sbd": "SBD", "abs_dic": "|DiC|"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        name: of its folder.
        settings: name → value, of the settings shown.
        scores: name → value; fractions 0 … 1 but for "abs_dic"; NaN where not measured.
        intervals: name → (low, high), the 95 % interval.
        measured_on: dataset, split, stop rule and number of pictures.
    """

    name: str
    settings: dict[str, Any]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    measured_on: tuple[Any, ...]


def read_runs(folders: Sequence[str | pathlib.Path], *, class_name: str | None = None) -> list[Row]:
    """Reads settings and scores of runs; settings that are the same in all runs are left out.

    Args:
        folders: of runs, each with `config.json` and the `metrics.json` that `evaluate.py RUN` writes.
        class_name: add AP50 of this class ("person" in the paper).

    Raises:
        InputError: if there is no run, a file is missing or broken, or no such class was scored.
    """
    if not folders:
        raise InputError("expected at least one run's folder. Received: none")
    read = [(pathlib.Path(folder), *_read(pathlib.Path(folder))) for folder in folders]
    everything = [_flat(dataclasses.asdict(config)) for _, config, _ in read]
    changed = [
        name
        for name in everything[0]
        if name not in (*_ALWAYS, *_NOT_SETTINGS) and len({json.dumps(settings[name]) for settings in everything}) > 1
    ]
    rows = []
    for (folder, config, metrics), settings in zip(read, everything, strict=True):
        scores = {name: _value(metrics.get(name)) for name in _SCORES}
        if class_name is not None:
            known = metrics.get("per_class", {})
            if class_name not in known:
                raise InputError(f"expected one of the classes {', '.join(known)}. Received: {class_name!r} ({folder})")
            scores[class_name] = _value(known[class_name]["ap50"])
        intervals = {name: tuple(map(_value, pair)) for name, pair in metrics.get("intervals", {}).items() if pair}
        rows.append(
            Row(
                name=folder.name or str(folder),
                settings={name: settings[name] for name in (*_ALWAYS, *changed)},
                scores=scores,
                intervals={name: pair for name, pair in intervals.items() if name in scores},
                measured_on=(config.data.dataset, metrics.get("split"), metrics.get("stop"), metrics.get("images")),
            )
        )
    return rows


def table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """Returns the runs as a table; fractions in percent, each score with its 95 % interval over pictures."""
    names = list(rows[0].settings)
    scores = list(rows[0].scores)
    head = ["run", *(_TITLES.get(name, name.split(".", 1)[1]) for name in names)]
    head += [_SCORES.get(name, f"AP50 {name}") for name in scores]
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
    """Runs `python -m rsis_tf.evaluation.ablation`."""
    from rsis_tf.evaluation import command

    arguments = command.parser(
        "Puts runs side by side as table 5 of the paper does; score each with evaluate.py first.",
        "python -m rsis_tf.evaluation.ablation runs/concat runs/sum runs/none --out ablation.json",
    )
    arguments.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder with metrics.json in it")
    arguments.add_argument("--class", dest="class_name", metavar="NAME", help="add AP50 of this class")
    arguments.add_argument("--markdown", action="store_true", help="print a Markdown table")
    arguments.add_argument("--out", metavar="FILE", type=pathlib.Path, help="write the rows as JSON too")
    options = arguments.parse_args(argv)
    with command_line():
        if options.out is not None and not options.out.absolute().parent.is_dir():
            raise InputError(f"expected a file in a folder that is there. Received: --out {options.out}")
        rows = read_runs(options.runs, class_name=options.class_name)
        print(table(rows, markdown=options.markdown))
        if options.out is not None:
            write_json(options.out, [plain(dataclasses.asdict(row)) for row in rows])
            print(f"\nwritten: {options.out}")


def _read(folder: pathlib.Path) -> tuple[RunConfig, dict[str, Any]]:
    if not folder.is_dir():
        raise InputError(f"expected a run's folder. Received: {folder}")
    metrics = read_json(folder / "metrics.json", f"the scores that `python evaluate.py {folder}` writes")
    return load(RunConfig, folder / "config.json"), metrics


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
