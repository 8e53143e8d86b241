"""The predictions of many images as one file in COCO's annotation format, without pycocotools."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from rsis_tf.batch_prediction.sources import Place
from rsis_tf.runtime import Instances


class CocoFile:
    """Writes annotations as they come, so that the masks of many images need no memory.

    The file holds `images`, `annotations` and `categories` (1 … K−1): COCO's own tools open it as annotations, and its
    `annotations` alone are a result file (see `rsis_tf.runtime.Instances.to_coco`). Beside COCO's keys, an annotation
    has `score`, `step` (from 0) and `label`, the object's value in the label map (0 if earlier objects hide it). If
    identities are followed, an annotation has `track_id` and `video_id`, an image has `video_id` and `frame_index`, and
    `videos` lists the sequences (the keys of the TAO dataset, Dave et al., 2020).

    Args:
        path: of the JSON file, which is complete after `finish`.
        category_ids: K numbers of the classes in the file; empty for 0 … K−1.
    """

    def __init__(self, path: pathlib.Path, category_ids: Sequence[int] = ()) -> None:
        self._category_ids = tuple(category_ids)
        self._images: list[dict[str, Any]] = []
        self._videos: dict[str, int] = {}  # path → id
        self._count = 0
        # What UTF-8 cannot hold (a file name may be any bytes) becomes an escape of JSON.
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self._file.write('{"annotations": [')

    def add(
        self,
        file: str,
        instances: Instances,
        labels: Sequence[int],
        *,
        place: Place | None = None,
        track_ids: Sequence[int] = (),
    ) -> None:
        """Adds an image.

        Args:
            file: its name.
            instances: in predicted order.
            labels: the value of each instance in the label map.
            place: in a sequence of frames.
            track_ids: the identity of each instance in that sequence.
        """
        image_id = len(self._images) + 1
        height, width = instances.size
        image = {"id": image_id, "file_name": file, "height": height, "width": width}
        video: dict[str, Any] = {}
        if place is not None:
            video = {"video_id": self._videos.setdefault(place.title, len(self._videos) + 1)}
            image |= {**video, "frame_index": place.frame}
        self._images.append(image)
        found = instances.to_coco(image_id, self._category_ids)
        for number, (instance, row, label) in enumerate(zip(instances, found, labels, strict=True)):
            self._count += 1
            annotation = {"id": self._count, **row, "step": int(instance.step), "label": label}
            if place is not None:
                annotation |= {"track_id": track_ids[number], **video}
            self._file.write(",\n" if self._count > 1 else "\n")
            self._file.write(json.dumps(annotation))

    def finish(self, class_names: Sequence[str]) -> None:
        """Writes images and categories and closes the file."""
        numbers = self._category_ids or range(len(class_names))
        categories = [{"id": int(numbers[k]), "name": name} for k, name in enumerate(class_names) if k > 0]
        rest: dict[str, Any] = {"info": {}, "images": self._images, "categories": categories}
        if self._videos:
            rest["videos"] = [{"id": number, "name": name} for name, number in self._videos.items()]
        with self._file:
            self._file.write("\n],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")

    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()
