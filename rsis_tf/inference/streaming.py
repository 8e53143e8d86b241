"""What all predictors share: images of any size in, batches through the network, instances out, one kind of error."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import (
    Instance,
    Predictor,
    RuntimeInputError,
    check_batch,
    check_image,
    decode,
    each_image,
    resize_image,
)


class Streaming:
    """What predictors share: images of any size to the network's size, batches, outputs to instances.

    Attributes:
        class_names: K names, the first of them "background"; empty if the model knows none.
        category_ids: K numbers by which COCO files call the classes, 0 for background; empty if the model knows none.
        image_size: (h, w) the network runs at.
        aspect: "stretch" or "keep", see `rsis_tf.runtime.resize_image`.
        batch_size: images in one run of `stream`.
        stop_threshold: objectness from which a step holds an object.
        mask_threshold: probability from which a pixel belongs to an object.
        draw: makes masks of the image from those of the network, see `rsis_tf.runtime.decode`; None unless set.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_size: tuple[int, int]
    aspect: str
    batch_size: int
    stop_threshold: float
    mask_threshold: float
    draw: Callable[[np.ndarray, tuple[int, int], float], np.ndarray] | None = None
    _decoding: dict[str, Any]
    _path: str | pathlib.Path
    _fixed_batch: int | None = None

    def __call__(self, image: np.ndarray) -> list[Instance]:
        """Predicts one image: (H, W, 3) uint8 of any size → its instances in predicted order."""
        return next(self.stream([image]))

    def batch(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        """Predicts images of any sizes, `batch_size` at a time; the answers come in the order of the images."""
        return list(self.stream(images))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[list[Instance]]:
        """Predicts images of any sizes as they come, `batch_size` at a time, and holds no more than those."""
        with input_errors():
            images = each_image(images)
            while chunk := list(itertools.islice(images, self.batch_size)):
                sizes = [check_image(image).shape[:2] for image in chunk]
                resized = [resize_image(image, self.image_size, self.aspect) for image in chunk]
                outputs = self.run(np.stack(resized))  # (B, h, w, 3)
                how = {"class_names": self.class_names, "aspect": self.aspect, "draw": self.draw, **self._decoding}
                for size, *output in zip(sizes, *outputs, strict=True):
                    yield decode(*output, size=size, **how)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs the network alone: (B, h, w, 3) → masks (B, T, h, w), classes (B, T, K), stop (B, T), probabilities.

        Raises:
            InputError: for other arrays, and when the library that runs the network fails.
        """
        with input_errors():
            check_batch(images, self._fixed_batch)
        try:
            return self.run_network(images)
        except Exception as error:  # TensorFlow and LiteRT each have their own, out of memory among them
            raise InputError(
                f"expected {self._path} to run on a batch of shape {images.shape}. Received: {reason_of(error)}"
            ) from error

    def run_network(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        raise NotImplementedError

    def set_decoding(
        self, *, stop_mode: str, stop_threshold: float | None, mask_threshold: float | None, stored: dict[str, float]
    ) -> None:
        self.stop_threshold = float(stored["stop_threshold"] if stop_threshold is None else stop_threshold)
        self.mask_threshold = float(stored["mask_threshold"] if mask_threshold is None else mask_threshold)
        self._decoding = {
            "stop_mode": stop_mode,
            "stop_threshold": self.stop_threshold,
            "mask_threshold": self.mask_threshold,
        }


class OnnxPredictor(Predictor):
    """`rsis_tf.runtime.Predictor` with the errors of this package: each is an `InputError`."""

    def __init__(self, path: str | pathlib.Path, **options: Any) -> None:
        with input_errors():
            super().__init__(path, **options)

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[list[Instance]]:
        with input_errors():
            yield from super().stream(images)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with input_errors():
            return super().run(images)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Makes an `InputError` of what the runtime, which knows nothing of this package, refuses."""
    try:
        yield
    except RuntimeInputError as error:
        raise InputError(str(error)) from None


def reason_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
