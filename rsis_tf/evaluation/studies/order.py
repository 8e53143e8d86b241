"""The order in which the network finds objects (paper, section 4.7): tables 6 and 7, figures 7 and 8.

The training does not prescribe an order, since predictions are matched with objects. This study compares the order of
the predictions with simple geometric orders and with the activations of the encoder.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsis_tf.data.sample import Sample
from rsis_tf.evaluation.json_values import plain
from rsis_tf.evaluation.metrics.bootstrap import Interval, known_mean, mean_interval
from rsis_tf.evaluation.studies.activations import Activations, mean_activation

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

ORDERS = ("right_to_left", "bottom_to_top", "large_to_small")
DIRECTIONS = ("left", "right", "up", "down", "smaller", "larger")
"""Position and size of an object relative to the object found just before it."""
MARGIN = 0.15
"""A direction holds from this share of the image's side, or of the larger object's area."""
MIN_PAIRS = 20
"""Pairs of classes that occur less often are left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderScores:
    """Correlation of the order of the predictions with other orders.

    Attributes:
        tau: Kendall's τ with each of `ORDERS`: 1 for the same order, −1 for its reverse; mean over the images with at
            least two objects; NaN if there are none.
        intervals: 95 % bootstrap interval over images of each of `tau`.
        sequences: number of images with at least two objects.
        pairs: one entry for each pair of classes that is found in direct succession often enough: "first", "second",
            "count", and for each of `DIRECTIONS` the share of the pairs in which it holds for the second object.
        activation: name of an encoder (as trained, before training) → block → τ with the order from the most to the
            least active object, by mean activation.
        activation_intervals: the 95 % intervals of `activation`.
        most_active_first: encoder → share of the sequences that begin with the object most active in the deepest block;
            sequences whose objects are all equally active are left out.
        active: encoder → for each of these images "image" and the steps of its "first", "most" active and "least"
            active object.
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
    """Collects the order of the predictions of one image after the other; a sink.

    Args:
        encoders: name → function that returns the activations of an encoder's blocks, shallowest first.
        min_pairs: pairs of classes that occur less often are left out.
    """

    def __init__(self, encoders: Mapping[str, Activations] | None = None, *, min_pairs: int = MIN_PAIRS) -> None:
        self._encoders = dict(encoders or {})
        self._min_pairs = min_pairs
        self._taus: dict[str, list[float]] = {name: [] for name in ORDERS}
        self._pairs: dict[tuple[str, str], list[dict[str, bool]]] = {}
        self._active_taus: dict[str, dict[str, list[float]]] = {name: {} for name in self._encoders}
        self._active: dict[str, list[dict[str, Any]]] = {name: [] for name in self._encoders}

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if len(instances) < 2:
            return
        positions = [_position(instance.mask) for instance in instances]
        for name, tau in sequence_taus(positions).items():
            self._taus[name].append(tau)
        height, width = instances[0].mask.shape
        for (first, before), (second, after) in itertools.pairwise(zip(instances, positions, strict=True)):
            classes = first.class_name, second.class_name
            self._pairs.setdefault(classes, []).append(directions(before, after, (height, width)))
        for name, activations in self._encoders.items():
            self._add_activations(name, sample, instances, activations(sample.image))

    def summarize(self) -> OrderScores:
        """Returns the numbers over all images."""
        pairs = [
            {"first": first, "second": second, "count": len(seen)}
            | {name: sum(entry[name] for entry in seen) / len(seen) for name in DIRECTIONS}
            for (first, second), seen in sorted(self._pairs.items())
            if len(seen) >= self._min_pairs
        ]
        return OrderScores(
            tau={name: known_mean(values) for name, values in self._taus.items()},
            intervals={name: mean_interval(values) if values else _UNKNOWN for name, values in self._taus.items()},
            sequences=len(self._taus["right_to_left"]),
            pairs=pairs,
            activation=_each(self._active_taus, known_mean),
            activation_intervals=_each(self._active_taus, lambda values: mean_interval(values) if values else _UNKNOWN),
            most_active_first={
                name: known_mean([float(entry["most"] == entry["first"]) for entry in entries])
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
        if len(set(values)) < 2:  # no object is the most active one, as where the deepest block has a single cell
            return
        self._active[name].append(
            {
                "image": sample.image_id,
                "first": instances[0].step,
                "most": instances[int(np.argmax(values))].step,  # of the last block, the deepest
                "least": instances[int(np.argmin(values))].step,
            }
        )


def kendall(keys: Sequence[float]) -> float:
    """Returns Kendall's τ (τ-b) of the order of the keys with their increasing order; NaN if all keys are equal.

    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945); computed by SciPy.
    """
    from scipy.stats import kendalltau  # an extra that a base install does not have

    if len(set(keys)) < 2:
        return float("nan")
    return float(kendalltau(np.arange(len(keys)), keys).statistic)


def sequence_taus(positions: Sequence[tuple[float, float, int]]) -> dict[str, float]:
    """Returns τ of one sequence with each of `ORDERS`.

    Args:
        positions: centre of mass (x, y) and area of each object in predicted order, in pixels.
    """
    return {
        "right_to_left": kendall([-x for x, _, _ in positions]),
        "bottom_to_top": kendall([-y for _, y, _ in positions]),
        "large_to_small": kendall([-area for _, _, area in positions]),
    }


def directions(
    before: tuple[float, float, int], after: tuple[float, float, int], shape: tuple[int, int]
) -> dict[str, bool]:
    """Returns which of `DIRECTIONS` hold, by more than `MARGIN`, for the second of two objects relative to the first.

    Args:
        before, after: centre of mass (x, y) and area of the two objects, in pixels.
        shape: (H, W) of the image.
    """
    across, down = (after[0] - before[0]) / shape[1], (after[1] - before[1]) / shape[0]
    growth = (after[2] - before[2]) / max(before[2], after[2])
    signed = {"left": -across, "right": across, "up": -down, "down": down, "smaller": -growth, "larger": growth}
    return {name: value > MARGIN for name, value in signed.items()}


def table(scores: OrderScores) -> str:
    """Returns the numbers as text for the screen."""
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


_UNKNOWN = (float("nan"), float("nan"))


def _position(mask: np.ndarray) -> tuple[float, float, int]:
    """Returns the centre of mass (x, y) and the area of a (H, W) mask, in pixels."""
    columns, rows = mask.sum(axis=0), mask.sum(axis=1)
    area = int(columns.sum())
    return float(columns @ np.arange(len(columns)) / area), float(rows @ np.arange(len(rows)) / area), area


def _each(taus: dict[str, dict[str, list[float]]], function: Callable[[list[float]], Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {block: function(values) for block, values in blocks.items()} for name, blocks in taus.items() if blocks
    }


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
