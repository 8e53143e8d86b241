"""Model files that are whole or not there."""

import os
import pathlib

from rsis_tf.models import RSIS


def save_model(model: RSIS, path: pathlib.Path) -> None:
    """Writes the network (without optimiser state) beside `path` and renames it when complete."""
    partial = path.with_name(f".{path.stem}.partial.keras")
    # A model that was never compiled has none.
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        model.save(partial)
        os.replace(partial, path)
    finally:
        model.optimizer = optimizer
        partial.unlink(missing_ok=True)
