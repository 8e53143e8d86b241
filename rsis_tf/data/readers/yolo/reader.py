"""The reader of datasets in YOLO's format."""

import pathlib

import numpy as np

from rsis_tf.data.class_names import with_background
from rsis_tf.data.labels import hidden_objects, reduced_labels, relabel
from rsis_tf.data.paths import check_files
from rsis_tf.data.readers.coco.segmentation import paint_objects, run_lengths
from rsis_tf.data.readers.yolo.layout import label_file, locate
from rsis_tf.data.readers.yolo.rows import Row, read_rows
from rsis_tf.data.sample import FileDataset, Inspection, Sample
from rsis_tf.errors import InputError
from rsis_tf.files import is_file
from rsis_tf.images import list_images, read_header, read_reduced


class YoloDataset(FileDataset):
    """A split of a dataset for YOLO's instance segmentation.

    `rsis_tf.data.readers.yolo.layout` lists the layouts. Classes 1 … K−1 are those of the YAML file in the order of
    their numbers. Where objects overlap, the smaller one is on top. An image without a label file has no objects.
    Outlines refer to the image as it is displayed, turned by its EXIF orientation. Images are sorted by path.

    Args:
        root: the folder with `data.yaml` or `classes.txt`.
        split: "train", "val" or "test"; "all" for the images of all splits.
        val_share: the share of a dataset without validation split that is "val"; the rest is "train".
        check: see `FileDataset`.

    Raises:
        InputError: if a folder or file is missing, or two classes have the same name.
    """

    def __init__(
        self, root: str | pathlib.Path, split: str, *, val_share: float | None = None, check: bool = True
    ) -> None:
        located = locate(root, split, val_share=val_share)
        self.image_files = located.images
        self._label_files = [label_file(path) for path in located.images]
        existing = [path for path in self._label_files if is_file(path)]
        self.annotation_files = [located.source, *existing]
        self._source = located.source
        self.class_names = with_background(located.names.values(), located.source)
        stems = [path.stem for path in located.images]
        self._ids = stems if len(set(stems)) == len(stems) else [path.as_posix() for path in located.images]
        self._class_of = {number: position for position, number in enumerate(located.names, start=1)}
        self.remarks = self._without_image()
        if check:
            check_files(self.image_files, located.source)
            if not existing:
                raise InputError(
                    "expected label files in folders named labels, beside those named images. "
                    f"Received: none, the first would be {self._label_files[0]}"
                )

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample, see `FileDataset.read`."""
        image = read_reduced(self.image_files[index], at_least)
        label_map, classes, _, _ = self._painted(index, image.size)
        label_map, classes = reduced_labels(*relabel(label_map, classes), image.reduction)
        return Sample(image=image.pixels, label_map=label_map, classes=classes, image_id=self._ids[index])

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        labels = self._label_files[index]
        return [self.image_files[index], self._source, *([labels] if is_file(labels) else [])]

    def inspect(self, index: int) -> Inspection:
        """Reads the label file and the header of the image."""
        header = read_header(self.image_files[index])
        label_map, classes, empty, _ = self._painted(index, header.size)
        # Shares of the sides never tell which way an image was turned when it was annotated.
        note = "" if header.orientation == 1 else "exif_unclear"
        return Inspection(objects=len(relabel(label_map, classes)[1]), empty=empty, note=note)

    def findings(self, index: int) -> list[str]:
        """Returns the outlines without a pixel and those that others hide completely."""
        return self._painted(index, read_header(self.image_files[index]).size)[3]

    def _painted(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int, list[str]]:
        """Returns the label map (H, W) int32, classes (n,) int32, the number of rows without a pixel, and findings."""
        rows = read_rows(self._label_files[index])
        classes = np.array([self._class(row) for row in rows], np.int32)
        runs = [run_lengths([row.polygon(shape)], shape, row.where) for row in rows]
        columns = np.zeros(shape[0] * shape[1], np.int32)  # down the columns, as the runs
        areas = paint_objects(columns, runs)
        findings = hidden_objects(columns, areas, [row.where for row in rows])
        findings += [
            f"expected an outline with pixels. Received: an empty one, {row.where}"
            for row, area in zip(rows, areas, strict=True)
            if not area
        ]
        label_map = np.ascontiguousarray(columns.reshape(shape[::-1]).T)  # (H, W)
        return label_map, classes, areas.count(0), findings

    def _class(self, row: Row) -> int:
        if row.class_number not in self._class_of:
            known = ", ".join(map(str, list(self._class_of)[:20]))
            raise InputError(
                f"expected the number of a class of {self._source}, one of {known}. "
                f"Received: {row.class_number}, {row.where}"
            )
        return self._class_of[row.class_number]

    def _without_image(self) -> list[str]:
        """Returns a line for each folder of labels that holds label files of no image."""
        lines = []
        pairs = zip(self._label_files, self.image_files, strict=True)
        for labels, images in sorted({(labels.parent, image.parent) for labels, image in pairs}):
            # In a folder of images there may be other texts.
            if labels == images or not (labels.is_dir() and images.is_dir()):
                continue
            known = {path.stem for path in list_images(images)} | {"classes"}
            others = sorted(path for path in labels.glob("*.txt") if path.stem not in known)
            if others:
                lines.append(
                    f"expected an image for every label file. Received: {others[0]} ({len(others)} in {labels})"
                )
        return lines
