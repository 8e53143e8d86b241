"""The part of a run's report that needs predictions: curves, confusions, calibration, worst images."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rsis_tf.evaluation.details import IOU, Details, WorstImage
from rsis_tf.visualization import sequence_strip

STYLE = """
.plots { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 26rem)); }
.plots svg { width: 100%; height: auto; } .plots text { fill: var(--soft); font-size: 11px; }
td.right { background: color-mix(in srgb, var(--bar) 22%, transparent); }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _MARGIN = 330, 240, 50, 36, 10
"""Size of a plot in its own units, and the room for labels."""
_POINTS = 400


def details_html(details: Details) -> str:
    """Returns the sections of the report."""
    precision, recall = details.precision_and_recall()
    if not len(precision):
        return "<h2>Single predictions</h2><p>The model predicts no object in any validation image.</p>"
    curve = _thinned(np.stack([recall, precision], axis=1))
    bins = details.calibration()
    sizes = [max(2.5, 9 * (entry.count / max(e.count for e in bins)) ** 0.5) for entry in bins]
    dots = [(entry.objectness, entry.right) for entry in bins]
    parts = [
        "<h2>Precision, recall and calibration</h2>",
        f"<p>A prediction finds an object at an IoU of at least {IOU}. Left: all classes together, predictions in the "
        "order of their scores. Right: predictions grouped by objectness; on the dashed line, the objectness is the "
        "share of predictions that find an object. Larger dots hold more predictions. Steps below the stop threshold "
        f"are no predictions. Expected calibration error: {details.calibration_error():.3f}.</p>",
        f'<div class="plots">{_plot("recall", "precision", line=curve)}'
        f"{_plot('objectness', 'share that finds an object', line=dots, dots=sizes, diagonal=True)}</div>",
        _confusion(details) if len(details.class_names) > 2 else "",
        "<h2>Worst images</h2>",
        "<p>Validation images with the lowest symmetric best Dice (SBD), the worst first. DiC is the number of objects "
        "found minus that of the truth. Each row shows the image, the object found at each step, all objects, and the "
        "truth, in which objects that were not found are white.</p>",
        *(_worst(image) for image in details.worst),
    ]
    return "\n".join(part for part in parts if part)


def _worst(image: WorstImage) -> str:
    strip = sequence_strip(image.sample.image, image.instances, image.sample.label_map)
    file = io.BytesIO()
    Image.fromarray(strip).save(file, format="PNG")
    name = html.escape(str(image.sample.image_id))
    data = base64.b64encode(file.getvalue()).decode("ascii")
    dic = f"{image.dic:+.0f}" if image.dic else "0"
    caption = f"<p>{name}: SBD {image.sbd:.3f}, DiC {dic}</p>"
    return f'{caption}<div class="wide"><img alt="{name}" src="data:image/png;base64,{data}"></div>'


def _confusion(details: Details) -> str:
    names = [html.escape(name) for name in details.class_names[1:]]
    head = "".join(f"<th>{name}</th>" for name in ("truth", *names, "not found"))
    rows = []
    for true in (*range(1, len(names) + 1), 0):
        title = names[true - 1] if true else "no object"
        cells = []
        for predicted in (*range(1, len(names) + 1), 0):
            mark = ' class="right"' if true and true == predicted else ""
            value = details.confusion[true, predicted]
            cells.append(f"<td{mark}>{value if true or predicted else ''}</td>")
        rows.append(f"<tr><td>{title}</td>{''.join(cells)}</tr>")
    return (
        "<h2>Confusions</h2><p>Objects by their class (rows) and the class of the prediction that finds them (columns)."
        f' The last row counts predictions that find no object.</p><div class="flow"><table><tr>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _plot(
    x_title: str,
    y_title: str,
    *,
    line: Sequence[tuple[float, float]] | np.ndarray,
    dots: Sequence[float] = (),
    diagonal: bool = False,
) -> str:
    """Returns an SVG of points in 0 … 1, joined by a line, with a dot of a given radius on each."""
    places = [_place(x, y) for x, y in line]
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, low), (_, high) = _place(tick, 0), _place(tick, 1)
        (left, y), (right, _) = _place(0, tick), _place(1, tick)
        parts += [
            f'<path d="M{x:.1f} {low:.1f}V{high:.1f}M{left:.1f} {y:.1f}H{right:.1f}" stroke="var(--line)"/>',
            f'<text x="{x:.1f}" y="{low + 14:.1f}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{left - 5:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    if diagonal:
        (x0, y0), (x1, y1) = _place(0, 0), _place(1, 1)
        parts.append(f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="var(--soft)" stroke-dasharray="4 4"/>')
    drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts.append(f'<path d="M{drawn}" fill="none" stroke="var(--bar)" stroke-width="2"/>')
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="var(--bar)" fill-opacity=".6"/>'
        for (x, y), radius in zip(places, dots, strict=False)
    ]
    middle = _MARGIN + (_HEIGHT - _MARGIN - _BOTTOM) / 2
    parts += [
        f'<text x="{(_WIDTH + _LEFT) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">{x_title}</text>',
        f'<text transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle">{y_title}</text>',
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{y_title} over {x_title}">{"".join(parts)}</svg>'
    )


def _place(x: float, y: float) -> tuple[float, float]:
    """Returns the place of a point of 0 … 1 in the plot."""
    width, height = _WIDTH - _LEFT - _MARGIN, _HEIGHT - _BOTTOM - _MARGIN
    return _LEFT + width * x, _MARGIN + height * (1 - y)


def _thinned(points: np.ndarray) -> np.ndarray:
    """Returns at most `_POINTS` rows, the first and the last among them."""
    kept = np.linspace(0, len(points) - 1, min(len(points), _POINTS)).round().astype(int)
    return points[kept]
