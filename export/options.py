"""What to export and how: the options that all exporters share."""

import dataclasses
import pathlib
from typing import Literal, TypedDict


class Thresholds(TypedDict):
    """The thresholds that a file holds, as keyword arguments of `rsis_tf.runtime.decode`."""

    stop_threshold: float
    mask_threshold: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to export and how.

    Attributes:
        source: the `.keras` file, or the folder of the original's checkpoint.
        out: the file (ONNX, TFLite) or folder (SavedModel, stepwise ONNX) to write.
        size: (height, width) at which the network runs, "model" for the size it was trained at, or None for the size
            of the input.
        batch: B, or None for any.
        steps: T, or None for the number of steps of the model.
        input_type: "uint8" or "float32", the dtype of the input `image`.
        resize: whether a graph of fixed size takes images of any size and resizes them itself.
        precision: one of `export.formats.PRECISIONS`.
        verify: whether to compare the file with the Keras model.
        atol: largest difference of a mask, class or stop probability that passes; None for the default of `tolerances`.
        min_agreement: least agreement of instances that passes, 0 to 1 (`rsis_tf.evaluation.metrics.agreement`); None
            for the default of `tolerances`.
        calibration: folder of images from which an int8 quantiser takes the ranges of activations; None to quantise
            the weights only.
        limit: number of images of `calibration` that are read at most.
        verify_images: folder of images to compare on; None for the run's samples, or a synthetic image.
        stop_threshold: written into the file; None for the threshold of the model.
        mask_threshold: written into the file.
        license: terms of use, written into the file.
    """

    source: pathlib.Path
    out: pathlib.Path
    size: tuple[int, int] | Literal["model"] | None = "model"
    batch: int | None = None
    steps: int | None = None
    input_type: str = "uint8"
    resize: bool = True
    precision: str = "fp32"
    verify: bool = True
    atol: float | None = None
    min_agreement: float | None = None
    calibration: pathlib.Path | None = None
    limit: int = 300
    verify_images: pathlib.Path | None = None
    stop_threshold: float | None = None
    mask_threshold: float = 0.5
    license: str = "MIT"

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the model. A run stores its `samples/` there."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds that are written into the file; `stop_threshold` must be set."""
        assert self.stop_threshold is not None, "export.graph.open_source sets the threshold"
        return Thresholds(stop_threshold=self.stop_threshold, mask_threshold=self.mask_threshold)
