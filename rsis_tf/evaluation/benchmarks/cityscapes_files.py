"""Result files in the format of the Cityscapes benchmark, which its server accepts.

Source: the README of cityscapesScripts, "Instance-level semantic labeling".
"""

import io
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from rsis_tf import files, outputs
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError, brief
from rsis_tf.evaluation.predictions import scored_classes
from rsis_tf.files import inside

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance

LABEL_IDS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""Cityscapes' ids of the classes that are scored."""


class ResultFiles:
    """Writes predictions in the benchmark's format, image by image; a sink.

    Each line of `FOLDER/<city>_<sequence>_<frame>.txt` names a mask, its label id and its confidence. The masks are in
    `FOLDER/masks/`, white on black, one bit for each pixel.

    Args:
        folder: must be new or empty, because old files in it would be scored too.
        class_names: K names; each but the first must be one of `LABEL_IDS`.
        every_class: write each mask once for every class, with confidence class probability × objectness, as the
            original does; if false, write it for its best class only.
        classes: ids of the classes to write; None for all.

    Raises:
        InputError: if a class is unknown to the benchmark, the folder is not empty, or an image's name does not begin
            with city, sequence and frame.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        class_names: Sequence[str],
        *,
        every_class: bool = True,
        classes: frozenset[int] | None = None,
    ) -> None:
        unknown = [name for name in class_names[1:] if name not in LABEL_IDS]
        if unknown:
            raise InputError(f"expected Cityscapes' classes, {', '.join(LABEL_IDS)}. Received: {', '.join(unknown)}")
        self._folder = _empty_folder(folder)
        (self._folder / "masks").mkdir()
        self._written: dict[str, str] = {}
        self._label_ids = [0, *(LABEL_IDS[name] for name in class_names[1:])]
        self._every_class = every_class
        self._classes = classes

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        stem = stem_of(sample.image_id)
        other = self._written.setdefault(stem, sample.image_id)
        if other != sample.image_id:
            raise InputError(
                "expected one image of each city_sequence_frame, which names its result file. "
                f"Received: {brief(other)} and {brief(sample.image_id)}"
            )
        lines = []
        for number, instance in enumerate(instances):
            # The official code identifies a mask by its file name, so each (mask, class) needs its own file.
            buffer = io.BytesIO()
            Image.fromarray(instance.mask).save(buffer, format="PNG")
            for class_id, score in scored_classes(instance, every_class=self._every_class, classes=self._classes):
                name = f"masks/{stem}_{number:03d}_{self._label_ids[class_id]}.png"
                files.write_bytes(inside(self._folder, name), buffer.getvalue())
                lines.append(f"{name} {self._label_ids[class_id]} {score:.9g}\n")
        files.write_text(inside(self._folder, f"{stem}.txt"), "".join(lines))


def prediction_files(results: pathlib.Path, truth_files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Finds the result file of each annotation file.

    Raises:
        InputError: if an annotation has no result file or more than one.
    """
    if not results.is_dir():
        raise InputError(f"expected a folder of result files. Received: {results}")
    by_stem: dict[str, list[pathlib.Path]] = {}
    for path in sorted(results.rglob("*.txt")):
        by_stem.setdefault(stem_of(path.name), []).append(path)
    found = []
    for truth in truth_files:
        matching = by_stem.get(stem_of(truth.name), [])
        if len(matching) != 1:
            raise InputError(f"expected one result file for {truth.name}. Received: {len(matching)} in {results}")
        found.append(matching[0])
    return found


def stem_of(name: str) -> str:
    """Returns city_sequence_frame, with which the names of all files of an image begin."""
    found = re.match(r"[^_/]+_\d+_\d+", str(name).rsplit("/", 1)[-1])
    if not found:
        raise InputError(f"expected a name that begins with city_sequence_frame. Received: {name}")
    return found[0]


def _empty_folder(folder: str | pathlib.Path) -> pathlib.Path:
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder for results. Received: {folder}")
    return outputs.make_folder(folder, option="the output")
