"""The weights that a training starts from: fresh ones, or those of a trained model that may have other classes."""

import keras

from rsis_tf.config import ModelConfig
from rsis_tf.errors import InputError
from rsis_tf.models import RSIS
from rsis_tf.models.rsis import NETWORK_FIELDS

SHARED_FIELDS = NETWORK_FIELDS
"""What two models must have in common for weights to be copied."""


def build_for_training(config: ModelConfig, *, precision: str = "float32") -> RSIS:
    """Builds the network with fresh weights, for computing in a given precision.

    The weights are float32 in every precision, and a model read from a saved file computes in float32: the precision is
    a property of the training, not of the model.

    Args:
        config: of the model.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        # The layers follow the policy; the model around them takes images and returns logits in float32.
        return RSIS(config, dtype="float32")
    finally:
        keras.config.set_dtype_policy(before)


def transfer_weights(model: RSIS, source: RSIS) -> bool:
    """Copies the weights of a trained model, except those of the class layer if the classes differ.

    Args:
        model: receives the weights.
        source: with the same `NETWORK_FIELDS`.

    Returns:
        Whether the class layer was copied too, which is the case if both models have the same classes.

    Raises:
        InputError: if the networks differ.
    """
    differing = [
        f"{name}={getattr(source.config, name)!r} instead of {getattr(model.config, name)!r}"
        for name in NETWORK_FIELDS
        if getattr(source.config, name) != getattr(model.config, name)
    ]
    if differing:
        raise InputError(f"expected a model of the same form to transfer from. Received: {', '.join(differing)}")
    same_classes = (
        source.config.num_classes == model.config.num_classes and source.config.class_names == model.config.class_names
    )
    kept = set() if same_classes else {id(variable) for variable in model.decoder.class_head.weights}
    for variable, trained in zip(model.weights, source.weights, strict=True):
        if id(variable) not in kept:
            variable.assign(keras.ops.convert_to_numpy(trained).copy())
    return same_classes
