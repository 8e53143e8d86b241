"""What SavedModels and TFLite files share: a signature by name, and metadata in a JSON file beside them."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.inference.base import FilePredictor
from rsis_tf.runtime import OUTPUTS, ModelInfo, Options, Shape, read_sidecar, reason_of, sidecar, verify_checksums


class Run:
    """A signature of an exported file: called with (B, h, w, 3) images, it returns `masks`, `classes` and `stop`.

    Args:
        compute: runs it.
        inputs, outputs: shape by name, None for what is open.
        dtype: of the input.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], dict[str, np.ndarray]],
        *,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        dtype: str,
    ) -> None:
        self._compute = compute
        self.inputs, self.outputs, self.dtype = inputs, outputs, dtype

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._compute(images)


class ExportedPredictor(FilePredictor):
    """Predicts with an exported file or folder; the JSON file that its exporter wrote must lie beside it.

    Args:
        path: the file or folder.
        **options: see `rsis_tf.runtime.Options`.

    Attributes:
        metadata: what the exporter wrote.
        …: see `rsis_tf.runtime.BasePredictor`.

    Raises:
        InputError: for a file that is broken or not of this project, or an option that it does not take.
    """

    kind: str
    """What the backend expects at the path, for messages."""
    install: str = 'pip install "rsis_tf[train]"'
    """How to get the library that runs the file, for messages."""

    def __init__(self, path: str | os.PathLike, **options: Any) -> None:
        path, chosen = pathlib.Path(path), Options.of(options)
        self.metadata, info = read_metadata(path)
        super().__init__(path, info, chosen)
        if chosen.verify:
            verify_checksums(path)
        try:
            self._run = self.load(path, chosen)
            if self._run.dtype != info.dtype:
                raise InputError(
                    f"expected the input type of the JSON file, {info.dtype}. Received: {self._run.dtype} in {path}"
                )
            info.check_graph(self._run.inputs, self._run.outputs, source=path)
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"running {path} needs {self.install}. Received: {error}") from None
        except Exception as error:  # each library raises its own for a broken file
            raise InputError(f"expected {self.kind} that can be read. Received: {path} ({reason_of(error)})") from None

    def load(self, path: pathlib.Path, options: Options) -> Run:
        """Opens the file with the library that runs it."""
        raise NotImplementedError

    def compute(self, images: np.ndarray) -> Sequence[np.ndarray]:
        outputs = self._run(images)
        return [outputs[name] for name in OUTPUTS]


def read_metadata(path: pathlib.Path) -> tuple[dict[str, Any], ModelInfo]:
    """Reads the JSON file beside an exported file or folder.

    Returns:
        What the exporter wrote, and what a predictor needs of it.

    Raises:
        InputError: if the file is missing or not such a file.
    """
    metadata, side = read_sidecar(path), sidecar(path)
    described = metadata.get("input")
    shape, dtype = (described.get("shape"), described.get("dtype")) if isinstance(described, dict) else (None, None)
    if not (isinstance(shape, list) and len(shape) == 4 and isinstance(dtype, str)):
        raise InputError(
            f"expected the JSON file that the exporter writes beside {path.name}, with 'input' in it. "
            f"Received: {side} with shape {reason_of(ValueError(shape))} and dtype {reason_of(ValueError(dtype))}"
        )
    batch = shape[0] if isinstance(shape[0], int) else None
    return metadata, ModelInfo.from_metadata(metadata, batch=batch, dtype=dtype, source=side)
