"""Predictions with a SavedModel or a TFLite file."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.inference.devices import Providers, limit_threads, only_cpu, require_cpu
from rsis_tf.inference.streaming import Streaming, input_errors, reason_of
from rsis_tf.runtime import check_options


class ExportedPredictor(Streaming):
    """Predicts with a SavedModel or a TFLite file; the JSON file that its exporter wrote must lie beside it.

    A TFLite file is for one thread at a time.

    Args:
        path: the folder or file.
        providers, threads, stop_mode, stop_threshold, mask_threshold, image_size, batch_size: see `open_predictor`.

    Raises:
        InputError: for a file that is broken or not of this project, or an option that it does not take.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        *,
        providers: Providers = None,
        threads: int | None = None,
        stop_mode: str = "first",
        stop_threshold: float | None = None,
        mask_threshold: float | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        path = self._path = pathlib.Path(path)
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
        side = path.with_name(path.name + ".json")
        try:
            self.metadata: dict[str, Any] = json.loads(side.read_text(encoding="utf-8"))
            fixed, self._dtype = self.metadata["input"]["shape"][0], np.dtype(self.metadata["input"]["dtype"])
            self.class_names = tuple(self.metadata["class_names"])
            self.category_ids = tuple(self.metadata.get("category_ids", ()))  # older files have none
            size = tuple(self.metadata["image_size"])
            any_size = bool(self.metadata.get("dynamic_size"))
            stored = {name: self.metadata[name] for name in ("stop_threshold", "mask_threshold")}
            self.aspect = self.metadata.get("aspect", "stretch")  # older files have none
            check_options(**stored, image_size=size, aspect=self.aspect)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"expected the JSON file that the exporter writes beside {path.name}. Received: {side} "
                f"({reason_of(error)})"
            ) from None
        self.image_size = size if image_size is None else tuple(map(int, image_size))
        if not any_size and self.image_size != size:
            raise InputError(f"this file takes image_size {size} alone. Received: {self.image_size}, {path}")
        self._fixed_batch = fixed if isinstance(fixed, int) else None
        if self._fixed_batch and batch_size not in (None, self._fixed_batch):
            raise InputError(f"this file takes batches of {fixed} alone. Received: batch size {batch_size}, {path}")
        self.batch_size = int(self._fixed_batch or batch_size or 8)
        self.set_decoding(
            stop_mode=stop_mode, stop_threshold=stop_threshold, mask_threshold=mask_threshold, stored=stored
        )
        self._run = _open_graph(path, providers=providers, threads=threads)

    def run_network(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(images)
        if self._fixed_batch:  # the places left over are filled with black images
            images = np.pad(images, [(0, self._fixed_batch - count), (0, 0), (0, 0), (0, 0)])
        outputs = self._run(images.astype(self._dtype, copy=False))
        masks, classes, stop = (np.asarray(outputs[name])[:count] for name in ("masks", "classes", "stop"))
        return masks, classes, stop


def _open_graph(
    path: pathlib.Path, *, providers: Providers, threads: int | None
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    expected = "a SavedModel of export.saved_model" if path.is_dir() else "a file of export.tflite"
    if path.is_dir():
        from rsis_tf.engine import quiet_start

        quiet_start()
        if threads is not None:
            limit_threads(threads)
        if providers is not None:
            require_cpu(providers, path)
        from rsis_tf.inference.saved_model import open_run

        options = {}
    else:
        if providers is not None and not only_cpu(providers):
            raise InputError(
                "a TFLite file runs on the CPU, by LiteRT; take a .onnx file for ONNX Runtime's providers. "
                f"Received: providers={providers!r} for {path}"
            )
        from rsis_tf.inference.tflite import open_run

        options = {"threads": threads}
    try:
        return open_run(path, **options)
    except ImportError as error:
        raise InputError(f'running {path} needs pip install "rsis_tf[train]". Received: {error}') from None
    except Exception as error:  # whatever the reader stumbled on
        raise InputError(f"expected {expected} that can be read. Received: {path} ({reason_of(error)})") from None
