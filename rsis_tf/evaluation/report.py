"""Writes a run as one HTML file that opens offline: scores, curves, predicted sequences and settings.

The file contains its images, so it can be moved or sent without the run.
"""

import base64
import html
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rsis_tf import files
from rsis_tf.config import RunConfig
from rsis_tf.config.json_file import load, read_json, to_json
from rsis_tf.errors import InputError, reason_of
from rsis_tf.evaluation.metrics.table import SCORES, Score, score
from rsis_tf.evaluation.protocols import PLAIN, differences

if TYPE_CHECKING:
    from rsis_tf.evaluation.details import Details

_IMAGES = (
    (
        "Predicted sequences",
        "sequences.png",
        "Each row shows the image, the object found at each step, all objects, and the truth.",
    ),
    ("Order of the objects", "order/tau.png", "Kendall's τ of the predicted order with three geometric orders."),
    (
        "Order by classes",
        "order/pairs.png",
        "Position and size of an object relative to the one found just before it, by pair of classes.",
    ),
    ("Order and encoder activations", "order/activation.png", "Kendall's τ with the mean activation of each block."),
    ("Most and least active objects", "order/active.png", "Activations of the deepest block of the encoder."),
)
"""Title, file in the run's folder, explanation."""
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


def report(run: str | pathlib.Path, details: "Details | None" = None) -> str:
    """Returns the HTML of a run. It says which parts the run does not have yet.

    Args:
        run: folder with `config.json` and any of `metrics.json`, `log.csv` or `curves.png`, `sequences.png`, `order/`.
        details: predictions on the validation images, for curves, confusions, calibration and the worst images; None to
            leave these out.

    Raises:
        InputError: if it is not a run's folder or a file in it is broken.
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
        parts.append(f"<p>Not scored yet. Score it with <code>rsis evaluate {html.escape(str(run))}</code></p>")
    else:
        try:
            parts += [_measured(metrics), _cards(metrics), _others(metrics), _classes(metrics)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"expected a run's scores. Received: {run / 'metrics.json'} ({reason_of(error)})"
            ) from None
    style = _STYLE
    if details is not None:
        from rsis_tf.evaluation.report_details import STYLE, details_html

        parts.append(details_html(details))
        style += STYLE
    parts += ["<h2>Training curves</h2>", _curves(run)]
    for title, file, text in _IMAGES:
        if (run / file).is_file():
            parts += [f"<h2>{title}</h2>", f"<p>{text}</p>", _image(run / file, title)]
        elif file == "sequences.png":
            parts += [f"<h2>{title}</h2>", "<p>The run has no sequences.png.</p>"]
    parts += ["<h2>Settings</h2>", f"<pre>{html.escape(to_json(config))}</pre>"]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    head = f"<head>{head}<style>{style}</style></head>"
    return f'<!doctype html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


def write_report(
    run: str | pathlib.Path, path: str | pathlib.Path | None = None, *, details: "Details | None" = None
) -> pathlib.Path:
    """Writes the HTML of a run.

    Args:
        run: the run's folder.
        path: path of the HTML file; default `report.html` in the run.
        details: as for `report`.

    Returns:
        The path written.
    """
    path = pathlib.Path(run) / "report.html" if path is None else pathlib.Path(path)
    files.write_text(path, report(run, details))
    return path


def _measured(metrics: dict[str, Any]) -> str:
    """Returns how the scores were measured, and what differs from the protocol plain on whole images."""
    counts = [f"{metrics[key]} {key}" for key in ("images", "objects", "predictions") if key in metrics]
    if "split" in metrics:
        counts.append(f"split {metrics['split']}")
    if "stop" in metrics:
        counts.append(f"stop rule “{metrics['stop']}”")
    if metrics.get("seconds_per_image"):
        counts.append(f"{1000 * metrics['seconds_per_image']:.1f} ms per image")
    counts += differences(metrics, PLAIN)
    return f"<p>{html.escape(', '.join(counts))}. Intervals are 95 % bootstrap intervals over images.</p>"


def _cards(metrics: dict[str, Any]) -> str:
    cards = []
    for row in (row for row in SCORES.values() if row.has_card):
        value, (low, high) = metrics.get(row.name), metrics.get("intervals", {}).get(row.name) or (None, None)
        ends = "" if low is None or high is None else f"<small>{_ends(row, low, high)}</small>"
        bar = _bar(value, low, high) if row.is_fraction else ""
        title, text = html.escape(row.title), html.escape(row.description)
        cards.append(f'<div class="card">{title}<b>{row.text(value)}</b>{bar}{ends}<small>{text}</small></div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _ends(row: Score, low: float | None, high: float | None) -> str:
    return f"{row.text(low)} … {row.text(high)}"


def _bar(value: float | None, low: float | None, high: float | None) -> str:
    """Returns a scale from 0 to 1 with the interval and the value."""
    if value is None or low is None or high is None:
        return ""
    span = f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
    return f'<div class="scale">{span}<u style="left:{100 * value:.1f}%"></u></div>'


def _others(metrics: dict[str, Any]) -> str:
    """Returns the scores without a card as a table that is folded at first."""
    intervals = metrics.get("intervals", {})
    values = {**metrics, **metrics.get("at", {}), **metrics.get("recall", {})}
    rows = []
    for key, pair in intervals.items():
        row = score(key)
        if not row.has_card:
            cells = html.escape(row.title), row.text(values.get(key)), _ends(row, *(pair or (None, None)))
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
    columns = [score(name) for name in ("ap50", "ap75", "ap")]
    # The numbers that the dataset's own files give the classes, if they do.
    numbers = metrics.get("category_ids") or {}
    head = "".join(f"<th>{name}</th>" for name in ("class", "objects", *(row.title for row in columns)))
    rows = [
        f"<tr><td>{html.escape(name)}{f' ({html.escape(str(numbers[name]))})' if name in numbers else ''}</td>"
        + f"<td>{html.escape(str(values.get('objects', '–')))}</td>"
        + "".join(f"<td>{row.text(values.get(row.name))}</td>" for row in columns)
        + "</tr>"
        for name, values in classes.items()
    ]
    return f'<h2>By class</h2><div class="flow"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _curves(run: pathlib.Path) -> str:
    if (run / "log.csv").is_file():
        from rsis_tf.visualization import curves

        with tempfile.TemporaryDirectory() as folder:
            curves(run / "log.csv", pathlib.Path(folder) / "curves.png")
            return _image(pathlib.Path(folder) / "curves.png", "training curves")
    if (run / "curves.png").is_file():
        return _image(run / "curves.png", "training curves")
    return "<p>The run has no log.csv.</p>"


def _image(path: pathlib.Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<div class="wide"><img alt="{html.escape(text)}" src="data:image/png;base64,{data}"></div>'


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
