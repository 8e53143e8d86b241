"""The table of export formats. A new format is one module in this folder and one row here."""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Protocol, cast

PRECISIONS = ("fp32", "fp16", "int8")


class Command(Protocol):
    """`main` of an exporter."""

    def __call__(self, arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """One row of `FORMATS`.

    Attributes:
        name: as in `rsis export NAME`, and in the metadata of a file.
        module: holds `main(arguments, prog=…)`; imported when the command is called.
        description: one line for `--help`.
        default_out: name of the result, in the folder of the model.
        example: arguments of a call, for `--help`.
        precisions: the values of --precision that it supports, out of `PRECISIONS`.
        folder_with: name of a file that every export of this format holds, for a format that writes a folder; None
            for a format that writes one file. A folder without that file is never replaced.
        fixed_shape: why size and batch are fixed and images must be resized before the graph; None if they may be
            dynamic.
    """

    name: str
    module: str
    description: str
    default_out: str
    example: str
    precisions: tuple[str, ...] = PRECISIONS
    folder_with: str | None = None
    fixed_shape: str | None = None

    def command(self) -> Command:
        """Imports the module and returns its `main`."""
        return cast(Command, importlib.import_module(self.module).main)


_ROWS = (
    ExportFormat(
        name="onnx",
        module="export.onnx",
        description="ONNX file for ONNX Runtime on CPUs and GPUs, in browsers and on servers",
        default_out="model.onnx",
        example="runs/nuclei --size 256x256 --batch-size dynamic --steps 20",
    ),
    ExportFormat(
        name="saved_model",
        module="export.saved_model",
        description="SavedModel folder for TensorFlow and TensorFlow Serving",
        default_out="saved_model",
        example="runs/nuclei --size 256x256",
        precisions=("fp32",),
        folder_with="saved_model.pb",
    ),
    ExportFormat(
        name="tflite",
        module="export.tflite",
        description="TFLite file for LiteRT on phones and small computers",
        default_out="model.tflite",
        example="runs/nuclei --size 256x256 --precision fp16",
        fixed_shape="LiteRT allocates the memory of a graph before the first run",
    ),
)
FORMATS: dict[str, ExportFormat] = {row.name: row for row in _ROWS}
"""Name → format."""
