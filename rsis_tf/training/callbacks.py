"""What surrounds the steps of a training: progress on the screen, the log, and a check that the loss is finite."""

import csv
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import keras

from rsis_tf.errors import InputError, TrainingDiverged, reason_of
from rsis_tf.files import replacing
from rsis_tf.visualization import curves


class StopOnNaN(keras.callbacks.Callback):
    """Ends the training at the first step whose loss is not finite.

    Args:
        run: the run's folder, for the message.
        steps_per_epoch: steps of one epoch, to count them from the start.
    """

    def __init__(self, *, run: pathlib.Path, steps_per_epoch: int) -> None:
        super().__init__()
        self.run = run
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # The logged loss is a mean over the epoch so far, so it stays non-finite after the first such step.
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            step = self.epoch * self.steps_per_epoch + batch + 1
            raise TrainingDiverged(
                f"the loss must stay finite; the last good state is in {self.run} (state). "
                f"Received: loss={loss} at step {step} (epoch {self.epoch + 1}, batch {batch + 1})"
            )


class Progress(keras.callbacks.Callback):
    """One line per epoch; on a terminal also a line with the current rate and the time left.

    Args:
        epochs: of the whole training.
        steps_per_epoch: of one epoch.
        stream: where to print.
    """

    def __init__(self, *, epochs: int, steps_per_epoch: int, stream: TextIO | None = None) -> None:
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.stream = stream or sys.stdout
        self.started: float | None = None
        self.steps_done = 0
        self.epoch = 0
        self.last_shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch
        self.epoch_started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if self.started is None:
            # The first step compiles the graph, so its time says nothing about the others.
            self.started = now
            return
        self.steps_done += 1
        if self.stream.isatty() and now - self.last_shown > 0.2:
            self.last_shown = now
            rate = self.steps_done / (now - self.started)
            loss = float((logs or {}).get("loss", math.nan))
            self.stream.write(
                f"\r\033[Kepoch {self.epoch + 1}/{self.epochs}  step {batch + 1}/{self.steps_per_epoch}  "
                f"loss {loss:.3f}  {rate:.1f} steps/s  {clock(self._seconds_left(batch, now))} left"
            )
            self.stream.flush()

    def epoch_done(self, epoch: int, logs: dict[str, Any]) -> None:
        """Prints the line of an epoch after its validation."""
        self.epoch = epoch
        if self.stream.isatty():
            self.stream.write("\r\033[K")
        now = time.monotonic()
        first = ("loss", "mask_loss", "class_loss", "stop_loss")
        of_the_head = [name for name in logs if name not in first and not name.startswith("val_")]
        terms = "  ".join(
            f"{name.removesuffix('_loss')} {float(logs[name]):.3f}"
            for name in (*first, *of_the_head, "val_loss")
            if name in logs
        ).replace("val ", "validation ")
        self.stream.write(
            f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {terms}  "
            f"{now - self.epoch_started:.0f} s  {clock(self._seconds_left(self.steps_per_epoch - 1, now))} left\n"
        )
        self.stream.flush()

    def _seconds_left(self, batch: int, now: float) -> float:
        left = (self.epochs - self.epoch) * self.steps_per_epoch - batch - 1
        if left <= 0:
            return 0.0
        if not self.steps_done or self.started is None:
            return math.nan
        return left * (now - self.started) / self.steps_done


def clock(seconds: float) -> str:
    """Returns a duration as h:mm:ss or m:ss, or "?" if it is unknown."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class CurvesImage:
    """Draws `curves.png` from `log.csv` in a run's folder, seldom enough to take a small share of the time.

    Args:
        run: the run's folder.
        share: largest share of the time that is spent on drawing. An epoch that is much shorter than a drawing is
            drawn together with the next ones; the end of a run draws all.
        now: returns a time in seconds.
    """

    def __init__(self, run: pathlib.Path, *, share: float = 0.02, now: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._share = share
        self._now = now
        self._next = -math.inf

    def update(self) -> None:
        """Draws the curves if the last drawing is long enough ago."""
        begun = self._now()
        if begun >= self._next:
            curves(self._run / "log.csv", self._run / "curves.png")
            ended = self._now()
            self._next = ended + (ended - begun) / self._share


class CsvLog:
    """A CSV file with one row per epoch. Every new row replaces the whole file.

    Args:
        path: of the file.
        epochs_done: number of finished epochs, whose rows are kept if the file exists; later rows are dropped.

    Raises:
        InputError: if the file is not such a log.
    """

    def __init__(self, path: pathlib.Path, *, epochs_done: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if epochs_done and path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs_done]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise InputError(f"expected the log of a run. Received: {path} ({reason_of(error)})") from None

    def append(self, epoch: int, logs: dict[str, Any], seconds: float) -> None:
        """Adds the row of an epoch (counted from 0)."""
        row = {"epoch": epoch + 1, **{name: f"{float(value):.7g}" for name, value in logs.items()}}
        self.rows.append({**row, "seconds": f"{seconds:.2f}"})
        with replacing(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
