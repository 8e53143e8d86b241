"""The tables of a run as CSV files: counts of each image, tracks, distinct objects of each sequence."""

import csv
import io
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from rsis_tf.batch_prediction.sources import Place
from rsis_tf.files import write_bytes
from rsis_tf.runtime import Instance
from rsis_tf.tracking import centre

COLUMNS = ("sequence", "frame", "time", "track_id", "class", "score", "area", "x0", "y0", "x1", "y1", "x", "y")
"""Of `tracks.csv`."""


def write_counts(path: pathlib.Path, names: Sequence[str], rows: Sequence[tuple[str, np.ndarray, bool]]) -> None:
    """Writes `counts.csv`.

    Args:
        path: of the file.
        names: of all classes, the background first.
        rows: path, number of objects by class (at most as many as names) and whether there may be more, of each image.
    """
    padded = [(file, np.pad(counts, (0, len(names) - len(counts))), full) for file, counts, full in rows]
    head = ["image", "objects", *names[1:], "full"]
    _write(path, [head, *([file, counts.sum(), *counts[1:], int(full)] for file, counts, full in padded)])


def write_distinct(path: pathlib.Path, names: Sequence[str], rows: Iterable[tuple[str, dict[int, int]]]) -> None:
    """Writes `distinct.csv`.

    Args:
        path: of the file.
        names: of all classes, the background first.
        rows: path of each sequence, and number of its distinct objects by class.
    """
    numbers = range(1, len(names))
    lines = [[title, sum(counts.values()), *(counts.get(k, 0) for k in numbers)] for title, counts in rows]
    _write(path, [["sequence", "objects", *names[1:]], *lines])


def _write(path: pathlib.Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    # A file name may be any bytes.
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


class TracksFile:
    """Writes `tracks.csv` row by row, so that long videos need no memory.

    Args:
        path: of the file, which is complete after `close`.
    """

    def __init__(self, path: pathlib.Path) -> None:
        # A file name may be any bytes.
        self._file = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, place: Place, instances: Sequence[Instance], ids: Sequence[int]) -> None:
        """Adds a row for each object of a frame, sorted by identity."""
        time = "" if place.seconds is None else f"{place.seconds:.3f}"
        for identity, one in sorted(zip(ids, instances, strict=True), key=lambda pair: pair[0]):
            x, y = centre(one.cropped)
            row = (identity, one.class_name, f"{one.score:.4f}", one.area, *one.box, f"{x:.2f}", f"{y:.2f}")
            self._writer.writerow([place.title, place.frame, time, *row])

    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()
