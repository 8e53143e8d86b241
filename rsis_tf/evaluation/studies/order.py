"""In which order the network finds objects (paper, section 4.7): tables 6 and 7, figures 7 and 8.

No order is taught: matching lets the network choose one. Here its choice is compared with orders that have a name.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rsis_tf.data.sample import Sample
from rsis_tf.errors import command_line
from rsis_tf.evaluation.metrics.bootstrap import Interval, mean_interval
from rsis_tf.evaluation.runner import plain, show, write_json
from rsis_tf.progress import ProgressLine

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

ORDERS = ("right_to_left", "bottom_to_top", "large_to_small")
DIRECTIONS = ("left", "right", "up", "down", "smaller", "larger")
"""Where an object may lie, or how it may compare, as seen from the one found just before it."""
MARGIN = 0.15
"""A direction counts from this share of the picture's side, or of the larger object's area."""
LEAST_PAIRS = 20

Activations = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""(H, W, 3) uint8 → name of each encoder block → (h, w, C) activations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderScores:
    """What the order of the predictions has in common with other orders.

    Attributes:
        tau: Kendall's τ with "right_to_left", "bottom_to_top", "large_to_small": 1 the same order, −1 its reverse;
            mean over pictures with at least two objects; NaN without any.
        intervals: 95 % bootstrap interval over pictures of each of `tau`.
        sequences: pictures with at least two objects.
        pairs: one entry per pair of classes found one directly after the other often enough: "first", "second",
            "count", and the share in which the second lies "left", "right", "up", "down", or is "smaller", "larger".
        activation: name of an encoder (as trained, before training) → block → τ with the objects' mean activation,
            most active first.
        activation_intervals: the same, 95 % intervals.
        most_active_first: encoder → share of sequences that begin with the object most active in the deepest block.
        active: encoder → per picture "image", "most" and "least": steps of the objects most and least active there.
    """

    tau: dict[str, float]
    intervals: dict[str, Interval]
    sequences: int
    pairs: list[dict[str, Any]]
    activation: dict[str, dict[str, float]]
    activation_intervals: dict[str, dict[str, Interval]]
    most_active_first: dict[str, float]
    active: dict[str, list[dict[str, Any]]]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return plain(dataclasses.asdict(self))


class OrderStudy:
    """Takes pictures with their predictions one by one (a sink of `runner.show`), then gives the numbers.

    Args:
        encoders: name → function that gives the activations of an encoder's blocks, shallowest first.
        least_pairs: pairs of classes seen less often are left out.
    """

    def __init__(self, encoders: Mapping[str, Activations] | None = None, *, least_pairs: int = LEAST_PAIRS) -> None:
        self._encoders = dict(encoders or {})
        self._least_pairs = least_pairs
        self._taus: dict[str, list[float]] = {name: [] for name in ORDERS}
        self._pairs: dict[tuple[str, str], list[dict[str, bool]]] = {}
        self._active_taus: dict[str, dict[str, list[float]]] = {name: {} for name in self._encoders}
        self._active: dict[str, list[dict[str, Any]]] = {name: [] for name in self._encoders}

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if len(instances) < 2:
            return
        places = [_place(instance.mask) for instance in instances]
        for name, tau in sequence_taus(places).items():
            self._taus[name].append(tau)
        for (first, here), (second, there) in zip(
            zip(instances, places, strict=True), list(zip(instances, places, strict=True))[1:], strict=False
        ):
            classes = first.class_name, second.class_name
            self._pairs.setdefault(classes, []).append(directions(here, there, instances[0].mask.shape))
        for name, activations in self._encoders.items():
            self._add_activations(name, sample, instances, activations(sample.image))

    def summarize(self) -> OrderScores:
        """Returns the numbers over all pictures taken."""
        pairs = [
            {"first": first, "second": second, "count": len(seen)}
            | {name: sum(entry[name] for entry in seen) / len(seen) for name in DIRECTIONS}
            for (first, second), seen in sorted(self._pairs.items())
            if len(seen) >= self._least_pairs
        ]
        return OrderScores(
            tau={name: _mean(values) for name, values in self._taus.items()},
            intervals={name: mean_interval(values) if values else _UNKNOWN for name, values in self._taus.items()},
            sequences=len(self._taus["right_to_left"]),
            pairs=pairs,
            activation=_each(self._active_taus, _mean),
            activation_intervals=_each(self._active_taus, lambda values: mean_interval(values) if values else _UNKNOWN),
            most_active_first={
                name: _mean([float(entry["most"] == entry["first"]) for entry in entries])
                for name, entries in self._active.items()
            },
            active=self._active,
        )

    def _add_activations(
        self, name: str, sample: Sample, instances: "Sequence[Instance]", blocks: Mapping[str, np.ndarray]
    ) -> None:
        values: list[float] = []
        for block, maps in blocks.items():
            values = [mean_activation(maps, instance.mask) for instance in instances]
            self._active_taus[name].setdefault(block, []).append(kendall([-value for value in values]))
        self._active[name].append(
            {
                "image": sample.image_id,
                "first": instances[0].step,
                "most": instances[int(np.argmax(values))].step,  # of the last block, the deepest
                "least": instances[int(np.argmin(values))].step,
            }
        )


def kendall(keys: Sequence[float]) -> float:
    """Kendall's τ (τ-b) between the order in which keys come and their rising order; NaN if all keys are equal."""
    from scipy.stats import kendalltau  # here, so that the command can say what to install

    if len(set(keys)) < 2:
        return float("nan")
    return float(kendalltau(np.arange(len(keys)), keys).statistic)


def sequence_taus(places: Sequence[tuple[float, float, int]]) -> dict[str, float]:
    """Returns τ of one sequence with each of `ORDERS`.

    Args:
        places: of each object in predicted order its centre of mass (x, y) and its area, in pixels.
    """
    return {
        "right_to_left": kendall([-x for x, _, _ in places]),
        "bottom_to_top": kendall([-y for _, y, _ in places]),
        "large_to_small": kendall([-area for _, _, area in places]),
    }


def directions(
    here: tuple[float, float, int], there: tuple[float, float, int], shape: tuple[int, int]
) -> dict[str, bool]:
    """Tells which of `DIRECTIONS` hold of the object at `there`, found after the one at `here`, beyond `MARGIN`.

    Args:
        here, there: (x, y) of the centre of mass and area, in pixels.
        shape: (H, W) of the picture.
    """
    across, down = (there[0] - here[0]) / shape[1], (there[1] - here[1]) / shape[0]
    growth = (there[2] - here[2]) / max(here[2], there[2])
    signed = {"left": -across, "right": across, "up": -down, "down": down, "smaller": -growth, "larger": growth}
    return {name: value > MARGIN for name, value in signed.items()}


def mean_activation(maps: np.ndarray, mask: np.ndarray) -> float:
    """Mean over channels and over an object, each cell of the map weighted by how much of it the object covers.

    Args:
        maps: (h, w, C) activations.
        mask: (H, W) bool, with at least one pixel.
    """
    height, width = maps.shape[:2]
    cover = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    weights = np.asarray(cover, np.float64)  # (h, w)
    return float((maps.mean(axis=2) * weights).sum() / weights.sum())


def table(scores: OrderScores) -> str:
    """Returns the numbers as text."""
    lines = [
        f"{scores.sequences} sequences of two or more objects",
        "",
        f"{'Kendall τ':<18}{'mean':>8}   95 % interval",
    ]
    for name in ORDERS:
        low, high = scores.intervals[name]
        lines.append(f"{name.replace('_', ' '):<18}{_number(scores.tau[name]):>8}   {_number(low)} … {_number(high)}")
    for encoder, blocks in scores.activation.items():
        lines += ["", f"τ with mean activation, encoder {encoder}"]
        lines += [f"{block:<18}{_number(tau):>8}" for block, tau in blocks.items()]
        share = scores.most_active_first[encoder]
        lines.append(f"sequences that begin with the most active object: {_number(share)}")
    if scores.pairs:
        width = max(len(f"{pair['first']} → {pair['second']}") for pair in scores.pairs) + 2
        lines += ["", " " * width + f"{'count':>7}" + "".join(f"{name:>9}" for name in DIRECTIONS)]
        for pair in scores.pairs:
            shares = "".join(f"{100 * pair[name]:>8.0f}%" for name in DIRECTIONS)
            lines.append(f"{pair['first'] + ' → ' + pair['second']:<{width}}{pair['count']:>7}{shares}")
    return "\n".join(lines)


def encoder_of(model: Any) -> Activations:
    """Returns the function that gives a Keras model's encoder activations, "block 1" (finest) … "block 5"."""
    from rsis_tf.runtime import letterbox, resize_image

    size, aspect = model.config.image_size, model.config.aspect

    def activations(image: np.ndarray) -> dict[str, np.ndarray]:
        levels = model.encode(resize_image(image, size, aspect)[None], training=False)  # deepest first
        maps = [np.asarray(level, np.float32)[0] for level in levels[::-1]]
        if aspect == "keep":
            maps = [_without_padding(values, letterbox(image.shape[:2], size), size) for values in maps]
        return {f"block {number}": values for number, values in enumerate(maps, start=1)}

    return activations


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `python -m rsis_tf.evaluation.studies.order`."""
    from rsis_tf.cli import evaluation_options as command
    from rsis_tf.evaluation.studies.order_plots import ActivePictures, draw

    arguments = command.parser(
        "Studies the order in which a model finds objects (paper, section 4.7).",
        "python -m rsis_tf.evaluation.studies.order runs/nuclei --out runs/nuclei/order",
    )
    command.add_model_and_data(arguments)
    arguments.add_argument("--before", metavar="MODEL", help="a .keras file or run: its encoder for comparison")
    arguments.add_argument("--out", metavar="FOLDER", required=True, help="for order.json and the plots")
    options = arguments.parse_args(argv)
    with command_line():
        dataset, predictor = command.open_both(options)
        encoders = {}
        if hasattr(predictor, "model"):
            encoders["as trained"] = encoder_of(predictor.model)
        if options.before:
            from rsis_tf.inference import load_model

            encoders["before"] = encoder_of(load_model(options.before))
        out = command.output_folder(options.out)
        study, pictures = OrderStudy(encoders), ActivePictures(next(iter(encoders.values()), None))
        show(predictor, dataset, [study, pictures], progress=ProgressLine())
        scores = study.summarize()
        write_json(out / "order.json", scores.to_dict())
        written = [pathlib.Path(out / "order.json"), *draw(out, scores), *pictures.write(out / "active.png")]
        print(table(scores))
        if not encoders:
            print("\nencoder activations are in .keras models only: left out")
        print(f"\nwritten: {', '.join(map(str, written))}")


_UNKNOWN = (float("nan"), float("nan"))


def _without_padding(maps: np.ndarray, place: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Cuts the image's part, `place` in a frame of `size`, out of (h, w, C) maps of the frame, to whole cells."""
    slices = []
    for start, length, whole, cells in zip(place[:2], place[2:], size, maps.shape[:2], strict=True):
        slices.append(slice(start * cells // whole, -(-(start + length) * cells // whole)))
    return maps[tuple(slices)]


def _place(mask: np.ndarray) -> tuple[float, float, int]:
    """(x, y) of the centre of mass, and the area."""
    columns, rows = mask.sum(axis=0), mask.sum(axis=1)
    area = int(columns.sum())
    return float(columns @ np.arange(len(columns)) / area), float(rows @ np.arange(len(rows)) / area), area


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _each(taus: dict[str, dict[str, list[float]]], function: Callable[[list[float]], Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {block: function(values) for block, values in blocks.items()} for name, blocks in taus.items() if blocks
    }


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


if __name__ == "__main__":
    main()
