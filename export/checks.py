"""Refuses options that a format does not support, and places that cannot be written to or opened afterwards."""

import pathlib

from export.formats import ExportFormat
from export.options import Options
from rsis_tf import outputs
from rsis_tf.errors import InputError
from rsis_tf.runtime import sidecar


def check_format(options: Options, format: ExportFormat) -> None:
    """Refuses options that a format does not support, and a file that no command would open.

    Raises:
        InputError: the message gives the reason.
    """
    if options.precision not in format.precisions:
        raise InputError(
            f"expected a precision of the format {format.name}, {', '.join(format.precisions)}; other formats offer "
            f"more. Received: --precision {options.precision}"
        )
    if format.fixed_shape is not None:
        _check_fixed(options, format.fixed_shape)
    check_replaceable(options.out, format.folder_with)
    suffix = pathlib.PurePath(format.default_out).suffix
    if format.folder_with is None and options.out.suffix.lower() != suffix:
        raise InputError(
            f"expected --out to end in {suffix}, by which every command knows the format. Received: {options.out}"
        )


def _check_fixed(options: Options, reason: str) -> None:
    if options.size is None:
        raise InputError(f"{reason}, so the size must be fixed. Received: --size dynamic")
    if options.batch is None:
        raise InputError(f"{reason}, so the batch size must be fixed. Received: --batch-size dynamic")
    if options.resize:
        raise InputError(f"{reason}, so images must be resized before the graph. Received: --resize")


def check_replaceable(out: pathlib.Path, folder_with: str | None) -> None:
    """Refuses to replace anything but an earlier export of the same kind.

    Args:
        out: file or folder to write.
        folder_with: see `ExportFormat.folder_with`.

    Raises:
        InputError: for a place that cannot be written to, a folder where a file is to be written, and a folder that is
            not an export.
    """
    outputs.check_parent(out)
    for file in (sidecar(out), *([out] if folder_with is None else [])):
        if file.is_dir():
            raise InputError(f"expected --out to be a file. Received: {file}, which is a folder")
    if folder_with is not None and out.exists() and not (out / folder_with).is_file():
        raise InputError(
            f"expected --out to be a new folder, or an earlier export with {folder_with} in it. Received: {out}"
        )
