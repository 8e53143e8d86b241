"""Predictions as a COCO result file, for any tool that reads those."""

import json
import os
import pathlib
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


def records(
    image_id: str | int,
    instances: "Sequence[Instance]",
    *,
    category_ids: Sequence[int] | None = None,
    every_class: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields the entries of one picture: image_id, category_id, segmentation (RLE), bbox, score, and step.

    Args:
        image_id: as in the annotation file; the text of a whole number is written as the number, as COCO has it.
        instances: in predicted order, masks (H, W) bool.
        category_ids: K ids by class, where the annotation file has others than 1 … K−1.
        every_class: one entry per class with score class probability × objectness, as in the original's evaluation.
    """
    from pycocotools import mask as coco_mask  # here, so that commands can say what to install

    if str(image_id).isdecimal() and str(int(image_id)) == str(image_id):
        image_id = int(image_id)
    for instance in instances:
        code = coco_mask.encode(np.asfortranarray(instance.mask.view(np.uint8)))
        entry = {
            "image_id": image_id,
            "segmentation": {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")},
            "bbox": [float(side) for side in coco_mask.toBbox(code)],
            "step": int(instance.step),
        }
        scored = [(instance.class_id, instance.score)]
        if every_class:
            scored = [(k, instance.class_probs[k] * instance.objectness) for k in range(1, len(instance.class_probs))]
        for class_id, score in scored:
            yield entry | {
                "category_id": int(category_ids[class_id] if category_ids else class_id),
                "score": float(score),
            }


class ResultsFile:
    """Writes a result file entry by entry; the name appears once the `with` block ends well.

        with ResultsFile("results.json") as results:
            evaluate(predictor, dataset, sinks=[results])

    Args:
        path: of the JSON file.
        category_ids, every_class: see `records`.
    """

    def __init__(
        self, path: str | pathlib.Path, *, category_ids: Sequence[int] | None = None, every_class: bool = False
    ) -> None:
        import pycocotools.mask  # noqa: F401 — without it this fails now and not after a whole prediction

        self._path = pathlib.Path(path)
        self._beside = self._path.with_name(f".{self._path.name}.part")
        self._options = {"category_ids": category_ids, "every_class": every_class}
        self._count = 0

    def __enter__(self) -> "ResultsFile":
        try:
            self._file = self._beside.open("w", encoding="utf-8")
        except OSError as error:
            received = f"{self._path} ({error.strerror})"
            raise InputError(f"expected a file that can be written. Received: {received}") from None
        self._file.write("[")
        return self

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        for record in records(sample.image_id, instances, **self._options):
            self._file.write(",\n" if self._count else "\n")
            self._file.write(json.dumps(record))
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._file.write("\n]\n")
        self._file.close()
        if kind is None:
            os.replace(self._beside, self._path)
        else:
            self._beside.unlink()
