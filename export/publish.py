"""What every exporter does with a new file: write it, compare it with the Keras model, and give it its name."""

import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from export import metadata, verify
from export.comparison_images import make_inputs, read_images
from export.graph import GraphSpec
from export.options import Options
from export.tolerances import tolerances
from rsis_tf.errors import command_line
from rsis_tf.files import replacing
from rsis_tf.models import RSIS
from rsis_tf.runtime import checksums, sidecar

COMPARED, COMPARED_LOOSELY = 4, 8
"""Number of images; more where means are compared and not single values."""


def publish(
    model: RSIS,
    spec: GraphSpec,
    options: Options,
    *,
    described: Mapping[str, Any],
    write: Callable[[pathlib.Path], object],
    open_run: Callable[[pathlib.Path], verify.Run],
) -> pathlib.Path:
    """Writes a file or folder under a temporary name, compares it with the model, and renames it to `options.out`.

    A JSON file with the metadata is written beside it.

    Args:
        model: the Keras model.
        spec: shape of the graph.
        options: where to write, whether to compare, and which differences pass.
        described: metadata for the JSON file; the result of the comparison is added.
        write: writes the file or folder to a path.
        open_run: opens a path and returns the function that runs it.

    Returns:
        `options.out`.

    Raises:
        export.verify.VerificationError: when the outputs differ from those of the model; then nothing is written.
    """
    out, facts = options.out, dict(described)
    with replacing(sidecar(out)) as side, replacing(out) as partial:
        write(partial)
        if options.verify:
            comparison = _verify(open_run(partial), model, spec, options)
            facts |= verify.report(comparison)
            _show(comparison)
        facts["bytes"] = size_of(partial)
        facts["sha256"] = checksums(partial)
        side.write_text(metadata.to_json(facts), encoding="utf-8")
    return out


def _verify(run: verify.Run, model: RSIS, spec: GraphSpec, options: Options) -> verify.Comparison:
    accepted = tolerances(options, model.config.mask_head)
    images = read_images(
        model,
        spec,
        folder=options.verify_images,
        run=options.folder,
        calibration=options.calibration,
        thresholds=options.thresholds,
        count=COMPARED_LOOSELY if accepted.loose else COMPARED,
    )
    inputs = make_inputs(images, spec, model.config.image_size, every=accepted.loose)
    return verify.compare(run, model, spec, inputs, tolerances=accepted, thresholds=options.thresholds)


def _show(comparison: verify.Comparison) -> None:
    for case in comparison.cases:
        print(f"verified {case}")
    for name, difference in comparison.tensors.items():
        print(f"verified {name}: {difference}")
    for remark in comparison.remarks:
        print(f"warning: {remark}", file=sys.stderr)


def run_command(export: Callable[[], pathlib.Path]) -> None:
    """Runs an exporter and prints what it wrote; exit code 1 if the file differs from the model."""
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
