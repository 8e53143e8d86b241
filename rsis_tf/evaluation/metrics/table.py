"""The table of scores that `rsis evaluate` and the report show.

To add a score of single images, write a function of two label maps and add a row with it: `scoring.evaluate` averages
it over the images, adds a bootstrap interval, and writes it to `metrics.json`, the table on the screen and the report.

Scores that are no mean over images need the predictions of all images at once. Average precision and recall are the
only ones here: `average_precision.PRECISION_SCORES` lists their IoU thresholds, the rows below say how they are shown.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from rsis_tf.evaluation.metrics import leaves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One row of the table.

    Attributes:
        name: key in `metrics.json`.
        title: in tables and in the report.
        description: one line for the report.
        function: maps two (H, W) int label maps of one image, (prediction, truth), to a number, NaN where it is not
            defined. Both have 0 for the background and 1 … n for objects without gaps; void pixels are background in
            both. None for a score that `AveragePrecision` computes.
        format: format of the number on the screen and in the report.
        is_fraction: whether the score is in 0 … 1.
        has_card: whether the report shows it in large type.
    """

    name: str
    title: str
    description: str
    function: Callable[[np.ndarray, np.ndarray], float] | None = None
    format: str = ".3f"
    is_fraction: bool = True
    has_card: bool = False

    def text(self, value: float | None) -> str:
        """Returns the number as text, a dash where it is not defined."""
        return "–" if value is None or math.isnan(value) else format(value, self.format)


def _on_background(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    """Returns a score of the leaf challenge for maps that may have no background.

    The challenge takes the lowest label of a map for its background, which would be an object where objects cover the
    whole image. A row of background changes no other score.
    """
    row = ((0, 1), (0, 0))
    return lambda prediction, truth: function(np.pad(prediction, row), np.pad(truth, row))


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(name="ap50", title="AP50", description="average precision at IoU 0.5", has_card=True),
        Score(name="ap", title="AP", description="average precision, mean of IoU 0.50 to 0.95", has_card=True),
        Score(name="ap60", title="AP60", description="average precision at IoU 0.6"),
        Score(name="ap70", title="AP70", description="average precision at IoU 0.7"),
        Score(name="ap75", title="AP75", description="average precision at IoU 0.75"),
        Score(name="ap80", title="AP80", description="average precision at IoU 0.8"),
        Score(
            name="sbd",
            title="SBD",
            description="symmetric best Dice, mean over images",
            function=_on_background(leaves.symmetric_best_dice),
            has_card=True,
        ),
        Score(
            name="abs_dic",
            title="|DiC|",
            description="absolute error in the number of objects, mean over images",
            function=_on_background(leaves.absolute_count_difference),
            is_fraction=False,
            has_card=True,
        ),
        Score(
            name="dic",
            title="DiC",
            description="number of objects predicted minus number of true objects, mean over images",
            function=_on_background(leaves.count_difference),
            is_fraction=False,
        ),
        Score(
            name="foreground_dice",
            title="foreground Dice",
            description="Dice of all objects together, mean over images",
            function=_on_background(leaves.foreground_dice),
        ),
    )
}
"""Name → row. The report's cards follow this order."""


def score(name: str) -> Score:
    """Returns the row of a score; scores outside the table, such as "ar50@10", get their name as title."""
    return SCORES.get(name) or Score(name=name, title=name.upper(), description="")
