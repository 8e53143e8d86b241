"""Pictures of the first predictions of an evaluation: overlay, and the sequence beside the truth."""

import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError
from rsis_tf.visualization import overlay, sequence_strip, write_image

if TYPE_CHECKING:
    from rsis_tf.runtime import Instance


class PictureFiles:
    """Writes `001_NAME_overlay.png` and `001_NAME_strip.png` for the first pictures shown to it.

    Args:
        folder: made if it is not there.
        count: pictures to draw; later ones are passed over.
    """

    def __init__(self, folder: str | pathlib.Path, *, count: int) -> None:
        if count < 1:
            raise InputError(f"expected at least one picture to draw. Received: {count}")
        self._folder = pathlib.Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            received = f"{folder} ({error.strerror})"
            raise InputError(f"expected a folder that can be written to. Received: {received}") from None
        self._count = count
        self._done = 0

    def __call__(self, sample: Sample, instances: "Sequence[Instance]") -> None:
        if self._done == self._count:
            return
        self._done += 1
        name = f"{self._done:03d}_" + re.sub(r"[^\w.-]+", "_", sample.image_id)
        write_image(self._folder / f"{name}_overlay.png", overlay(sample.image, instances))
        write_image(self._folder / f"{name}_strip.png", sequence_strip(sample.image, instances, sample.label_map))
