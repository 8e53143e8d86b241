"""What follows a training: objects that are called when a run begins, after every epoch, and when it ends."""

import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from rsis_tf.config import RunConfig
from rsis_tf.errors import InputError
from rsis_tf.models import RSIS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a callback is told when a run begins.

    Attributes:
        folder: of the run; a callback may write its own files there.
        settings: of the run.
        model: the network in training.
        resumed: whether the run continues an earlier one.
        images: → name → (H, W, 3) uint8 of the first validation images as the network segments them now. Each call
            predicts them.
    """

    folder: pathlib.Path
    settings: RunConfig
    model: RSIS
    resumed: bool
    images: Callable[[], dict[str, np.ndarray]]


class Callback(Protocol):
    """The methods of a callback. A class that inherits from this one writes only those that it needs.

    ```python
    class Beep(Callback):
        def on_run_end(self, scores):
            print("\\a", scores and scores["ap50"])
    ```

    An exception in a callback ends the training; the state of the epoch before remains and can be resumed. With several
    workers, only the chief calls its callbacks.
    """

    def on_run_begin(self, run: RunInfo) -> None:
        """Called once, after the model was built and before the first epoch."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Called after the validation of an epoch, while the model holds the weights that were validated.

        Args:
            epoch: counted from 0, also over the epochs of a run that is resumed.
            logs: the losses of `log.csv`; names of validation losses begin with "val_".
        """

    def on_run_end(self, scores: Mapping[str, float] | None) -> None:
        """Called once at the end, also after an error.

        Args:
            scores: of the best model on the validation images, such as "ap50", those of `rsis_tf.evaluation.scoring`;
                None if the run failed or was interrupted.
        """


METHODS = ("on_run_begin", "on_epoch_end", "on_run_end")


class Callbacks:
    """Several callbacks as one. As a context, it ends those that have begun if the block fails."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._waiting = list(callbacks)
        self._running: list[Callback] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        while self._running:
            callback = self._running.pop(0)
            try:
                callback.on_run_end(None)
            except Exception as failure:  # the error that ended the run must not be replaced by another one
                name, reason = type(callback).__qualname__, " ".join(str(failure).split())
                print(f"{name}.on_run_end failed: {type(failure).__name__}: {reason}", file=sys.stderr, flush=True)

    def on_run_begin(self, run: RunInfo) -> None:
        while self._waiting:
            callback = self._waiting.pop(0)
            callback.on_run_begin(run)
            self._running.append(callback)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        for callback in self._running:
            callback.on_epoch_end(epoch, dict(logs))

    def on_run_end(self, scores: Mapping[str, float] | None) -> None:
        while self._running:
            self._running.pop(0).on_run_end(scores if scores is None else dict(scores))


def package(name: str) -> Any:
    """Imports the package of a logger.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise InputError(f"--logger {name} needs its package: pip install {name}. Received: none installed") from None


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the values that are finite numbers: a score without anything to measure is NaN."""
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
