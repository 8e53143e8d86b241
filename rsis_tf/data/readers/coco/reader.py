"""The reader of datasets in COCO's format: one JSON file of annotations per split, and its images."""

import collections
import pathlib
import unicodedata
from collections.abc import Collection
from typing import Any

import numpy as np

from rsis_tf.data.labels import hidden_objects, reduced_labels, relabel
from rsis_tf.data.paths import outside_remarks
from rsis_tf.data.readers.coco.annotation_file import Annotation, ImageEntry, read_annotation_file
from rsis_tf.data.readers.coco.frame import Frame, frame_of, size_text
from rsis_tf.data.readers.coco.layouts import Located, locate
from rsis_tf.data.readers.coco.segmentation import paint, paint_objects, polygons, run_lengths
from rsis_tf.data.readers.validation_share import part_of
from rsis_tf.data.sample import VOID, FileDataset, Inspection, Sample
from rsis_tf.errors import InputError, brief, printable
from rsis_tf.files import is_file
from rsis_tf.images import Header, ReducedImage, list_images, read_header, read_image, read_reduced


class CocoDataset(FileDataset):
    """A split of a dataset in COCO's format.

    `rsis_tf.data.readers.coco.layouts` lists the layouts. Segmentations may be polygons, or run lengths, compressed or
    not. Classes 1 … K−1 are the categories in the order of their ids; a category that only groups others is not a
    class. Where objects overlap, the smaller one is on top. Images without annotations are kept. Images come in the
    order of the file.

    Images with an EXIF orientation are read as `rsis_tf.data.readers.coco.frame` describes.

    Args:
        root: the dataset's folder; may be None if files are named.
        split: "train", "val" or "test"; "all" for a dataset without splits.
        annotations, val_annotations, images, val_images, val_share: see `rsis_tf.data.readers.coco.layouts.locate`.
        crowds: what annotations with `iscrowd` 1 are: "ignore", regions that are ignored, as in COCO; "objects", like
            other annotations; "auto", ignored, except for the brush masks of CVAT, which sets `iscrowd` for them.
        class_names: names that are classes even if no object has them, such as those of a model.
        check: whether to make sure at once that every image exists and that the annotations are sound. If False,
            missing images are found when they are read, and wrong annotations are left out and listed in `problems`.

    Raises:
        InputError: if a folder or file is missing or the annotations are not in COCO's format.
    """

    def __init__(
        self,
        root: str | pathlib.Path | None,
        split: str,
        *,
        annotations: str | None = None,
        val_annotations: str | None = None,
        images: str | None = None,
        val_images: str | None = None,
        val_share: float | None = None,
        crowds: str = "auto",
        class_names: Collection[str] = (),
        check: bool = True,
    ):
        located = locate(
            root,
            split,
            annotations=annotations,
            val_annotations=val_annotations,
            images=images,
            val_images=val_images,
            val_share=val_share,
        )
        file = read_annotation_file(located.annotation_file, located.siblings, class_names)
        self.annotation_file = located.annotation_file
        self.annotation_files = [located.annotation_file]
        self.problems = file.problems
        self.remarks = file.remarks
        self.dropped_categories = tuple(file.dropped)
        if check and self.problems:
            raise InputError(_first_of(self.problems))
        self._label_studio = file.contributor == "Label Studio"
        self._own_folder = located.own_folder
        self._part = located.part
        self._all_files = _image_files(located, [entry.file_name for entry in file.images])
        self._images = file.images
        if located.part is not None:
            names = [entry.file_name for entry in file.images]
            self._images = part_of(file.images, names, split=located.part, share=val_share or 0)
        if not self._images:
            raise InputError(f"expected at least one image. Received: none in {self.annotation_file}")
        self.image_files = [self._all_files[entry.file_name] for entry in self._images]
        folders = (*located.image_folders, located.annotation_file.parent, *([] if root is None else [root]))
        names = [entry.file_name for entry in self._images]
        self.remarks += outside_remarks(names, self.image_files, folders, self.annotation_file)
        # Text ids sort after numbers; a file with both kinds has that as a problem.
        categories = sorted(file.categories, key=lambda entry: (isinstance(entry.id, str), entry.id))
        ids = (int(entry.id) if isinstance(entry.id, float) else entry.id for entry in categories)
        self.category_ids = (0, *ids)
        self.class_names = ("background", *(printable(str(entry.name)) for entry in categories))
        self._class_of = {entry.id: number for number, entry in enumerate(categories, start=1)}
        self._annotations: dict[Any, list[Annotation]] = {entry.id: [] for entry in file.images}
        for annotation in file.annotations:
            self._annotations[annotation.image_id].append(annotation)
        self.masks_marked_as_crowds = crowds == "auto" and file.brush_masks
        self.crowds = crowds
        if check:
            self._require_images(located)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Sample:
        """Reads a sample, see `FileDataset.read`."""
        entry = self._images[index]
        image = read_reduced(self.image_files[index], at_least)
        frame = Frame(shape=entry.shape)
        if image.size != frame.shape:
            frame = self._frame(index, read_header(self.image_files[index]))
            if frame.as_stored:
                pixels = read_image(self.image_files[index], as_stored=True)
                image = ReducedImage(pixels=pixels, size=(pixels.shape[0], pixels.shape[1]), reduction=1)
        label_map, classes, _ = self._labels(entry, frame)
        label_map, classes = reduced_labels(label_map, classes, image.reduction)
        image_id = str(int(entry.id)) if isinstance(entry.id, float) else str(entry.id)  # some tools write 3.0 for 3
        return Sample(image=image.pixels, label_map=label_map, classes=classes, image_id=image_id)

    def files(self, index: int) -> list[pathlib.Path]:
        """Returns the files that a sample is read from."""
        return [self.image_files[index], self.annotation_file]

    def inspect(self, index: int) -> Inspection:
        """Checks the annotations and the header of an image; decodes nothing, and paints only what may be empty."""
        frame = self._frame(index, read_header(self.image_files[index]))
        counts = dict.fromkeys(("objects", "empty", "crowds"), 0)
        for annotation in self._annotations[self._images[index].id]:
            where, segmentation = self._where(annotation), annotation.segmentation
            rings: list[list[float]] = []
            if segmentation and isinstance(segmentation, list):
                rings = polygons(segmentation, frame.shape, where, scale=frame.scale)
            visible = (
                any(_has_pixels(ring, frame.shape) for ring in rings)
                or sum(run_lengths(segmentation, frame.shape, where, scale=frame.scale)[1::2]) > 0
            )
            counts["crowds" if self._is_crowd(annotation) else "objects" if visible else "empty"] += 1
        return Inspection(note=frame.note, **counts)

    def findings(self, index: int) -> list[str]:
        """Returns what is wrong with the annotations of one image, each with the file and the annotation's id.

        Raises:
            InputError: if the image file cannot be read, or has another size.
        """
        frame = self._frame(index, read_header(self.image_files[index]))
        return self._labels(self._images[index], frame, lenient=True)[2]

    def unlisted_files(self) -> list[pathlib.Path]:
        """Returns the image files in the split's own folder that the annotations do not list, sorted."""
        if self._own_folder is None or self._part == "val":  # all splits share the folder
            return []
        # macOS finds a file by either form of its name.
        listed = set(map(_composed, self._all_files.values()))
        return [path for path in list_images(self._own_folder) if _composed(path) not in listed]

    def _frame(self, index: int, header: Header) -> Frame:
        entry = self._images[index]
        return frame_of(
            header,
            entry.shape,
            self._annotations[entry.id],
            label_studio=self._label_studio,
            image_file=self.image_files[index],
            annotation_file=self.annotation_file,
        )

    def _labels(
        self, entry: ImageEntry, frame: Frame, *, lenient: bool = False
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Paints the objects of an image.

        Returns:
            Label map (H, W) int32, classes (n,) int32, and what is wrong. Unless `lenient`, what is wrong is raised.
        """
        # COCO's run lengths go down the columns: in the transposed map, each run is one slice.
        columns = np.zeros(frame.shape[0] * frame.shape[1], np.int32)
        objects, classes, sources = [], [], []
        findings: list[str] = []
        for annotation in self._annotations[entry.id]:
            where = self._where(annotation)
            try:
                runs = run_lengths(annotation.segmentation, frame.shape, where, scale=frame.scale)
            except InputError as error:
                if not lenient:
                    raise
                findings.append(str(error))
                continue
            if lenient:
                findings += _remarks(annotation.segmentation, runs, frame.shape, where)
            if self._is_crowd(annotation):
                paint(columns, runs, VOID)
            else:
                objects.append(runs)
                classes.append(self._class_of[annotation.category_id])
                sources.append(annotation)
        areas = paint_objects(columns, objects)
        if lenient:
            findings += hidden_objects(columns, areas, list(map(self._where, sources)))
        label_map = np.ascontiguousarray(columns.reshape(frame.shape[::-1]).T)  # (H, W)
        return *relabel(label_map, np.array(classes, np.int32)), findings

    def _is_crowd(self, annotation: Annotation) -> bool:
        if not annotation.iscrowd or self.crowds == "objects":
            return False
        return not (self.masks_marked_as_crowds and isinstance(annotation.segmentation, dict))

    def _where(self, annotation: Annotation) -> str:
        return f"annotation {brief(annotation.id)} of {self.annotation_file}"

    def _require_images(self, located: Located) -> None:
        missing = [entry.file_name for entry, path in zip(self._images, self.image_files, strict=True)
                   if not is_file(path)]  # fmt: skip
        if missing:
            raise InputError(
                f"expected the images of {self.annotation_file} in {', '.join(map(str, located.image_folders))}. "
                f"Received: {missing[0][:200]} (no such file; {len(missing)} of {len(self)} missing)"
            )


def _image_files(located: Located, names: list[str]) -> dict[str, pathlib.Path]:
    """Returns the path of every file name: as written, with backslashes as slashes, or only its last part.

    Letters with accents are also looked for in the other form of Unicode: archives from macOS take them apart.
    """
    slashed = {name: name.replace("\\", "/") for name in names}
    # Some versions of Label Studio write folders that are not in the archive; then the last part must be enough.
    last = collections.Counter(path.rsplit("/", 1)[-1] for path in set(slashed.values()))
    files = {}
    for name, path in slashed.items():
        base = path.rsplit("/", 1)[-1]
        parts = [name, path, *([base] if base != path and last[base] == 1 else [])]
        if not name.isascii():
            composed = [unicodedata.normalize("NFC", part) for part in parts]
            parts += composed + [unicodedata.normalize("NFD", part) for part in parts]
        tried = [folder / part for part in dict.fromkeys(parts) for folder in located.image_folders]
        files[name] = next((file for file in tried if is_file(file)), tried[0])
    return files


def _composed(path: pathlib.Path) -> pathlib.Path:
    """Returns a path with every letter as one character, as most systems write it."""
    return pathlib.Path(unicodedata.normalize("NFC", str(path)))


def _has_pixels(ring: list[float], shape: tuple[int, int]) -> bool:
    """Whether a polygon lies in the image and is not narrow, so that it has pixels; False if they must be counted."""
    xs, ys = np.array(ring[0::2]), np.array(ring[1::2])
    if len(xs) < 3 or min(xs.min(), ys.min()) < 0 or xs.max() > shape[1] or ys.max() > shape[0]:
        return False
    next_xs, next_ys = np.roll(xs, -1), np.roll(ys, -1)
    area = abs(np.dot(xs, next_ys) - np.dot(next_xs, ys)) / 2
    # A polygon holds a circle whose radius is its area / outline: from 1 on, the circle holds the centre of a pixel.
    return area >= np.hypot(next_xs - xs, next_ys - ys).sum()


def _reaches_into(ring: list[float], shape: tuple[int, int]) -> bool:
    """Whether a polygon has an area and its bounding box overlaps the image."""
    xs, ys = ring[0::2], ring[1::2]
    return len(xs) >= 3 and max(xs) > 0 and max(ys) > 0 and min(xs) < shape[1] and min(ys) < shape[0]


def _remarks(segmentation: Any, runs: list[int], shape: tuple[int, int], where: str) -> list[str]:
    """Returns what is wrong with a segmentation that can be read."""
    rings = segmentation if isinstance(segmentation, list) else []
    short = [len(ring) // 2 for ring in rings if len(ring) < 6]
    if short:
        return [f"expected polygons of at least 3 points. Received: one of {short[0]} in {where}"]
    if sum(runs[1::2]):
        return []
    if rings and not any(_reaches_into(ring, shape) for ring in rings):
        return [f"expected a polygon in the image of {size_text(shape)} pixels. Received: one outside, {where}"]
    return [f"expected a mask with pixels. Received: an empty one, {where}"]


def _first_of(problems: list[str]) -> str:
    more = f" (the first of {len(problems)} problems)" if len(problems) > 1 else ""
    return problems[0] + more
