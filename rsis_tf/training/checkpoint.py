"""Model files that are written whole or not at all."""

import pathlib

from rsis_tf.files import replacing
from rsis_tf.models import RSIS


def save_model(model: RSIS, path: pathlib.Path) -> None:
    """Writes the network, without the state of the optimiser, to a `.keras` file that appears when it is complete."""
    # A model that was never compiled has no optimiser.
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        with replacing(path) as partial:
            model.save(partial)
    finally:
        model.optimizer = optimizer
