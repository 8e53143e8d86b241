"""The training run: epochs over batches that are handed in, with checkpoints, log and progress."""

import contextlib
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras

from rsis_tf.config import TrainConfig
from rsis_tf.models import RSIS
from rsis_tf.training.callbacks import CsvLog, Progress, StopOnNaN
from rsis_tf.training.checkpoint import save_model
from rsis_tf.training.compilation import compile_model

Batches = Iterable[tuple[Any, dict[str, Any]]]


class Trainer:
    """Trains a model and keeps the run's folder.

    The folder receives `last.keras` after every epoch, `best.keras` whenever the validation loss is the lowest so
    far, and `log.csv` with one row an epoch.

    Args:
        model: from `build_model`.
        config: losses, optimiser, epochs.
        run: the run's folder; it must exist.
        train_batches: epoch number → batches of (images, targets).
        val_batches: → batches for validation.
        steps_per_epoch: batches that `train_batches` gives.
        reading: a context in which batches are drawn, to turn errors of the input pipeline into readable ones.
    """

    def __init__(
        self,
        *,
        model: RSIS,
        config: TrainConfig,
        run: pathlib.Path,
        train_batches: Callable[[int], Batches],
        val_batches: Callable[[], Batches],
        steps_per_epoch: int,
        reading: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ) -> None:
        self.model = model
        self.config = config
        self.run = run
        self.train_batches = train_batches
        self.val_batches = val_batches
        self.steps_per_epoch = steps_per_epoch
        self.reading = reading
        self.best_loss = float("inf")

    def fit(self) -> float:
        """Trains for the configured number of epochs.

        Returns:
            The lowest validation loss, that of `best.keras`.

        Raises:
            TrainingDiverged: when the loss is not finite any more.
        """
        compile_model(self.model, self.config, total_steps=self.config.epochs * self.steps_per_epoch)
        callbacks: list[keras.callbacks.Callback] = [
            StopOnNaN(run=self.run, steps_per_epoch=self.steps_per_epoch),
            Progress(epochs=self.config.epochs, steps_per_epoch=self.steps_per_epoch),
            CsvLog(self.run / "log.csv"),
        ]
        for epoch in range(self.config.epochs):
            with self.reading():
                history = self.model.fit(
                    self.train_batches(epoch),
                    validation_data=self.val_batches(),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=0,
                )
            self._keep(history.history["val_loss"][-1])
        return self.best_loss

    def _keep(self, val_loss: float) -> None:
        save_model(self.model, self.run / "last.keras")
        if val_loss < self.best_loss:
            self.best_loss = val_loss
            save_model(self.model, self.run / "best.keras")
