"""MLflow: settings, losses and scores.

They go where MLflow's own settings say (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME); without any, MLflow writes files
to the current folder. A training that is resumed is another MLflow run of the same name.
"""

import re
from collections.abc import Mapping

from rsis_tf.errors import InputError, reason_of
from rsis_tf.training.loggers.interface import Callback, RunInfo, finite, package

_LONGEST = 500
"""Characters of a parameter; earlier versions of MLflow refuse longer ones."""


class MlflowLog(Callback):
    """Logs to an MLflow run named after the run's folder, or to the one that is active, which it does not end.

    Raises:
        InputError: if the package is not installed; in `on_run_begin`, if MLflow does not start.
    """

    def __init__(self) -> None:
        self._mlflow = package("mlflow")

    def on_run_begin(self, run: RunInfo) -> None:
        try:
            self._own = self._mlflow.active_run() is None
            if self._own:
                self._mlflow.start_run(run_name=run.folder.name)
            self._mlflow.log_params({name: str(value)[:_LONGEST] for name, value in run.settings.flat().items()})
        except self._mlflow.MlflowException as error:
            raise InputError(f"expected MLflow to start a run. Received: {reason_of(error)}") from None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(finite(logs), step=epoch + 1)

    def on_run_end(self, scores: Mapping[str, float] | None) -> None:
        if scores is not None:
            # MLflow does not accept the sign in "ar50@10".
            self._mlflow.log_metrics({re.sub(r"[^\w./ -]", "_", name): v for name, v in finite(scores).items()})
        if self._own:
            self._mlflow.end_run("FINISHED" if scores is not None else "FAILED")
