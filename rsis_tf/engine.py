"""What is settled when Keras starts: notices, threads, and what there is to compute on."""

import os
import re
import sys
import tempfile

from rsis_tf.errors import InputError

_NOTICE = re.compile(r"(WARNING: All log messages before absl|To enable the following instructions|[IW]\d{4} )")


def quiet_start() -> None:
    """Imports Keras and its backend without the start-up notices of TensorFlow's libraries (CPU features, no GPU).

    They are written straight to the process's standard error before any log level is read, so that is caught during
    the import, and what is not a notice is passed on. A user who has set TF_CPP_MIN_LOG_LEVEL to less than 3 gets them.
    """
    if "keras" in sys.modules:
        return
    # The level is for later notices; errors still arrive as exceptions.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        standard_error = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _NOTICE.match(line)))


def limit_threads(threads: int, *, operations: int | None = None) -> None:
    """Sets how many CPU threads TensorFlow uses.

    Args:
        threads: that share the work of one operation.
        operations: that run at the same time, each in a thread of its own; None for TensorFlow's number, one per core.

    Raises:
        InputError: if TensorFlow has started already with other numbers, or Keras runs on another backend.
    """
    quiet_start()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"threads are set for TensorFlow only. Received: threads={threads} with {keras.backend.backend()}"
        )
    import tensorflow as tf

    settings = tf.config.threading
    try:
        # TensorFlow accepts the numbers that it has.
        settings.set_intra_op_parallelism_threads(int(threads))
        if operations is not None:
            settings.set_inter_op_parallelism_threads(int(operations))
    except RuntimeError:
        raise InputError(
            "threads must be set before TensorFlow computes anything in this process. "
            f"Received: threads={threads} afterwards"
        ) from None


def device() -> str:
    """Returns what the Keras backend computes on, for the screen, e.g. "tensorflow on CPU"."""
    import keras

    backend = keras.backend.backend()
    if backend == "torch":  # Keras lists no devices for it
        names = [str(keras.ops.zeros(()).device)]
    else:
        names = keras.distribution.list_devices()
    found = [name for name in names if not name.lower().startswith("cpu")]
    return f"{backend} on {', '.join(found) if found else 'CPU'}"
