"""What the network predicts of a batch, as the probabilities that every exported file gives too."""

import os
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.runtime import check_finite

if TYPE_CHECKING:
    from rsis_tf.models.rsis import RSIS


def predict_probabilities(
    model: "RSIS", images: np.ndarray, *, source: str | os.PathLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs a model on a batch.

    Args:
        model: the network.
        images: (B, h, w, 3) uint8, at the size the network runs at.
        source: the file of the model or another name of it, for messages.

    Returns:
        masks (B, T, h, w), classes (B, T, K) and stop (B, T), float32.

    Raises:
        InputError: if a logit is NaN or infinite.
    """
    outputs = model.predict_on_batch(images)
    # Checked before the sigmoid, which would turn an infinite logit into 0 or 1.
    check_finite({name: outputs[f"{name}_logits"] for name in ("stop", "mask")}, source)
    return _sigmoid(outputs["mask_logits"]), outputs["class_probs"], _sigmoid(outputs["stop_logits"])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Computed with tanh, which is exact at both ends and does not overflow.
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float32)))
