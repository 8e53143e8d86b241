"""Predictions with a Keras model."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.inference.devices import Providers, limit_threads, require_cpu
from rsis_tf.inference.model_files import load_model
from rsis_tf.inference.streaming import Streaming, input_errors
from rsis_tf.runtime import check_options

if TYPE_CHECKING:
    from rsis_tf.models import RSIS


class KerasPredictor(Streaming):
    """Predicts with a Keras model as `rsis_tf.runtime.Predictor` does with an ONNX file: same input, same instances.

    Args:
        model: a model, or a path that `load_model` takes.
        providers, threads, stop_mode, stop_threshold, mask_threshold, image_size, batch_size: see `open_predictor`.

    Raises:
        InputError: for a model or an option that cannot be used.
    """

    def __init__(
        self,
        model: "RSIS | str | pathlib.Path",
        *,
        providers: Providers = None,
        threads: int | None = None,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        mask_threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        with input_errors():
            check_options(
                providers=providers,
                threads=threads,
                stop_mode=stop_mode,
                stop_threshold=stop_threshold,
                mask_threshold=mask_threshold,
                image_size=image_size,
                batch_size=batch_size,
            )
        given = isinstance(model, str | pathlib.Path)
        self._path = model if given else "the model"
        if threads is not None:
            limit_threads(threads)
        if providers is not None:
            require_cpu(providers, self._path)
        self.model = load_model(model) if given else model
        config = self.model.config
        self.class_names = config.class_names
        self.category_ids = config.category_ids
        self.image_size = config.image_size if image_size is None else tuple(map(int, image_size))
        self.aspect = config.aspect
        self.batch_size = int(batch_size or 8)
        self.set_decoding(
            stop_mode=stop_mode,
            stop_threshold=stop_threshold,
            mask_threshold=mask_threshold,
            stored={"stop_threshold": config.stop_threshold, "mask_threshold": 0.5},
        )

    def run_network(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs = self.model.predict_on_batch(images)
        return _sigmoid(outputs["mask_logits"]), outputs["class_probs"], _sigmoid(outputs["stop_logits"])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh: exact at both ends, without the overflow of exp.
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float32)))
