"""What SavedModels and TFLite files share: a signature by name, and metadata in a JSON file beside them."""

import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.inference.base import FilePredictor
from rsis_tf.runtime import OUTPUTS, ModelInfo, Options, reason_of, sidecar

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(B, h, w, 3) images → `masks`, `classes` and `stop`."""


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

    def __init__(self, path: str | os.PathLike, **options: Any) -> None:
        path, chosen = pathlib.Path(path), Options(**options)
        self.metadata, info = read_metadata(path)
        super().__init__(path, info, chosen)
        try:
            self._run = self.load(path, chosen)
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f'running {path} needs pip install "rsis_tf[train]". Received: {error}') from None
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
    side = sidecar(path)
    try:
        metadata = json.loads(side.read_text(encoding="utf-8"))
        batch, dtype = metadata["input"]["shape"][0], str(np.dtype(metadata["input"]["dtype"]))
        fixed = batch if isinstance(batch, int) else None
        return metadata, ModelInfo.from_metadata(metadata, batch=fixed, dtype=dtype, source=side)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"expected the JSON file that the exporter writes beside {path.name}. Received: {side} ({reason_of(error)})"
        ) from None
