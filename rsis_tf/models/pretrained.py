"""Weights for the encoder from elsewhere: torchvision files, or those of keras.applications."""

import pathlib

from rsis_tf.errors import InputError
from rsis_tf.models.encoders import ENCODERS
from rsis_tf.models.rsis import RSIS


def load_encoder_weights(model: RSIS, source: str) -> None:
    """Loads trained weights into the encoder.

    Args:
        model: whose encoder is filled.
        source: a torchvision file (`.pth`, `.pt`) for VGG16 and the ResNets; for the backbones of keras.applications a
            `.h5` file of theirs without top, or "imagenet" to let Keras download it.

    Raises:
        InputError: if the encoder takes no such weights, or the file does not fit.
    """
    name = model.config.encoder
    spec = ENCODERS[name]
    path = pathlib.Path(source)
    if source != "imagenet" and not path.is_file():
        raise InputError(f"expected encoder weights: 'imagenet' or a file. Received: {source}, which is not there")
    if spec.torchvision and path.suffix in (".pth", ".pt"):
        from rsis_tf.models.convert_pytorch import load_backbone
        from rsis_tf.models.torch_checkpoint import read_state

        load_backbone(model, read_state(path))
    elif spec.pretrained and (source == "imagenet" or path.suffix == ".h5"):
        try:
            backbone = spec.pretrained(source)
        except Exception as error:  # Keras raises what it stumbled on: network, HDF5, value errors
            raise InputError(
                f"expected {name} weights without top from {source} (--encoder-weights takes a file of them too, or "
                f"none to start from nothing). Received: {error}"
            ) from None
        for layer in model.encoder.layers:
            if layer.weights:
                layer.set_weights(backbone.get_layer(layer.name).get_weights())
    else:
        fitting = (
            "a torchvision .pth file" if spec.torchvision else "'imagenet' or a .h5 file" if spec.pretrained else "none"
        )
        raise InputError(f"the encoder {name} takes as trained weights: {fitting}. Received: {source}")
