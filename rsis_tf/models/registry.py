"""Finds the class of the network in Keras' registry, for modules that the class itself uses."""

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from rsis_tf.models.rsis import RSIS

NAME = "rsis_tf>RSIS"
"""Under which `keras.saving.register_keras_serializable` registers the network; every `.keras` file holds it."""


def network_class() -> "type[RSIS]":
    """Returns `rsis_tf.models.RSIS`, which is registered as soon as `rsis_tf.models` is imported."""
    network: type[RSIS] | None = keras.saving.get_registered_object(NAME)
    if network is None:
        raise RuntimeError(f"expected rsis_tf.models to be imported. Received: no class registered as {NAME!r}")
    return network
