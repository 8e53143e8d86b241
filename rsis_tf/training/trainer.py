"""The training loop: epochs over given batches, with stages, checkpoints, log and progress."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from rsis_tf.config import TrainConfig
from rsis_tf.errors import InputError, TrainingDiverged
from rsis_tf.files import remove_leftovers, write_json
from rsis_tf.models import RSIS
from rsis_tf.training.batch_statistics import passes, recompute_batch_statistics
from rsis_tf.training.callbacks import CsvLog, CurvesImage, Progress, StopOnNaN
from rsis_tf.training.checkpoint import save_model
from rsis_tf.training.compilation import apply_stage, compile_model
from rsis_tf.training.curriculum import (
    Stage,
    StageEntry,
    Switch,
    begin_epoch,
    end_epoch,
    first_stage,
    may_restore,
    smoothed,
)
from rsis_tf.training.data_record import SplitRecord
from rsis_tf.training.distribution import Distribution
from rsis_tf.training.loggers.interface import Callback
from rsis_tf.training.optimizer import averaged_weights, step_clock
from rsis_tf.training.state import RunState, StateFolder
from rsis_tf.training.time_limit import TimeLimit

Batches = Iterable[tuple[Any, dict[str, Any]]]

_STATISTICS_BATCHES = 64
"""Training batches over whose statistics those of batch normalisation are averaged before they are kept."""


class Trainer:
    """Trains a model and writes the run's folder.

    The folder receives `last.keras` after every epoch, `best.keras` whenever the validation loss is the lowest of its
    stage, `log.csv` with one row per epoch and `curves.png` of it, `stages.json` with every stage and its first epoch,
    and `state/`, from which `fit(resume=True)` continues.

    Args:
        model: from `build_model`.
        config: losses, optimiser, epochs, stages.
        run: the run's folder; it must exist.
        train_batches: epoch number → batches of (images, targets). The same number must give the same batches.
        val_batches: → batches for validation.
        whole_batches: the same as `train_batches`, but never divided over replicas; None if `train_batches` are not.
        steps_per_epoch: number of batches that `train_batches` returns.
        validation_steps: number of batches that `val_batches` returns; None if unknown.
        reading: a context in which batches are read, to turn errors of the input pipeline into readable ones.
        callbacks: their `on_epoch_end` is called after every epoch, while the model holds the weights that were
            validated.
        limit: of the time; `fit` ends after the last epoch that fits.
        distribution: in whose scope the model was built, and whose batches are read; only its chief writes.
        data: record of the datasets, which becomes part of the state; None for none.
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
        whole_batches: Callable[[int], Batches] | None = None,
        validation_steps: int | None = None,
        reading: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        callbacks: Iterable[Callback] = (),
        limit: TimeLimit | None = None,
        distribution: Distribution = Distribution(),  # noqa: B008  (frozen)
        data: Mapping[str, SplitRecord] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.run = run
        self.train_batches = train_batches
        self.whole_batches = whole_batches or train_batches
        self.val_batches = val_batches
        self.steps_per_epoch = steps_per_epoch
        self.validation_steps = validation_steps
        self.reading = reading
        self.callbacks = tuple(callbacks)
        self.limit = TimeLimit() if limit is None else limit
        self.distribution = distribution
        self.writes = distribution.chief
        self.state = StateFolder(run / "state")
        self.epochs_done = 0
        self.stage = first_stage(config)
        self.data = data
        self.stages = [StageEntry.of(self.stage, 0)]
        self.arrays = ""
        self.best_arrays: str | None = None

    def fit(self, *, resume: bool = False) -> float:
        """Trains until the configured number of epochs is done, or patience to stop or the time has run out.

        Args:
            resume: continue from the state in the run's folder, if there is one. An unfinished epoch is trained again
                from its beginning.

        Returns:
            The lowest validation loss of the last stage, that of `best.keras` (averaged, with `smooth_curves`).

        Raises:
            TrainingDiverged: when the loss or the weights are no longer finite.
            InputError: if the state does not fit.
        """
        if self.writes:
            remove_leftovers(self.run)
        with self.distribution.scope():
            compile_model(self.model, self.config, total_steps=self.config.epochs * self.steps_per_epoch)
        loaded = resume and self._load()
        # From here on the chief may replace what the others have read.
        self.distribution.barrier()
        if not loaded:
            # With the initial state on disk, a run killed in its first epoch resumes with the same weights.
            self._commit(None)
        self._write_stages()
        log = CsvLog(self.run / "log.csv", epochs_done=self.epochs_done)
        curves = CurvesImage(self.run)
        progress = Progress(epochs=self.config.epochs, steps_per_epoch=self.steps_per_epoch)
        for epoch in range(self.epochs_done, self.config.epochs):
            if self.stage.finished:
                break
            started = time.monotonic()
            self.limit.begin_epoch()
            self.stage, switches = begin_epoch(self.stage, self.config, epoch)
            self._switched(switches, epoch)
            logs = self._train_epoch(epoch, progress)
            # `best.keras` holds the weights that were validated, so it is written while the averages are in place.
            with averaged_weights(self.model):
                logs |= self._validate()
                self._require_finite(epoch, logs["val_loss"])
                if self.config.curriculum.smooth_curves:
                    logs["val_smoothed_loss"] = smoothed(self.stage, self.config, logs["val_loss"])
                self.stage, switch = end_epoch(self.stage, self.config, logs["val_loss"])
                improved = self.stage.waited == 0 and switch is None
                if improved and self.writes:
                    save_model(self.model, self.run / "best.keras")
                for callback in self.callbacks:
                    callback.on_epoch_end(epoch, logs)
            progress.epoch_done(epoch, logs)
            if self.writes:
                save_model(self.model, self.run / "last.keras")
                log.append(epoch, logs, time.monotonic() - started)
                curves.update()
            self._switched(() if switch is None else (switch,), epoch + 1)
            self.epochs_done = epoch + 1
            self._commit(improved)
            if self.epochs_done < self.config.epochs and not self.stage.finished and not self.limit.allows_another():
                self._print_time_is_over()
                break
        if self.stage.finished:
            print(
                f"stopped after epoch {self.epochs_done}: "
                f"no better validation loss in the last {self.stage.waited} epochs",
                flush=True,
            )
        return self.stage.best_loss

    def _print_time_is_over(self) -> None:
        left = self.config.epochs - self.epochs_done
        cosine = self.config.optimization.schedule == "cosine"
        schedule = " The learning rate is still on its way down (cosine schedule)." if cosine else ""
        print(
            f"stopped after epoch {self.epochs_done}: another does not fit into {self.limit.hours:g} hours.{schedule} "
            f"`rsis train --resume {self.run}` trains the other {left}",
            flush=True,
        )

    def _train_epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        # A return to the best weights also restores their optimiser's state, but the schedule continues.
        step_clock(self.model.optimizer).assign(epoch * self.steps_per_epoch)
        with self.reading():
            history = self.model.fit(
                self.train_batches(epoch),
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=self.steps_per_epoch,
                callbacks=[StopOnNaN(run=self.run, steps_per_epoch=self.steps_per_epoch), progress],
                shuffle=False,
                verbose=0,
            )
        return {name: float(values[-1]) for name, values in history.history.items()}

    def _require_finite(self, epoch: int, val_loss: float) -> None:
        """Keeps weights that are no longer finite from replacing the last good state.

        The loss of a step is that of the weights before it, so the last step of an epoch is not covered by it.

        Raises:
            TrainingDiverged: for a weight, moving average or validation loss that is not finite.
        """
        if not np.isfinite(val_loss):
            raise TrainingDiverged(
                f"the validation loss must stay finite; the last good state is in {self.run} (state). "
                f"Received: {val_loss} after epoch {epoch + 1}"
            )
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise TrainingDiverged(
                    f"the weights must stay finite; the last good state is in {self.run} (state). "
                    f"Received: another value in {weight.path} after epoch {epoch + 1}"
                )

    def _validate(self) -> dict[str, float]:
        with self.reading():
            logs = self.model.evaluate(self.val_batches(), steps=self.validation_steps, return_dict=True, verbose=0)
        return {f"val_{name}": float(value) for name, value in logs.items()}

    def _switched(self, switches: Iterable[Switch], epoch: int) -> None:
        """Applies the stage that begins with `epoch` to the model, and writes and prints what changed."""
        for switch in switches:
            if switch.restore_best and self.best_arrays is not None:
                # The random generators continue: the same weights with the same dropout would train the same way again.
                self.state.load_arrays(self.model, self.best_arrays, generators=False)
                self.distribution.barrier()
                if self.stage.frozen_batch_norm and switch.what != "batch norm":
                    # The best weights may be from before their statistics were kept.
                    self._settle_batch_statistics(epoch)
            self.stages.append(StageEntry.of(self.stage, epoch, switch))
            what = _description(switch, self.stage)
            reason = "patience ran out" if switch.reason == "patience" else "scheduled"
            back = ", back to the best weights" if switch.restore_best else ""
            print(f"from epoch {epoch + 1}: {what} ({reason}{back})", flush=True)
            if switch.what == "batch norm":
                self._settle_batch_statistics(epoch)
        if switches:
            apply_stage(self.model, self.config, self.stage)
            self._write_stages()

    def _settle_batch_statistics(self, epoch: int) -> None:
        """Replaces the moving averages, which the rest of the training will use, by means over many batches."""
        with self.reading():
            recompute_batch_statistics(self.model, passes(self.whole_batches, first=epoch), limit=_STATISTICS_BATCHES)

    def _write_stages(self) -> None:
        if self.writes:
            write_json(self.run / "stages.json", [entry.to_dict() for entry in self.stages])

    def _commit(self, improved: bool | None) -> None:
        self.arrays = f"epoch-{self.epochs_done}.npz"
        if improved:
            self.best_arrays = self.arrays
        if not may_restore(self.stage, self.config):
            self.best_arrays = None
        if not self.writes:
            return
        self.state.write_arrays(self.model, self.arrays)
        self.state.commit(
            RunState(
                epochs_done=self.epochs_done,
                stage=self.stage,
                stages=tuple(self.stages),
                arrays=self.arrays,
                best_arrays=self.best_arrays,
                data=self.data,
            )
        )

    def _load(self) -> bool:
        state = self.state.read()
        if state is None:
            return False
        if state.stage.num_steps > self.config.num_steps:
            raise InputError(
                f"expected a state of a run with {self.config.num_steps} steps. "
                f"Received: {state.stage.num_steps} steps in {self.state.folder}"
            )
        self.stage = state.stage
        self.stages = list(state.stages)
        self.epochs_done = state.epochs_done
        self.arrays = state.arrays
        self.best_arrays = state.best_arrays
        self.state.load_arrays(self.model, self.arrays)
        apply_stage(self.model, self.config, self.stage)
        return True


def _description(switch: Switch, stage: Stage) -> str:
    """Returns what a switch begins, for the screen."""
    match switch.what:
        case "steps":
            return f"{stage.num_steps} steps"
        case "batch norm":
            return "statistics of batch normalisation kept"
    return f"{switch.what} on"
