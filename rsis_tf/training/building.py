"""Where the weights of a training run start: fresh, or from another run with other classes."""

import keras

from rsis_tf.config import ModelConfig
from rsis_tf.errors import InputError
from rsis_tf.models import RSIS

SHARED_FIELDS = (
    "encoder",
    "hidden_size",
    "min_channels",
    "neck_channels",
    "mask_head",
    "class_features",
    "skip_mode",
    "kernel_size",
    "decoder_stages",
)
"""What two models must have in common for weights to be copied."""


def build_for_training(config: ModelConfig, *, precision: str = "float32") -> RSIS:
    """Builds the network with fresh weights, for computing in a given precision.

    The weights are float32 whatever the precision, and so is the model that a saved file gives back: precision is a
    property of the training, not of the model.

    Args:
        config: of the model.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        # The layers follow the policy; the model around them takes pictures and gives logits in float32.
        return RSIS(config, dtype="float32")
    finally:
        keras.config.set_dtype_policy(before)


def transfer_weights(model: RSIS, source: RSIS) -> bool:
    """Copies all weights of a trained model but those of a class layer for other classes.

    Args:
        model: receives the weights.
        source: of the same form (`SHARED_FIELDS`).

    Returns:
        Whether the class layer was copied too: only if both models name the same classes.

    Raises:
        InputError: if the models differ in form.
    """
    differing = [
        f"{name}={getattr(source.config, name)!r} where {getattr(model.config, name)!r} is wanted"
        for name in SHARED_FIELDS
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
