"""Loggers by name (`rsis train --logger NAME`), and the callbacks of users (`--callback MODULE:CLASS`).

To add a logger, write a file with a `Callback` whose constructor takes nothing and raises an `InputError` if its
package is not installed. Add a row here, and the name to `rsis_tf.config.training.LOGGER_NAMES`.
"""

from collections.abc import Callable, Iterable, Mapping

from rsis_tf.training.loggers.interface import Callback, Callbacks, RunInfo
from rsis_tf.training.loggers.mlflow import MlflowLog
from rsis_tf.training.loggers.tensorboard import TensorBoardLog
from rsis_tf.training.loggers.wandb import WandbLog

__all__ = ["LOGGERS", "Callback", "Callbacks", "RunInfo", "loggers"]

LOGGERS: Mapping[str, Callable[[], Callback]] = {
    "mlflow": MlflowLog,
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
}


def loggers(names: Iterable[str]) -> list[Callback]:
    """Returns the loggers of some names, each once.

    Raises:
        InputError: if the package of one is not installed.
    """
    return [LOGGERS[name]() for name in dict.fromkeys(names)]
