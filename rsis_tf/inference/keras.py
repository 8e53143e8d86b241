"""Predictions with a Keras model."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsis_tf.engine import limit_threads
from rsis_tf.inference.base import FilePredictor
from rsis_tf.inference.devices import require_cpu
from rsis_tf.inference.model_files import load_model
from rsis_tf.runtime import ModelInfo, Options

if TYPE_CHECKING:
    from rsis_tf.models import RSIS


class KerasPredictor(FilePredictor):
    """Predicts with a Keras model as `rsis_tf.runtime.Predictor` does with an ONNX file: same input, same instances.

    Args:
        model: a model, or a path that `load_model` takes.
        **options: see `rsis_tf.runtime.Options`.

    Attributes:
        model: the Keras model.
        …: see `rsis_tf.runtime.BasePredictor`.

    Raises:
        InputError: for a model or an option that cannot be used.
    """

    def __init__(self, model: "RSIS | str | os.PathLike", **options: Any) -> None:
        chosen = Options.of(options)
        path = model if isinstance(model, str | os.PathLike) else "the model"
        if chosen.threads is not None:
            limit_threads(chosen.threads)
        if chosen.providers is not None:
            require_cpu(chosen.providers, path)
        self.model: RSIS = load_model(model) if isinstance(model, str | os.PathLike) else model
        if chosen.steps is not None:
            self.model = self.model.with_steps(int(chosen.steps))
        config = self.model.config
        info = ModelInfo(
            image_size=config.image_size,
            aspect=config.aspect,
            class_names=config.class_names,
            category_ids=config.category_ids,
            stop_threshold=config.stop_threshold,
        )
        super().__init__(path, info, chosen, any_steps=True)
        if not isinstance(model, str | os.PathLike):
            self._source = model

    def __reduce__(self) -> tuple[Any, ...]:
        reopened, source, settings = super().__reduce__()
        del settings["model"]  # comes with the source
        return reopened, source, settings

    def compute(self, images: np.ndarray) -> Sequence[np.ndarray]:
        # Imported here, since importing the package of the network starts Keras.
        from rsis_tf.models.probabilities import predict_probabilities

        return predict_probabilities(self.model, images, source=self.path)
