"""All predictions of many pictures as one file in COCO's annotation format, without pycocotools."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rsis_tf.shapes import to_rle

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


class CocoFile:
    """Writes annotations as they come, so that the masks of many pictures need no memory.

    The file holds `images`, `annotations` and `categories` (1 … K−1): COCO's own tools open it as annotations, and its
    `annotations` alone are a result file. Beside COCO's keys an annotation has `score`, `step` (from 0) and `label`,
    the object's value in the label map (0 if earlier objects hide it).

    Args:
        path: of the JSON file; it gets this name in `finish`.
        category_ids: K numbers by which the file calls the classes; empty for 0 … K−1.
    """

    def __init__(self, path: pathlib.Path, category_ids: Sequence[int] = ()) -> None:
        self._path = path
        self._category_ids = tuple(category_ids)
        self._beside = path.with_name(f".{path.name}.part")
        self._images: list[dict[str, Any]] = []
        self._count = 0
        # What UTF-8 cannot hold (file names need not be text) becomes an escape of JSON.
        self._file = self._beside.open("w", encoding="utf-8", errors="backslashreplace")
        self._file.write('{"annotations": [')

    def add(self, file: str, size: tuple[int, int], instances: "Sequence[Instance]", labels: Sequence[int]) -> None:
        """Adds a picture.

        Args:
            file: its name.
            size: (H, W).
            instances: in predicted order, masks (H, W) bool.
            labels: the value of each instance in the label map.
        """
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": file, "height": int(size[0]), "width": int(size[1])})
        for instance, label in zip(instances, labels, strict=True):
            rows, columns = instance.mask.any(axis=1).nonzero()[0], instance.mask.any(axis=0).nonzero()[0]
            left, top = int(columns[0]), int(rows[0])
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": image_id,
                "category_id": self._number(instance.class_id),
                "segmentation": to_rle(instance.mask),
                "area": int(instance.mask.sum()),
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "iscrowd": 0,
                "score": round(float(instance.score), 6),
                "step": int(instance.step),
                "label": label,
            }
            self._file.write(",\n" if self._count > 1 else "\n")
            self._file.write(json.dumps(annotation))

    def finish(self, class_names: Sequence[str]) -> None:
        """Closes the file and gives it its name."""
        categories = [{"id": self._number(k), "name": name} for k, name in enumerate(class_names) if k > 0]
        rest = {"images": self._images, "categories": categories}
        self._file.write("\n],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
        self._file.close()
        os.replace(self._beside, self._path)

    def _number(self, class_id: int) -> int:
        return int(self._category_ids[class_id] if self._category_ids else class_id)

    def discard(self) -> None:
        """Removes what was written."""
        self._file.close()
        self._beside.unlink(missing_ok=True)
