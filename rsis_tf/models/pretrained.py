"""Pretrained weights for the encoder: files of torchvision, or of keras.applications."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping

from rsis_tf.errors import InputError, reason_of
from rsis_tf.models.encoders import ENCODERS
from rsis_tf.models.keras_file import check_hdf5
from rsis_tf.models.pytorch.closed_pickle import shown
from rsis_tf.models.rsis import RSIS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """A file of weights and its address.

    Attributes:
        address: of the file; its last part is the file's name in the cache.
        sha256: of its content. torchvision publishes the first eight digits in the file's name; several projects have
            recorded the others.
    """

    address: str
    sha256: str

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


_TORCHVISION = "https://download.pytorch.org/models"
TORCHVISION: Mapping[str, Download] = {
    "resnet101": Download(
        address=f"{_TORCHVISION}/resnet101-63fe2227.pth",
        sha256="63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    ),
    "resnet34": Download(
        address=f"{_TORCHVISION}/resnet34-b627a593.pth",
        sha256="b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    ),
    "resnet50": Download(
        address=f"{_TORCHVISION}/resnet50-0676ba61.pth",
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    "vgg16": Download(
        address=f"{_TORCHVISION}/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}
"""torchvision's `IMAGENET1K_V1`: the weights that the original code started from (the ResNets in newer files)."""


def load_encoder_weights(
    model: RSIS,
    source: str,
    *,
    downloads: Mapping[str, Download] = TORCHVISION,
    cache: pathlib.Path | None = None,
) -> None:
    """Loads pretrained weights into the encoder.

    Args:
        model: whose encoder is filled.
        source: "imagenet" to download them into Keras's cache (`~/.keras/models`, or `models` in `$KERAS_HOME`), or a
            file: torchvision's `.pth` for VGG16 and the ResNets, a `.h5` file without top for the backbones of
            keras.applications.
        downloads: torchvision's file by the encoder's name.
        cache: folder for downloads from torchvision; None for Keras's cache.

    Raises:
        InputError: if there are no such weights for the encoder, they cannot be downloaded, or the file does not fit.
    """
    name = model.config.encoder
    spec = ENCODERS[name]
    path = pathlib.Path(source)
    if source != "imagenet" and not path.is_file():
        raise InputError(f"expected encoder weights: 'imagenet' or a file. Received: {source}, which is not there")
    if spec.torchvision and (source == "imagenet" or path.suffix in (".pth", ".pt")):
        from rsis_tf.models.pytorch.checkpoint import read_state
        from rsis_tf.models.pytorch.convert import load_backbone

        load_backbone(model, read_state(download(downloads[name], cache) if source == "imagenet" else path))
    elif spec.pretrained and (source == "imagenet" or path.suffix == ".h5"):
        try:
            if source != "imagenet":
                check_hdf5(path)
            backbone = spec.pretrained(source)
        except Exception as error:  # Keras raises whatever failed: network, HDF5, value errors
            raise InputError(
                f"expected {name} weights without top from {source} (--encoder-weights also takes a file, or "
                f"none to start from scratch). Received: {shown(reason_of(error), 300)}"
            ) from None
        for layer in model.encoder.layers:
            if layer.weights:
                layer.set_weights(backbone.get_layer(layer.name).get_weights())
    else:
        fitting = (
            "'imagenet' or a torchvision .pth file"
            if spec.torchvision
            else "'imagenet' or a .h5 file"
            if spec.pretrained
            else "none"
        )
        raise InputError(f"the encoder {name} takes as pretrained weights: {fitting}. Received: {source}")


def download(wanted: Download, cache: pathlib.Path | None = None) -> pathlib.Path:
    """Returns the file in the cache (None: Keras's cache); downloads it if it is missing or incomplete.

    Raises:
        InputError: if it cannot be downloaded or has another content; nothing of it stays in the cache.
    """
    import keras

    reason = ""
    for _ in range(2):  # the file in the cache may be incomplete
        try:
            path = pathlib.Path(
                keras.utils.get_file(wanted.name, wanted.address, cache_subdir="models", cache_dir=cache)
            )
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except Exception as error:  # Keras raises plain exceptions for network errors
            reason = reason_of(error)
            break
        if found == wanted.sha256:
            return path
        path.unlink()
        reason = f"a file of the SHA-256 {found}"
    raise InputError(
        f"expected to download {wanted.address}. If this machine cannot reach it, copy {wanted.name} (SHA-256 "
        f"{wanted.sha256}) here and pass it with --encoder-weights {wanted.name}. Received: {reason}"
    )
