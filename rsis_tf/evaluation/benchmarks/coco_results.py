"""Predictions as a COCO result file (https://cocodataset.org/#format-results), which many tools read."""

import contextlib
import json
import pathlib
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsis_tf import files
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError, reason_of
from rsis_tf.evaluation.predictions import scored_classes

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


def records(
    image_id: str | int,
    instances: "Sequence[Instance]",
    *,
    category_ids: Sequence[int] | None = None,
    every_class: bool = False,
    classes: frozenset[int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields the entries of one image: image_id, category_id, segmentation (RLE), score, and step.

    They have no box: pycocotools would take the area of an object from its box in place of its mask.

    Args:
        image_id: as in the annotation file; the text of a whole number is written as a number, as COCO requires.
        instances: in predicted order, masks (H, W) bool.
        category_ids: K ids by class, for annotation files whose ids are not 1 … K−1.
        every_class: one entry for each class with score class probability × objectness, as in the original's
            evaluation.
        classes: ids of the classes to write; None for all.
    """
    from pycocotools import mask as coco_mask  # an extra that a base install does not have

    if str(image_id).isdecimal() and str(int(image_id)) == str(image_id):
        image_id = int(image_id)
    for instance in instances:
        code = coco_mask.encode(np.asfortranarray(instance.mask.view(np.uint8)))
        entry = {
            "image_id": image_id,
            "segmentation": {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")},
            "step": int(instance.step),
        }
        for class_id, score in scored_classes(instance, every_class=every_class, classes=classes):
            yield entry | {"category_id": int(category_ids[class_id] if category_ids else class_id), "score": score}


class ResultsFile:
    """Writes a result file entry by entry; a sink. The file gets its name when the `with` block ends without an error.

        with ResultsFile("results.json") as results:
            evaluate(predictor, dataset, sinks=[results])

    Args:
        path: path of the JSON file; its folder must exist.
        category_ids, every_class, classes: see `records`.

    Raises:
        InputError: if the file cannot be written.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        *,
        category_ids: Sequence[int] | None = None,
        every_class: bool = False,
        classes: frozenset[int] | None = None,
    ) -> None:
        import pycocotools.mask  # noqa: F401 — without it this fails here and not after the whole dataset was predicted

        self._path = pathlib.Path(path)
        self._category_ids = category_ids
        self._every_class = every_class
        self._classes = classes
        self._count = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "ResultsFile":
        with contextlib.ExitStack() as stack:
            try:
                partial = stack.enter_context(files.replacing(self._path))
                self._file = stack.enter_context(partial.open("w", encoding="utf-8"))
                self._file.write("[")
            except OSError as error:
                received = f"{self._path} ({reason_of(error)})"
                raise InputError(f"expected a file that can be written. Received: {received}") from None
            self._stack = stack.pop_all()
        return self

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        found = records(
            sample.image_id,
            instances,
            category_ids=self._category_ids,
            every_class=self._every_class,
            classes=self._classes,
        )
        for record in found:
            self._file.write(",\n" if self._count else "\n")
            self._file.write(json.dumps(record))
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:  # the partial file is removed if its last line cannot be written
            self._file.write("\n]\n")
