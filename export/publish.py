"""The way of every exported file: written beside, compared with the Keras model, then given its name."""

import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from export import metadata, verify
from export.graph import GraphSpec
from export.options import Options, tolerances
from rsis_tf.errors import command_line
from rsis_tf.models import RSIS
from rsis_tf.runtime import checksums


def publish(
    model: RSIS,
    spec: GraphSpec,
    options: Options,
    *,
    described: dict[str, Any],
    write: Callable[[pathlib.Path], None],
    open_run: Callable[[pathlib.Path], verify.Run],
) -> pathlib.Path:
    """Writes a file or folder, compares it with the model, and gives it its name; beside it goes a JSON file.

    Args:
        model: the Keras model.
        spec: shape of the graph.
        options: where to, and whether and how closely to compare.
        described: metadata for the JSON file; what the comparison found is added.
        write: makes the file or folder at a path.
        open_run: opens it to be run.

    Returns:
        `options.out`.

    Raises:
        export.verify.VerificationError: when it does not answer as the model does; nothing is left behind.
    """
    out = options.out
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    described = dict(described)
    try:
        write(partial)
        if options.verify:
            pictures = verify.read_pictures(options.verify_images, options.folder)
            inputs = verify.make_inputs(pictures, spec, model.config.image_size)
            thresholds = {name: described[name] for name in ("stop_threshold", "mask_threshold")}
            atol, min_agreement = tolerances(options, model.config.mask_head)
            cases = verify.compare(
                open_run(partial),
                model,
                spec,
                inputs,
                atol=atol,
                thresholds=thresholds,
                min_agreement=min_agreement,
            )
            described["verification"] = verify.report(cases)
            for case in cases:
                print(f"verified {case}")
        described["bytes"] = size_of(partial)
        described["sha256"] = checksums(partial)
        side = metadata.sidecar(partial)
        side.write_text(metadata.to_json(described), encoding="utf-8")
        _replace(partial, out)
        os.replace(side, metadata.sidecar(out))
    finally:
        _remove(partial)
        _remove(metadata.sidecar(partial))
    return out


def run_command(export: Callable[[], pathlib.Path]) -> None:
    """Runs an exporter and prints what it wrote; exit code 1 if the file answers unlike the model."""
    start = time.perf_counter()
    with command_line():
        try:
            out = export()
        except verify.VerificationError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
    print(f"wrote {out}, {size_of(out) / 1e6:.1f} MB, in {time.perf_counter() - start:.1f} s")


def size_of(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _replace(source: pathlib.Path, target: pathlib.Path) -> None:
    if target.is_dir():  # a folder cannot be renamed onto another: the old one steps aside first
        old = target.with_name(f".{target.name}.old")
        _remove(old)
        os.replace(target, old)
        os.replace(source, target)
        _remove(old)
    else:
        os.replace(source, target)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
