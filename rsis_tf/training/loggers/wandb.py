"""Weights & Biases: losses, scores and predicted sequences.

Nothing leaves the machine unless the environment variable WANDB_MODE says so: the run is written to `wandb/` in the
run's folder (mode "offline"), from which `wandb sync` uploads it. A training that is resumed is another run of the same
group, because offline runs cannot be continued.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from rsis_tf.config.json_file import to_json
from rsis_tf.errors import InputError, reason_of
from rsis_tf.training.loggers.interface import Callback, RunInfo, finite, package


class WandbLog(Callback):
    """Logs to a W&B run named after the run's folder, in the project `rsis_tf` or that of WANDB_PROJECT.

    Raises:
        InputError: if the package is not installed; in `on_run_begin`, if W&B does not start.
    """

    def __init__(self) -> None:
        self._wandb = package("wandb")

    def on_run_begin(self, run: RunInfo) -> None:
        self._info = run
        try:
            self._run: Any = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "rsis_tf"),
                group=run.folder.name,
                name=run.folder.name,
                dir=str(run.folder),
                config=json.loads(to_json(run.settings)),
                mode=os.environ.get("WANDB_MODE", "offline"),
            )
        except self._wandb.Error as error:
            raise InputError(f"expected W&B to start a run. Received: {reason_of(error)}") from None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        images = {f"sequences/{name}": self._wandb.Image(image) for name, image in self._info.images().items()}
        self._run.log({"epoch": epoch + 1, **logs, **images}, step=epoch + 1)

    def on_run_end(self, scores: Mapping[str, float] | None) -> None:
        if scores is not None:
            self._run.summary.update(finite(scores))
        self._run.finish(exit_code=0 if scores is not None else 1)
