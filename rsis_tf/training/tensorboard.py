"""Curves and sequences for TensorBoard."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from rsis_tf.errors import InputError, reason_of
from rsis_tf.files import WriteError


class TensorBoardLog:
    """Writes the losses of every epoch and images of predicted sequences.

    Training and validation are two runs in TensorBoard, so that each loss is one plot with two curves.

    Args:
        folder: for the event files.
        images: returns the images of an epoch: name → (H, W, 3) uint8.

    Raises:
        InputError: if TensorFlow, which writes the files, is not installed, or they cannot be written.
    """

    def __init__(self, folder: pathlib.Path, images: Callable[[], dict[str, np.ndarray]]) -> None:
        try:
            import tensorflow as tf
        except ModuleNotFoundError:
            raise InputError("--tensorboard needs TensorFlow to write its files. Received: none installed") from None
        self.folder = folder
        self.images = images
        with _tensorflow_writing(folder):
            self.writers = {name: tf.summary.create_file_writer(str(folder / name)) for name in ("train", "validation")}

    def epoch_done(self, epoch: int, logs: dict[str, float]) -> None:
        """Writes the losses of an epoch (counted from 0); names that begin with "val_" are those of the validation."""
        with _tensorflow_writing(self.folder):
            self._write(epoch, logs)

    def _write(self, epoch: int, logs: dict[str, float]) -> None:
        import tensorflow as tf

        for run, writer in self.writers.items():
            with writer.as_default(step=epoch + 1):
                for name, value in logs.items():
                    if name.startswith("val_") == (run == "validation"):
                        tf.summary.scalar(name.removeprefix("val_"), value)
        with self.writers["validation"].as_default(step=epoch + 1):
            for name, image in self.images().items():
                tf.summary.image(f"sequences/{name}", image[None])
        for writer in self.writers.values():
            writer.flush()


@contextlib.contextmanager
def _tensorflow_writing(folder: pathlib.Path) -> Iterator[None]:
    """Context for code in which TensorFlow writes: turns its errors into a `WriteError`."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise WriteError(f"expected a place that can be written. Received: {folder} ({reason_of(error)})") from None
