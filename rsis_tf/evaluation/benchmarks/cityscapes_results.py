"""Result files in the format of the Cityscapes benchmark; its server takes them too."""

import io
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError
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
    """Writes predictions in the benchmark's format, picture by picture.

    `FOLDER/<city>_<sequence>_<frame>.txt` names one mask a line, with its label id and confidence;
    the masks lie in `FOLDER/masks/`, white on black, one bit a pixel.

    Args:
        folder: must be new or empty: old files in it would be scored too.
        class_names: K names; each but the first must be one of `LABEL_IDS`.
        every_class: write each mask once for every class, with confidence class probability × objectness, as the
            original does; if false once, for its best class.
    """

    def __init__(self, folder: str | pathlib.Path, class_names: Sequence[str], *, every_class: bool = True) -> None:
        unknown = [name for name in class_names[1:] if name not in LABEL_IDS]
        if unknown:
            raise InputError(f"expected Cityscapes' classes, {', '.join(LABEL_IDS)}. Received: {', '.join(unknown)}")
        self._folder = _empty_folder(folder)
        (self._folder / "masks").mkdir()
        self._label_ids = [0, *(LABEL_IDS[name] for name in class_names[1:])]
        self._every_class = every_class

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        stem = stem_of(sample.image_id)
        lines = []
        for number, instance in enumerate(instances):
            # The official code knows a mask by its file name, so each (mask, class) needs a file of its own.
            buffer = io.BytesIO()
            Image.fromarray(instance.mask).save(buffer, format="PNG")
            scored = [(instance.class_id, instance.score)]
            if self._every_class:
                scored = [(k, instance.class_probs[k] * instance.objectness) for k in range(1, len(self._label_ids))]
            for class_id, score in scored:
                name = f"masks/{stem}_{number:03d}_{self._label_ids[class_id]}.png"
                inside(self._folder, name).write_bytes(buffer.getvalue())
                lines.append(f"{name} {self._label_ids[class_id]} {float(score):.9g}\n")
        inside(self._folder, f"{stem}.txt").write_text("".join(lines), encoding="utf-8")


def prediction_files(results: pathlib.Path, truth_files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    if not results.is_dir():
        raise InputError(f"expected a folder of result files. Received: {results}")
    there: dict[str, list[pathlib.Path]] = {}
    for path in sorted(results.rglob("*.txt")):
        there.setdefault(stem_of(path.name), []).append(path)
    files = []
    for truth in truth_files:
        mine = there.get(stem_of(truth.name), [])
        if len(mine) != 1:
            raise InputError(f"expected one result file for {truth.name}. Received: {len(mine)} in {results}")
        files.append(mine[0])
    return files


def stem_of(name: str) -> str:
    """Returns city_sequence_frame, which all files of a picture share."""
    found = re.match(r"[^_/]+_\d+_\d+", str(name).rsplit("/", 1)[-1])
    if not found:
        raise InputError(f"expected a name that begins with city_sequence_frame. Received: {name}")
    return found[0]


def _empty_folder(folder: str | pathlib.Path) -> pathlib.Path:
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder for results. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
