"""Curves and sequences for TensorBoard, in the run's folder."""

import contextlib
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping

from rsis_tf.errors import InputError, reason_of
from rsis_tf.files import WriteError
from rsis_tf.training.loggers.interface import Callback, RunInfo


class TensorBoardLog(Callback):
    """Writes the losses of every epoch and images of predicted sequences to `tensorboard/`.

    Training and validation are two runs in TensorBoard, so that each loss is one plot with two curves.

    Raises:
        InputError: if TensorFlow, which writes the files, is not installed; in calls, if they cannot be written.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorflow") is None:
            raise InputError("--logger tensorboard needs TensorFlow to write its files. Received: none installed")

    def on_run_begin(self, run: RunInfo) -> None:
        import tensorflow as tf

        self.run, self.folder = run, run.folder / "tensorboard"
        with _tensorflow_writing(self.folder):
            self.writers = {
                name: tf.summary.create_file_writer(str(self.folder / name)) for name in ("train", "validation")
            }

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        import tensorflow as tf

        with _tensorflow_writing(self.folder):
            for name, writer in self.writers.items():
                with writer.as_default(step=epoch + 1):
                    for column, value in logs.items():
                        if column.startswith("val_") == (name == "validation"):
                            tf.summary.scalar(column.removeprefix("val_"), value)
            with self.writers["validation"].as_default(step=epoch + 1):
                for name, image in self.run.images().items():
                    tf.summary.image(f"sequences/{name}", image[None])
            for writer in self.writers.values():
                writer.flush()

    def on_run_end(self, scores: Mapping[str, float] | None) -> None:
        with _tensorflow_writing(self.folder):
            for writer in self.writers.values():
                writer.close()


@contextlib.contextmanager
def _tensorflow_writing(folder: pathlib.Path) -> Iterator[None]:
    """Context for code in which TensorFlow writes: turns its errors into a `WriteError`."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise WriteError(f"expected a place that can be written. Received: {folder} ({reason_of(error)})") from None
