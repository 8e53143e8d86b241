"""How an image with an EXIF orientation is read so that it matches its annotations.

Label tools disagree about the image that annotations refer to: the stored pixels, or the image as its EXIF orientation
turns it. The `width` and `height` beside the annotations usually tell which.
"""

import dataclasses
import pathlib
from typing import Any

from rsis_tf.data.readers.coco.annotation_file import Annotation
from rsis_tf.errors import InputError, brief
from rsis_tf.images import Header


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """The image that the annotations refer to.

    Attributes:
        shape: (H, W) of the image as it is read.
        as_stored: whether to leave out the EXIF orientation.
        scale: factors of x and y from the annotated polygons to the image.
        note: see `Inspection.note`.
    """

    shape: tuple[int, int]
    as_stored: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    note: str = ""


def frame_of(
    header: Header,
    annotated: tuple[int, int],
    annotations: list[Annotation],
    *,
    label_studio: bool,
    image_file: pathlib.Path,
    annotation_file: pathlib.Path,
) -> Frame:
    """Decides how an image is read.

    Args:
        header: of the image file.
        annotated: (height, width) in the annotation file.
        annotations: entries of the image.
        label_studio: whether Label Studio wrote the file. It writes the stored size beside polygons of the turned
            image, in per cent of the turned image; they are scaled back.
        image_file, annotation_file: for messages.

    Raises:
        InputError: if the image has another size, or a polygon shows that the annotations refer to neither image.
    """
    if header.size == annotated:
        unclear = header.orientation != 1 and header.stored_size == annotated and not label_studio
        return Frame(shape=annotated, note="exif_unclear" if unclear else "")
    if header.stored_size != annotated:
        exif = ""
        if header.orientation != 1:
            exif = f" (its EXIF orientation {header.orientation} turns the stored {size_text(header.stored_size)})"
        raise InputError(
            f"expected {size_text(annotated)} pixels as annotated. "
            f"Received: {size_text(header.size)} in {image_file}{exif}"
        )
    if label_studio:
        scale = header.size[1] / annotated[1], header.size[0] / annotated[0]
        return Frame(shape=header.size, scale=scale, note="exif_scaled")
    for annotation in annotations:
        if _leaves(annotation.segmentation, annotated):
            raise InputError(
                f"expected annotations of the stored image of {size_text(annotated)} pixels, the annotated size, or "
                f"the size of the image as its EXIF orientation {header.orientation} turns it, "
                f"{size_text(header.size)}. Received: a polygon that leaves the stored image in "
                f"annotation {brief(annotation.id)} of {annotation_file}, image {image_file}"
            )
    return Frame(shape=annotated, as_stored=True, note="exif_stored")


def size_text(shape: tuple[int, int]) -> str:
    """Returns "WxH" for (H, W)."""
    return f"{shape[1]}x{shape[0]}"


def _leaves(segmentation: Any, shape: tuple[int, int]) -> bool:
    """Whether a polygon leaves the image by more than a pixel, right or below, or run lengths have the turned size."""
    if not isinstance(segmentation, list):
        return isinstance(segmentation, dict) and segmentation.get("size") == list(shape[::-1])
    rings = [ring for ring in segmentation if isinstance(ring, list)]
    return any(
        isinstance(value, int | float) and value > shape[1 - position % 2] + 1
        for ring in rings
        for position, value in enumerate(ring)
    )
