"""Draws the first predictions of an evaluation: an overlay, and the sequence of steps beside the truth."""

import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsis_tf import outputs
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError
from rsis_tf.files import safe_name
from rsis_tf.visualization import overlay, sequence_strip, write_image

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


class OverlayFiles:
    """Writes `001_NAME_overlay.png` and `001_NAME_strip.png` for each of the first images; a sink.

    Args:
        folder: created if it does not exist.
        count: number of images to draw.

    Raises:
        InputError: if the count is below 1 or the folder cannot be created.
    """

    def __init__(self, folder: str | pathlib.Path, *, count: int) -> None:
        if count < 1:
            raise InputError(f"expected at least one image to draw. Received: {count}")
        self._folder = outputs.make_folder(folder, option="the output")
        self._count = count
        self._done = 0

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if self._done == self._count:
            return
        self._done += 1
        name = f"{self._done:03d}_" + safe_name(re.sub(r"[^\w.-]+", "_", sample.image_id))
        write_image(self._folder / f"{name}_overlay.png", overlay(sample.image, instances))
        write_image(self._folder / f"{name}_strip.png", sequence_strip(sample.image, instances, sample.label_map))
