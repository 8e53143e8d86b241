"""A run as one HTML file that opens offline: scores, curves, predicted sequences, settings; pictures are inside it."""

import base64
import html
import math
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from rsis_tf.config import RunConfig
from rsis_tf.config.json_file import load, read_json, to_json
from rsis_tf.errors import InputError, command_line

_CARDS = (
    ("ap50", "AP50", "average precision at IoU 0.5"),
    ("ap", "AP", "average precision, IoU 0.50 to 0.95"),
    ("sbd", "SBD", "symmetric best Dice"),
    ("abs_dic", "|DiC|", "error in the number of objects, mean over pictures"),
)
_NAMES = {"dic": "DiC", "foreground_dice": "foreground Dice"}
_PICTURES = (
    ("Predicted sequences", "sequences.png", "Each row: the picture, what each step found, all of it, and the truth."),
    ("Order of the objects", "order/tau.png", "Kendall τ between the predicted order and three named ones."),
    (
        "Order by classes",
        "order/pairs.png",
        "Where the next object lies, by pair of classes found one after the other.",
    ),
    ("Order and encoder activations", "order/activation.png", "Kendall τ with the mean activation of each block."),
    ("Most and least active objects", "order/active.png", "In the deepest block of the encoder."),
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --soft: #5c6570; --line: #d9dde3; --ground: #fff; --card: #f5f7f9;
        --bar: #0077aa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3abb5; --line: #3a4048; --ground: #15181c; --card: #1f2329; --bar: #55bbee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--ground);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card small { color: var(--soft); display: block; }
.scale { position: relative; height: .4rem; border-radius: .2rem; background: var(--line); margin: .5rem 0 .3rem; }
.scale i { position: absolute; height: 100%; border-radius: .2rem; background: var(--bar); opacity: .45; }
.scale u { position: absolute; width: .25rem; height: .8rem; top: -.2rem; margin-left: -.12rem; border-radius: .1rem;
           background: var(--bar); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; background: #fff; padding: .4rem; }
.wide img { display: block; max-width: max(100%, 48rem); height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
details { margin-top: .8rem; } summary { cursor: pointer; color: var(--soft); }
th { font-weight: 600; } .flow { overflow-x: auto; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; overflow-x: auto;
      font-size: .85rem; }
"""


def report(run: str | pathlib.Path) -> str:
    """Returns the HTML of a run; what the run does not have yet is named as missing.

    Args:
        run: folder with `config.json`, and any of `metrics.json`, `log.csv` or `curves.png`, `sequences.png`, `order/`.

    Raises:
        InputError: if it is no run's folder or a file in it is broken.
    """
    run = pathlib.Path(run)
    if not run.is_dir():
        raise InputError(f"expected a run's folder. Received: {run}")
    config = load(RunConfig, run / "config.json")
    metrics = read_json(run / "metrics.json", "a run's scores") if (run / "metrics.json").is_file() else None
    name = html.escape(run.resolve().name)
    model, data = config.model, config.data
    summary = f"{model.encoder}, D = {model.hidden_size}, {model.num_steps} steps, {_size(model.image_size)} pixels; "
    summary += f"dataset {data.dataset}"
    parts = [f"<h1>{name}</h1>", f"<p>{html.escape(summary)}</p>", "<h2>Scores</h2>"]
    if metrics is None:
        parts.append(f"<p>Not scored yet: <code>python evaluate.py {html.escape(str(run))}</code></p>")
    else:
        parts += [_measured(metrics), _cards(metrics), _others(metrics), _classes(metrics)]
    parts += ["<h2>Training curves</h2>", _curves(run)]
    for title, file, text in _PICTURES:
        if (run / file).is_file():
            parts += [f"<h2>{title}</h2>", f"<p>{text}</p>", _picture(run / file, title)]
        elif file == "sequences.png":
            parts += [f"<h2>{title}</h2>", "<p>The run has no sequences.png.</p>"]
    parts += ["<h2>Settings</h2>", f"<pre>{html.escape(to_json(config))}</pre>"]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    head = f"<head>{head}<style>{_STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


def write_report(run: str | pathlib.Path, path: str | pathlib.Path | None = None) -> pathlib.Path:
    """Writes the HTML of a run.

    Args:
        run: the run's folder.
        path: of the file; default `report.html` in the run.

    Returns:
        The path written.
    """
    path = pathlib.Path(run) / "report.html" if path is None else pathlib.Path(path)
    text = report(run)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.report`."""
    from rsis_tf.cli import evaluation_options as command

    arguments = command.parser(
        "Writes a run as one HTML file that opens offline: scores, curves, sequences, settings.",
        "python -m rsis_tf.evaluation.report runs/synthetic",
    )
    arguments.add_argument("run", metavar="RUN", type=pathlib.Path, help="a run's folder")
    arguments.add_argument("--out", metavar="FILE", type=pathlib.Path, help="(default: report.html in the run)")
    options = arguments.parse_args(argv)
    with command_line():
        if options.out is not None and not options.out.absolute().parent.is_dir():
            raise InputError(f"expected a file in a folder that is there. Received: --out {options.out}")
        print(f"written: {write_report(options.run, options.out)}")


def _measured(metrics: dict[str, Any]) -> str:
    counts = [f"{metrics[key]} {key}" for key in ("images", "objects", "predictions") if key in metrics]
    if "split" in metrics:
        counts.append(f"split {metrics['split']}")
    if "stop" in metrics:
        counts.append(f"stop rule “{metrics['stop']}”")
    if metrics.get("seconds_per_image"):
        counts.append(f"{1000 * metrics['seconds_per_image']:.1f} ms per image")
    return f"<p>{html.escape(', '.join(counts))}. Intervals are 95 % over pictures.</p>"


def _cards(metrics: dict[str, Any]) -> str:
    cards = []
    for key, title, text in _CARDS:
        value, (low, high) = metrics.get(key), metrics.get("intervals", {}).get(key) or (None, None)
        shown = "–" if value is None else f"{value:.3f}"
        ends = "" if low is None or high is None else f"<small>{low:.3f} … {high:.3f}</small>"
        bar = _bar(value, low, high) if key != "abs_dic" else ""
        cards.append(f'<div class="card">{title}<b>{shown}</b>{bar}{ends}<small>{text}</small></div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _bar(value: float | None, low: float | None, high: float | None) -> str:
    """A scale from 0 to 1 with the interval and the value on it."""
    if value is None or low is None or high is None:
        return ""
    span = f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
    return f'<div class="scale">{span}<u style="left:{100 * value:.1f}%"></u></div>'


def _others(metrics: dict[str, Any]) -> str:
    """The scores that have no card, folded up."""
    intervals = metrics.get("intervals", {})
    values = {**metrics, **metrics.get("at", {}), **metrics.get("recall", {})}
    shown = {key for key, *_ in _CARDS}
    rows = []
    for key, pair in intervals.items():
        if key not in shown:
            low, high = pair or (None, None)
            name = _NAMES.get(key, key.upper())
            cells = (html.escape(name), _cell(values.get(key)), f"{_cell(low)} … {_cell(high)}")
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    head = "<tr><th>score</th><th>value</th><th>95 % interval</th></tr>"
    table = f'<div class="flow"><table>{head}{"".join(rows)}</table></div>'
    return f"<details><summary>All scores</summary>{table}</details>"


def _classes(metrics: dict[str, Any]) -> str:
    classes = metrics.get("per_class") or {}
    if not classes:
        return ""
    columns = ("objects", "ap50", "ap75", "ap")
    # The numbers of the dataset's own files, where they have numbers.
    numbers = metrics.get("category_ids") or {}
    head = "".join(f"<th>{name}</th>" for name in ("class", "objects", "AP50", "AP75", "AP"))
    rows = [
        f"<tr><td>{html.escape(name)}{f' ({numbers[name]})' if name in numbers else ''}</td>"
        + "".join(f"<td>{_cell(values.get(key))}</td>" for key in columns)
        + "</tr>"
        for name, values in classes.items()
    ]
    return f'<h2>By class</h2><div class="flow"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _curves(run: pathlib.Path) -> str:
    if (run / "log.csv").is_file():
        from rsis_tf.visualization import curves

        with tempfile.TemporaryDirectory() as folder:
            curves(run / "log.csv", pathlib.Path(folder) / "curves.png")
            return _picture(pathlib.Path(folder) / "curves.png", "training curves")
    if (run / "curves.png").is_file():
        return _picture(run / "curves.png", "training curves")
    return "<p>The run has no log.csv.</p>"


def _picture(path: pathlib.Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<div class="wide"><img alt="{html.escape(text)}" src="data:image/png;base64,{data}"></div>'


def _cell(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


if __name__ == "__main__":
    main()
