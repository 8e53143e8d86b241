"""What is settled when Keras starts, and what there is to compute on."""

import os
import re
import sys
import tempfile

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


def device() -> str:
    """Returns what the Keras backend computes on, for the screen, e.g. "tensorflow on CPU"."""
    import keras

    backend = keras.backend.backend()
    found = [name for name in keras.distribution.list_devices() if not name.lower().startswith("cpu")]
    return f"{backend} on {', '.join(found) if found else 'CPU'}"
