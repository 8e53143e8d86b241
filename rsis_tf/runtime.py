"""Runs an exported ONNX model with numpy, Pillow and onnxruntime alone. An application may copy this one file.

    from rsis_tf.runtime import Predictor

    predictor = Predictor("model.onnx")
    found = predictor("photo.jpg")  # or an array, or a PIL image, of any size
    for instance in found:
        print(instance.step, instance.class_name, instance.score, instance.box)
    found.save("overlay.png", image="photo.jpg")

From top to bottom: results (`Instance`, `Instances`) and the forms that other programs read; images (`as_image`);
`decode`, from probabilities to instances; `Options` and `ModelInfo`; `BasePredictor`, which every backend of the
project derives from; `Predictor`, which runs ONNX files.
"""

import collections
import contextlib
import dataclasses
import hashlib
import importlib
import itertools
import json
import math
import numbers
import os
import pathlib
import re
import struct
import threading
import types
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol, Self, overload

import numpy as np
from PIL import Image, ImageDraw, ImageFile, ImageFont, ImageOps

Array = np.ndarray
OUTPUTS = ("masks", "classes", "stop")
"""The outputs of every exported graph: (B, T, h, w), (B, T, K) and (B, T) probabilities."""
STEP_OUTPUTS = ("logits_of_step", "classes_of_step", "stop_of_step")
"""The same of one step of a stepwise export, (B, h, w), (B, K) and (B,), but masks are logits at their own size."""
GRAPHS = ("encoder", "step", "masks")
"""The graphs of a stepwise export: the names of their files without suffix, and `graphs` in the metadata."""
EARLIER_STEP_OUTPUTS = ("mask", "classes_of_step", "stop_of_step")
"""Those of a stepwise export of an earlier version: masks are probabilities at the size the network runs at."""
STOP_MODES = ("first", "each")
ASPECTS = ("stretch", "keep")
"""How an image of another shape fills the network's frame: each axis is scaled by itself, or the image is scaled as a
whole and padded."""


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal, break a line or turn the direction of text, and halves of surrogate pairs."""


def printable(text: str) -> str:
    """Returns text for the screen: a character that would control the terminal becomes its escape, such as `\\x1b`."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class InputError(ValueError):
    """A file, an image or an option that cannot be used; the message is one line that ends in what was received.

    Control characters in the message are shown as escapes: names of files and classes come from outside.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


RuntimeInputError = InputError
"""The name of an earlier version."""


# --- Results -------------------------------------------------------------------------------------------------------

PALETTE: tuple[tuple[int, int, int], ...] = (
    (0x00, 0x77, 0xAA),
    (0xEE, 0x99, 0x00),
    (0x55, 0xBB, 0xEE),
    (0xDD, 0x66, 0x00),
    (0x00, 0x99, 0x77),
    (0xEE, 0xDD, 0x44),
    (0xCC, 0x77, 0xAA),
    (0x99, 0x00, 0xFF),
    (0xBB, 0x44, 0x22),
    (0x77, 0xDD, 0xFF),
    (0x66, 0x11, 0xAA),
    (0x99, 0xCC, 0x88),
    (0xDD, 0x00, 0xBB),
    (0x99, 0x00, 0x00),
    (0xBB, 0xEE, 0x99),
    (0x77, 0x33, 0x66),
    (0x77, 0xAA, 0x66),
    (0x99, 0xFF, 0xDD),
    (0x99, 0x44, 0x55),
    (0x99, 0x77, 0xEE),
)
"""Twenty colours: the seven of Okabe and Ito, then others that were chosen to be far from all of them.

Neighbours in the list differ clearly. The distance is measured in OKLab and is the smallest over normal vision,
protanopia, deuteranopia and tritanopia (simulated after Machado, Oliveira and Fernandes, 2009). Drawings number the
objects as well, so that no reader depends on colour alone.
"""


MOST_NUMBERED = 60
"""Objects that a drawing numbers; the tags of more would hide the image."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CroppedMask:
    """A mask of an image, stored as the pixels in its box: thousands of objects in a large image need little memory.

    Attributes:
        crop: (h, w) bool.
        corner: (x0, y0) of the crop in the image.
        size: (H, W) of the image.
    """

    crop: Array
    corner: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, mask: Array) -> "CroppedMask":
        """Crops an (H, W) mask to the box around its pixels; an empty mask becomes an empty crop.

        Raises:
            InputError: if it is not an array with two axes.
        """
        if not isinstance(mask, np.ndarray) or mask.ndim != 2:
            raise InputError(f"a mask must be an (H, W) bool array. Received: {_described(mask)}")
        return cls(crop=mask, corner=(0, 0), size=mask.shape).trimmed()

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) of the crop in pixels of the image; x1 and y1 are exclusive. All 0 for an empty crop."""
        (x0, y0), (height, width) = self.corner, self.crop.shape
        return x0, y0, x0 + width, y0 + height

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the image that the crop covers: `image[mask.window][mask.crop]` are its pixels."""
        x0, y0, x1, y1 = self.box
        return slice(y0, y1), slice(x0, x1)

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.crop))

    def full(self) -> Array:
        """Returns the mask as a new (H, W) array."""
        mask = np.zeros(self.size, self.crop.dtype)
        mask[self.window] = self.crop
        return mask

    def trimmed(self) -> "CroppedMask":
        """Returns the same mask with the smallest crop, a copy."""
        rows, columns = np.flatnonzero(self.crop.any(axis=1)), np.flatnonzero(self.crop.any(axis=0))
        if len(rows) == 0:
            return dataclasses.replace(self, crop=self.crop[:0, :0].copy(), corner=(0, 0))
        top, left = int(rows[0]), int(columns[0])
        crop = self.crop[top : rows[-1] + 1, left : columns[-1] + 1].copy()
        return dataclasses.replace(self, crop=crop, corner=(self.corner[0] + left, self.corner[1] + top))

    def widened(self, margin: int) -> "CroppedMask":
        """Returns the same mask with a crop that is larger by `margin` pixels on each side, within the image."""
        x0, y0, x1, y1 = self.box
        left, top = min(margin, x0), min(margin, y0)
        right, bottom = min(margin, self.size[1] - x1), min(margin, self.size[0] - y1)
        return dataclasses.replace(
            self, crop=np.pad(self.crop, ((top, bottom), (left, right))), corner=(x0 - left, y0 - top)
        )

    def moved(self, x: int, y: int, size: tuple[int, int]) -> "CroppedMask":
        """Returns the mask in a larger image of the size (H, W), in which this image begins at (x, y).

        What lies outside of that image is cut off.
        """
        (left, top), (height, width) = self.corner, self.crop.shape
        bottom, right = max(min(height, size[0] - y - top), 0), max(min(width, size[1] - x - left), 0)
        inside = self.crop[:bottom, :right]
        moved = dataclasses.replace(self, crop=inside, corner=(left + x, top + y), size=size)
        return moved if inside.shape == self.crop.shape else moved.trimmed()


class _MaskField:
    """Makes `Instance.mask` a full mask to its users, and stores it as `Instance.cropped`."""

    def __get__(self, instance: "Instance", owner: type | None = None) -> Array:
        return instance.cropped.full()

    def __set__(self, instance: "Instance", value: Array | CroppedMask) -> None:
        cropped = value if isinstance(value, CroppedMask) else CroppedMask.of(value)
        object.__setattr__(instance, "cropped", cropped)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Instance:
    """One predicted object.

    Attributes:
        mask: (H, W) bool, at the size of the input image; a new array each time. May be given as a `CroppedMask`.
        cropped: the same as a `CroppedMask`, which is how it is stored.
        class_id: 1 … K−1.
        class_name: name of the class.
        score: class probability × objectness × `mask_score`.
        step: t, the position in the predicted sequence, from 0.
        objectness: probability that step t holds an object.
        class_probs: (K,) float32, probabilities of all classes, 0 = background.
        mask_score: how sure the network is of the mask's pixels: the mean of their probabilities, weighted by
            themselves (Σp² / Σp); 1 if they are 0 and 1.
    """

    mask: Array
    cropped: CroppedMask = dataclasses.field(init=False)
    class_id: int
    class_name: str
    score: float
    step: int
    objectness: float
    class_probs: Array
    mask_score: float = 1.0

    def __repr__(self) -> str:
        return f"Instance({printable(self.class_name)}, score {self.score:.2f}, step {self.step}, {self.area} pixels)"

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return self.cropped.area

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in pixels around the mask; x1 and y1 are exclusive. All 0 for an empty mask."""
        return self.cropped.box


# After `dataclass`, which would take it for the default of the field.
Instance.mask = _MaskField()  # type: ignore[assignment]


class Instances(Sequence[Instance]):
    """The objects predicted in one image, a sequence of `Instance` in predicted order.

    It cannot be changed. It equals any list or tuple of the same `Instance` objects; slices are `Instances` too.

    Args:
        instances: in predicted order, masks (H, W) bool.
        size: (H, W) of the image.
        full: whether a sequence used all its steps, the objectness of each of which reaches the stop threshold: the
            image may hold more objects than were found. Filters and slices keep it.

    Raises:
        InputError: for a mask of another size.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, instances: Iterable[Instance] = (), *, size: tuple[int, int], full: bool = False) -> None:
        self._instances = tuple(instances)
        self.size = (int(size[0]), int(size[1]))
        self.full = bool(full)
        for instance in self._instances:
            if instance.cropped.size != self.size:
                raise InputError(f"expected masks of the size {self.size}. Received: {instance.cropped.size}")

    def __len__(self) -> int:
        return len(self._instances)

    @overload
    def __getitem__(self, index: int) -> Instance: ...

    @overload
    def __getitem__(self, index: slice) -> "Instances": ...

    def __getitem__(self, index: int | slice) -> "Instance | Instances":
        if isinstance(index, slice):
            return Instances(self._instances[index], size=self.size, full=self.full)
        return self._instances[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Instances):
            return self._instances == other._instances and self.size == other.size
        return list(self._instances) == list(other) if isinstance(other, list | tuple) else NotImplemented

    def __repr__(self) -> str:
        counts = collections.Counter(self.class_names).most_common()
        found = f": {', '.join(f'{count} {printable(name)}' for name, count in counts)}" if counts else ""
        return f"Instances({len(self)}{found}; {self.size[0]}x{self.size[1]})"

    @property
    def boxes(self) -> Array:
        """(n, 4) float32: x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""
        return np.array([instance.box for instance in self], np.float32).reshape(-1, 4)

    @property
    def masks(self) -> Array:
        """(n, H, W) bool, a new array each time."""
        return np.stack([instance.mask for instance in self]) if self else np.zeros((0, *self.size), bool)

    @property
    def class_ids(self) -> Array:
        """(n,) int64, 1 … K−1."""
        return np.array([instance.class_id for instance in self], np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        """n names, one for each object."""
        return tuple(instance.class_name for instance in self)

    @property
    def scores(self) -> Array:
        """(n,) float32, class probability × objectness × `mask_score`."""
        return np.array([instance.score for instance in self], np.float32)

    def filter(self, keep: Callable[[Instance], bool]) -> "Instances":
        """Returns the instances for which `keep` is true, e.g. `found.filter(lambda one: one.score > 0.5)`."""
        return Instances(filter(keep, self), size=self.size, full=self.full)

    def to_label_map(self) -> Array:
        """Returns (H, W) int32, see the function `to_label_map`."""
        return to_label_map(self, self.size)

    def to_coco(
        self, image_id: int | str = 1, category_ids: Sequence[int] | Mapping[int, int] | None = None
    ) -> list[dict[str, Any]]:
        """Returns the objects in COCO's format; the list of several images is a result file for COCO's own tools.

        Because the entries have a box, pycocotools takes the area of the box for that of the object: its scores of
        small, medium and large objects differ from those of the file that `rsis evaluate --coco-results` writes.

        Args:
            image_id: number of the image in the COCO file.
            category_ids: the number of each class in the COCO file, by class id, such as `predictor.category_ids`;
                None or empty for the class ids themselves.

        Returns:
            One dictionary for each object: `image_id`, `category_id`, `segmentation` (see `to_rle`), `area` in pixels,
            `bbox` (x, y, width, height), `iscrowd` (0) and `score`.
        """
        found = []
        for instance in self:
            x0, y0, x1, y1 = instance.box
            found.append(
                {
                    "image_id": image_id,
                    "category_id": int(category_ids[instance.class_id] if category_ids else instance.class_id),
                    "segmentation": to_rle(instance.cropped),
                    "area": instance.area,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "score": round(float(instance.score), 6),
                }
            )
        return found

    def to_polygons(self) -> list[list[Array]]:
        """Returns the outlines of each object's connected parts, see the function `to_polygons`."""
        return [to_polygons(instance.cropped) for instance in self]

    def to_geojson(self) -> dict[str, Any]:
        """Returns a GeoJSON FeatureCollection (RFC 7946) in pixels: x to the right, y down, holes filled.

        Each object is a feature: a Polygon, or a MultiPolygon if it has several parts, with the properties `class_id`,
        `class_name`, `score` and `step`. A part in a hole of another is left out, because the hole is filled. An object
        without a pixel has no geometry.
        """
        features = []
        for instance, polygons in zip(self, self.to_polygons(), strict=True):
            parts = _outermost([part for polygon in polygons for part in _simple_polygons(polygon)])
            # GeoJSON closes its rings.
            closed = [[[*ring.tolist(), ring[0].tolist()] for ring in rings] for rings in parts]
            geometry: dict[str, Any] | None = {"type": "MultiPolygon", "coordinates": closed}
            if len(closed) < 2:
                geometry = {"type": "Polygon", "coordinates": closed[0]} if closed else None
            properties = {
                "class_id": int(instance.class_id),
                "class_name": instance.class_name,
                "score": float(instance.score),
                "step": int(instance.step),
            }
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
        return {"type": "FeatureCollection", "features": features}

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with a row for each object.

        Columns: step, class_id, class_name, score, objectness, x0, y0, x1, y1, area.

        Raises:
            InputError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(f"to_pandas needs pandas: pip install pandas. Received: {error}") from None
        columns = ("step", "class_id", "class_name", "score", "objectness", "x0", "y0", "x1", "y1", "area")
        rows = [(i.step, i.class_id, i.class_name, i.score, i.objectness, *i.box, i.area) for i in self]
        return pandas.DataFrame(rows, columns=list(columns))

    def plot(self, image: "ImageLike") -> Array:
        """Draws the objects over the image: a tint, an outline, and a tag with number, class and score.

        Where masks overlap, the pixel has the colour of the earliest object. More than 60 objects get no tags, which
        would hide them. `rsis_tf.visualization.overlay` draws a legend and other scripts than Latin as well.

        Args:
            image: the image that the objects were predicted in, see `as_image`.

        Returns:
            (H, W, 3) uint8, a new array.

        Raises:
            InputError: for an image of another size.
        """
        canvas = as_image(image).copy()
        if canvas.shape[:2] != self.size:
            raise InputError(f"expected the image of the size {self.size}. Received: {canvas.shape[:2]}")
        free = np.ones(self.size, bool)
        for instance in self:
            tint = PALETTE[instance.step % len(PALETTE)]
            wide = instance.cropped.widened(1)  # the border of a mask needs its neighbours
            part, visible = canvas[wide.window], free[wide.window]
            paint(part, wide.crop & visible, tint, 0.4)
            paint(part, _border(wide.crop) & visible, tint, 1.0)
            visible &= ~wide.crop
        drawn = Image.fromarray(canvas)
        draw = ImageDraw.Draw(drawn)
        font = ImageFont.load_default(size=max(10, round(max(self.size) / 50)))
        for instance in self if len(self) <= MOST_NUMBERED else ():
            x0, y0, *_ = instance.box
            tint = PALETTE[instance.step % len(PALETTE)]
            text = f"{instance.step + 1} {instance.class_name} {instance.score:.2f}"
            left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
            x = max(0, min(x0, self.size[1] - (right - left) - 4))
            y = max(0, min(y0, self.size[0] - (bottom - top) - 4))
            draw.rectangle((x, y, x + right - left + 3, y + bottom - top + 3), fill=tint)
            draw.text((x + 2 - left, y + 2 - top), text, fill=text_colour(tint), font=font)
        return np.asarray(drawn)

    def save(self, path: str | os.PathLike, image: "ImageLike | None" = None) -> None:
        """Writes the objects to a file. It gets its name when it is complete.

        The suffix chooses the format: `.json` for a COCO file (one image with the id 1), `.geojson` for GeoJSON, and
        an image format otherwise. With `image` that is the drawing of `plot` (`.png`, `.jpg`, `.webp`), without it the
        label map (`.png`, `.tif`; 8 bits, or 16 bits for more than 255 objects).

        Args:
            path: name of the file; its folder must exist.
            image: the image that the objects were predicted in; its file name goes into the COCO file.

        Raises:
            InputError: for another suffix, or a folder that cannot be written to.
        """
        path = pathlib.Path(path)
        suffix = path.suffix.lower()
        content: dict[str, Any] | None = None
        if suffix == ".json":
            content = self._coco_file(os.path.basename(image) if isinstance(image, str | os.PathLike) else "")
        elif suffix == ".geojson":
            content = self.to_geojson()
        suffixes = (".png", ".tif", ".tiff") if image is None else (".png", ".jpg", ".jpeg", ".webp")
        if content is None and suffix not in suffixes:
            kind = "a label map" if image is None else "a drawing"
            raise InputError(f"expected .json, .geojson or, for {kind}, {', '.join(suffixes)}. Received: {path}")
        pixels = None if content is not None else compact(self.to_label_map()) if image is None else self.plot(image)
        partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}.partial{path.suffix}")
        try:
            if pixels is None:
                partial.write_text(
                    json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
                )
            else:
                Image.fromarray(pixels).save(partial)
            os.replace(partial, path)
        except (OSError, ValueError) as error:  # Pillow raises either for an image that a format cannot hold
            raise InputError(
                "expected a folder that can be written to, and a format that can hold the image. "
                f"Received: {path} ({reason_of(error)})"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _coco_file(self, file_name: str) -> dict[str, Any]:
        names = {int(instance.class_id): instance.class_name for instance in self}
        return {
            "info": {},
            "images": [{"id": 1, "file_name": file_name, "height": self.size[0], "width": self.size[1]}],
            "annotations": [{"id": number, **row} for number, row in enumerate(self.to_coco(image_id=1), start=1)],
            "categories": [{"id": class_id, "name": names[class_id]} for class_id in sorted(names)],
        }


def to_label_map(instances: Sequence[Instance], size: tuple[int, int], *, overlap: str = "earliest") -> Array:
    """Paints instances into one map.

    Args:
        instances: predicted objects, masks of the same size.
        size: (H, W) of those masks.
        overlap: which object keeps a pixel that several claim, the "earliest" of the sequence or the "latest".

    Returns:
        (H, W) int32: 0 background, i = the i-th instance (1 … n). A number is missing if other objects hide all pixels
        of the instance; `close_gaps` removes such gaps.

    Raises:
        InputError: for a mask of another size.
    """
    labels = np.zeros(size, np.int32)
    numbered = list(enumerate(instances, start=1))
    for number, instance in numbered if overlap == "latest" else reversed(numbered):
        mask = instance.cropped
        if mask.size != tuple(size):
            raise InputError(f"expected masks of the size {tuple(size)}. Received: {mask.size}")
        labels[mask.window][mask.crop] = number
    return labels


def close_gaps(labels: Array, count: int) -> tuple[Array, list[int]]:
    """Renumbers a label map so that no number is missing.

    Args:
        labels: (H, W) int, 0 … count.
        count: n, number of objects.

    Returns:
        (H, W) int32 with the numbers 0 … m without gaps, and the new number of each of the n objects, 0 for one that
        has no pixel.
    """
    visible = np.bincount(labels.ravel(), minlength=count + 1) > 0  # (n + 1,)
    visible[0] = False
    table = np.cumsum(visible, dtype=np.int32)
    return table[labels], np.where(visible, table, 0)[1:].tolist()


def compact(labels: Array) -> Array:
    """Returns a label map as uint8, or as uint16 if a value is above 255.

    Raises:
        InputError: for a value above 65,535, which image files for label maps do not hold.
    """
    largest = int(labels.max(initial=0))
    if largest > np.iinfo(np.uint16).max:
        raise InputError(f"expected at most 65535 objects in a label map; COCO files hold more. Received: {largest}")
    return labels.astype(np.uint8 if largest < 256 else np.uint16)


def to_rle(mask: Array | CroppedMask) -> dict[str, list[int]]:
    """Returns run lengths in COCO's uncompressed RLE: down the columns, the first run is background.

    Args:
        mask: (H, W) bool, or the same cropped; the time depends on the size of the crop.

    Returns:
        {"size": [H, W], "counts": [...]}; plain integers, ready for JSON. `pycocotools.mask.frPyObjects` reads it.
    """
    cropped = _as_cropped(mask)
    height, width = cropped.size
    columns, rows = np.nonzero(cropped.crop.T)  # sorted down the columns
    places = (columns + cropped.corner[0]) * height + rows + cropped.corner[1]  # in the flattened image
    gaps = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], gaps + 1])] if len(places) else places
    ends = places[np.concatenate([gaps, [-1]])] + 1 if len(places) else places
    changes = np.stack([starts, ends], axis=1).ravel()  # (2 * runs,)
    counts = np.diff(np.concatenate([[0], changes, [height * width]]))
    if len(places) and changes[-1] == height * width:
        counts = counts[:-1]
    return {"size": [height, width], "counts": counts.tolist()}


def to_polygons(mask: Array | CroppedMask) -> list[Array]:
    """Returns the outlines of the connected parts of a mask, along the edges of its pixels, without holes.

    Pixels that touch only at a corner belong to different parts. Filling the polygons restores the mask with its holes
    filled; the area of a polygon is a number of pixels.

    Args:
        mask: (H, W) bool, or the same cropped; the time depends on the size of the crop.

    Returns:
        One (P, 2) int64 array for each part: corners (x, y) from (0, 0) to (W, H), clockwise on the screen (y down),
        without corners on straight lines, the first corner not repeated. The parts are sorted by their top left pixel.
    """
    cropped = _as_cropped(mask)
    padded = np.pad(cropped.crop, 1)
    width = padded.shape[1]  # also of the grid of corners: corner (x, y) has the number y * width + x
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    # The walk keeps the object on its right. At these corners a piece of border starts in the direction named.
    starts = {
        "east": below_right & ~above_right,
        "south": below_left & ~below_right,
        "west": above_left & ~below_left,
        "north": above_right & ~above_left,
    }
    pieces = {name: np.pad(corners, ((0, 1), (0, 1))).ravel() for name, corners in starts.items()}
    steps = {"east": 1, "south": width, "west": -1, "north": -width}
    # Where two parts touch at a corner, the border turns right and so stays with the part that it follows.
    turns = {
        "east": ("south", "east", "north"),
        "south": ("west", "south", "east"),
        "west": ("north", "west", "south"),
        "north": ("east", "north", "west"),
    }
    left = {name: set(np.flatnonzero(corners).tolist()) for name, corners in pieces.items()}
    polygons = []
    for start in sorted(left["east"]):
        if start not in left["east"]:
            continue
        corners, corner, direction = [], start, "east"
        while corner in left[direction]:
            left[direction].remove(corner)
            corner += steps[direction]
            following = next((turn for turn in turns[direction] if pieces[turn][corner]), direction)
            if following != direction:
                corners.append(corner)
            direction = following
        y, x = np.divmod(np.array(corners), width)
        polygon = np.stack([x, y], axis=1)  # (P, 2)
        if _signed_area(polygon) > 0:  # the border of a hole runs the other way
            polygons.append(np.roll(polygon, 1, axis=0) + np.array(cropped.corner))
    return polygons


def paint(image: Array, mask: Array, tint: tuple[int, int, int], strength: float) -> None:
    """Mixes a colour into the pixels of a mask, in place; image (H, W, 3) uint8, mask (H, W) bool."""
    mixed = image[mask] * np.float32(1 - strength) + np.array(tint, np.float32) * np.float32(strength)
    image[mask] = np.rint(mixed).astype(np.uint8)


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns black or white, whichever is easier to read on a background."""
    red, green, blue = background
    return (12, 12, 14) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _border(mask: Array) -> Array:
    """(H, W) bool: the pixels of a mask with a neighbour outside it; beyond the image all is inside."""
    padded = np.pad(mask, 1, constant_values=True)
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def _signed_area(polygon: Array) -> float:
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def _simple_polygons(outline: Array) -> list[list[Array]]:
    """Divides an outline that touches itself at corners into polygons whose rings do not.

    Returns:
        One or more polygons: the outer ring, and inner rings for what lies outside of the outline, enclosed by it up to
        a corner. Rings are (P, 2).
    """
    loops: list[Array] = []
    path: list[tuple[int, int]] = []
    places: dict[tuple[int, int], int] = {}
    for x, y in [*outline.tolist(), outline[0].tolist()]:
        start = places.get((x, y))
        if start is None:
            places[x, y] = len(path)
            path.append((x, y))
            continue
        loops.append(np.array(path[start:]))
        for corner in path[start + 1 :]:
            del places[corner]
        del path[start + 1 :]
    polygons = [[loop] for loop in loops if _signed_area(loop) > 0]
    for loop in loops:
        if _signed_area(loop) < 0:
            around = next((rings for rings in polygons if _holds(rings[:1], loop)), polygons[0])
            around.append(loop)
    return polygons


def _outermost(polygons: list[list[Array]]) -> list[list[Array]]:
    """Returns the polygons, lists of rings (P, 2), that lie in no other one."""
    if len(polygons) < 2:
        return polygons
    low, high = (np.array([extreme(rings[0], axis=0) for rings in polygons]) for extreme in (np.min, np.max))  # (R, 2)
    kept = []
    for number, rings in enumerate(polygons):
        around = np.flatnonzero(((low <= low[number]) & (high >= high[number])).all(axis=1))
        if not any(_holds(polygons[other], rings[0]) for other in around.tolist() if other != number):
            kept.append(rings)
    return kept


def _holds(rings: list[Array], ring: Array) -> bool:
    """Whether the top left pixel of a ring lies in a polygon: to its right there is an odd number of vertical lines."""
    x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]] + 0.5
    crossed = 0
    for other in rings:
        ends = np.stack([other[:, 1], np.roll(other[:, 1], -1)])  # (2, P)
        crossed += int(np.count_nonzero((ends.min(axis=0) < y) & (y < ends.max(axis=0)) & (other[:, 0] > x)))
    return crossed % 2 == 1


def _as_cropped(mask: Array | CroppedMask) -> CroppedMask:
    pixels = mask.crop if isinstance(mask, CroppedMask) else mask
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.dtype != bool:
        raise InputError(f"a mask must be an (H, W) bool array. Received: {_described(pixels)}")
    return mask if isinstance(mask, CroppedMask) else CroppedMask.of(mask)


# --- Images --------------------------------------------------------------------------------------------------------


class SupportsArray(Protocol):
    """Anything that numpy turns into an array by itself: a TensorFlow, PyTorch (on the CPU) or JAX array."""

    def __array__(self, *args: Any, **kwargs: Any) -> Array: ...


ImageLike = SupportsArray | Image.Image | str | os.PathLike
"""What predictors take as an image, see `as_image`."""


def as_image(image: ImageLike) -> Array:
    """Converts an image of any usual kind to 8-bit RGB.

    Args:
        image: one of

            - an array, or an object that numpy converts to one: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, or (H, W, 4)
              RGBA, whose alpha channel is dropped, not blended. uint8 is taken as it is; uint16 covers 0..65535 and is
              divided by 257; False and True become 0 and 255. Floating-point values must be finite. If none is above
              1, the range is 0..1 and they are multiplied by 255; otherwise it is 0..255. Both are rounded. A range may
              be left by a thousandth: libraries that resize images return 1.0000002 and 255.00003.
            - a `PIL.Image.Image`: the EXIF orientation is applied; palette and CMYK images become RGB.
            - a path: of a file that Pillow reads, with 8 bits per channel (`read_file`).

    Returns:
        (H, W, 3) uint8, with at least one pixel; an array of that kind is returned unchanged.

    Raises:
        InputError: for anything else, and for a file that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_file(image)
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if not hasattr(image, "__array__"):
        raise InputError(f"{_AN_IMAGE}. Received: {type(image).__name__}")
    try:
        array = np.asarray(image)
    except Exception as error:  # a tensor on a GPU, for instance
        raise InputError(f"{_AN_IMAGE}. Received: {type(image).__name__} ({reason_of(error)})") from None
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise InputError(f"{_AN_IMAGE}. Received: {_described(array)}")
    pixels = _to_uint8(pixels[..., :3] if pixels.shape[2] == 4 else pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


_AN_IMAGE = (
    "an image must be an (H, W), (H, W, 3) or (H, W, 4) array of uint8, uint16, bool or float, a PIL image or a path"
)


BROKEN_IMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(struct.error, zlib.error, RuntimeError, MemoryError, Image.DecompressionBombError),
)
"""What Pillow raises for a broken file, depending on its format and the place of the damage."""


def read_file(path: str | os.PathLike) -> Array:
    """Reads an image file with Pillow, see `as_image`. Of several pages, it reads the first and warns of the others.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: if the file is missing or cannot be read, or has more than 8 bits per channel: 12-bit values in a
            16-bit file would be almost black, and no file says how many of its bits are used.
    """
    try:
        with Image.open(path) as opened:
            if opened.format == "EPS":  # a program, which Pillow gives to Ghostscript to run
                raise InputError(f"expected an image file, not PostScript. Received: {os.fspath(path)}")
            require_eight_bits(opened, path)
            image = _from_pillow(opened)
            warn_of_pages(opened, path)
            return image
    except InputError:
        raise
    except BROKEN_IMAGE as error:
        raise InputError(
            f"expected an image file that can be read. Received: {os.fspath(path)} ({reason_of(error)})"
        ) from None


def require_eight_bits(image: Image.Image, path: str | os.PathLike) -> None:
    """Checks the bits per channel of a file.

    Args:
        image: as Pillow opened it.
        path: of its file, for the message.

    Raises:
        InputError: if they are more than 8.
    """
    depth = _channel_depth(image)
    if depth != 8:
        raise InputError(
            "expected an image of 8 bits per channel (convert it first). "
            f"Received: {depth}-bit channels in {os.fspath(path)}"
        )


def _channel_depth(image: Image.Image) -> int:
    """Returns the bits per channel in the file; Pillow silently reads some 16-bit colour files as 8-bit."""
    if image.mode == "I" or image.mode == "F":
        return 32
    if image.format == "JPEG2000" and isinstance(image, ImageFile.ImageFile) and image.fp is not None:
        return _jpeg_2000_depth(image.fp)
    raw_modes = [image.mode]
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        raw_modes += [argument for argument in arguments if isinstance(argument, str)]
        if image.format == "PPM" and any(isinstance(argument, int) and argument > 255 for argument in arguments):
            return 16  # the largest value of a channel
    return 16 if any(";16" in mode for mode in raw_modes if mode != _PACKED_PIXELS) else 8


def _jpeg_2000_depth(file: IO[bytes]) -> int:
    """Returns the most bits of a channel, at least 8, of a JPEG 2000 file (ISO/IEC 15444-1, A.5.1)."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    start = content.find(b"\xff\x4f\xff\x51", max(content.find(b"jp2c"), 0))  # markers of codestream and size
    if start < 0:
        return 8  # the decoder says what is wrong
    channels = int.from_bytes(content[start + 40 : start + 42])
    depths = content[start + 42 : start + 42 + 3 * channels : 3]  # bits less 1, and the sign in the highest bit
    return max([8, *((depth & 0x7F) + 1 for depth in depths)])


_PACKED_PIXELS = "BGR;16"
"""Pillow's name for pixels of 16 bits in a BMP file: 5 bits of blue, 6 of green, 5 of red."""


def warn_of_pages(image: Image.Image, path: str | os.PathLike) -> None:
    """Warns that a file has more pages or frames than the one that was read.

    Smaller versions of an image in a TIFF file and the further images of a phone's JPEG do not count as pages.

    Args:
        image: as Pillow opened it.
        path: of its file, for the warning.
    """
    if image.format not in ("AVIF", "GIF", "PNG", "TIFF", "WEBP"):
        return
    pages = 1
    with contextlib.suppress(*BROKEN_IMAGE):  # a damaged page after the first
        pages = getattr(image, "n_frames", 1)
        for number in range(1, pages if image.format == "TIFF" else 1):
            image.seek(number)
            pages -= int(image.getexif().get(_KIND_OF_PAGE, 0)) & 1
    if pages > 1:
        warnings.warn(
            f"only the first of the {pages} pages of {os.fspath(path)} is read (save each as a file of its own)",
            stacklevel=3,
        )


_KIND_OF_PAGE = 254
"""The TIFF tag NewSubfileType; its first bit says that a page is a smaller version of another."""


def check_image(image: Any) -> Array:
    """Returns the image unchanged if it is an (H, W, 3) uint8 array with at least one pixel.

    Raises:
        InputError: for anything else.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.ndim != 3
        or image.shape[2] != 3
        or image.dtype != np.uint8
        or image.size == 0
    ):
        raise InputError(f"an image must be an (H, W, 3) uint8 RGB array. Received: {_described(image)}")
    return image


def check_batch(images: Any, fixed: int | None) -> int:
    """Returns B of a (B, h, w, 3) uint8 array.

    Args:
        images: the array.
        fixed: the batch that a graph always takes, None if it takes any.

    Raises:
        InputError: for anything else, or more images than `fixed`.
    """
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(f"images must be a (B, h, w, 3) uint8 RGB array. Received: {_described(images)}")
    if images.size == 0 or (fixed is not None and len(images) > fixed):
        most = "at least one image" if fixed is None else f"1 to {fixed} images"
        raise InputError(f"images must hold {most}. Received: shape {images.shape}")
    return len(images)


def each_image(images: Iterable[ImageLike]) -> Iterator[ImageLike]:
    """Returns an iterator over several images, before `as_image` has checked them.

    Raises:
        InputError: for something that holds no images, or for one image in place of several.
    """
    expected = "images must be a sequence of images, or a (B, H, W, 3) array"
    if hasattr(images, "shape") and not isinstance(images, Image.Image):
        if len(images.shape) in (1, 4):  # several paths, several images
            return iter(images)
        raise InputError(f"{expected}. Received: one array of shape {tuple(images.shape)}")
    if not isinstance(images, Iterable) or isinstance(images, str | bytes | Mapping | os.PathLike | Image.Image):
        raise InputError(f"{expected}. Received: {type(images).__name__}")
    return iter(images)


def letterbox(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Places an image undistorted in the middle of a frame, as large as it fits.

    It computes with whole numbers, so that every language gives the same result.

    Args:
        source: (H, W) of the image.
        size: (h, w) of the frame.

    Returns:
        (top, left, height, width) of the image in the frame; height and width are rounded half up, at least 1.
    """
    (source_height, source_width), (height, width) = source, size
    if source_height * width >= source_width * height:
        inner = height, max((2 * source_width * height + source_height) // (2 * source_height), 1)
    else:
        inner = max((2 * source_height * width + source_width) // (2 * source_width), 1), width
    return (height - inner[0]) // 2, (width - inner[1]) // 2, *inner


def resize_image(image: Array, size: tuple[int, int], aspect: str = "stretch") -> Array:
    """Scales an image with an antialiased triangle filter, as every predictor of the project does.

    Args:
        image: (H, W, 3) uint8.
        size: (h, w) of the result.
        aspect: "stretch" scales each axis by itself; "keep" keeps the shape and pads with black (`letterbox`).

    Returns:
        (h, w, 3) uint8.
    """
    height, width = size
    if check_image(image).shape[:2] == (height, width):
        return image
    if aspect == "keep":
        top, left, *inner = letterbox(image.shape[:2], size)
        frame = np.zeros((height, width, 3), np.uint8)
        frame[top : top + inner[0], left : left + inner[1]] = resize_image(image, (inner[0], inner[1]))
        return frame
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _from_pillow(image: Image.Image) -> Array:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
            return as_image(np.asarray(upright))
        return np.asarray(upright.convert("RGB"))
    except InputError:
        raise
    except BROKEN_IMAGE as error:  # pixels are decoded here
        raise InputError(f"expected an image that can be read. Received: {image} ({reason_of(error)})") from None


def _to_uint8(pixels: Array) -> Array:
    kind, bits = pixels.dtype.kind, 8 * pixels.dtype.itemsize
    if (kind, bits) == ("u", 8):
        return pixels
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if (kind, bits) == ("u", 16):
        return np.rint(pixels.astype(np.float32) / 257).astype(np.uint8)
    if kind != "f":
        raise InputError(f"{_AN_IMAGE}. Received: {_described(pixels)}")
    low, high = float(pixels.min()), float(pixels.max())
    top = 1 if high <= 1 + _ROUNDING else 255
    if not -_ROUNDING * top <= low <= high <= (1 + _ROUNDING) * top:  # written so that NaN fails
        raise InputError(f"a float image must lie in 0..1 or in 0..255, without NaN. Received: {low:g} … {high:g}")
    return np.rint(np.clip(pixels.astype(np.float32) * np.float32(255 / top), 0, 255)).astype(np.uint8)


_ROUNDING = 1e-3
"""Share of its range by which a float image may leave it."""


def _described(value: Any) -> str:
    return f"shape {value.shape}, dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


# --- From probabilities to instances -------------------------------------------------------------------------------

DrawMask = Callable[[Array, tuple[int, int], float], Array]
"""Makes the mask of one step: (h, w) probabilities, (H, W), `mask_threshold` → (H, W) bool."""


def decode(
    masks: Array,
    classes: Array,
    stop: Array,
    *,
    size: tuple[int, int],
    class_names: Sequence[str],
    stop_threshold: float = 0.5,
    mask_threshold: float = 0.5,
    stop_mode: str = "first",
    aspect: str = "stretch",
    draw: DrawMask | None = None,
) -> Instances:
    """Turns the network's output for one image into instances, in predicted order.

    Args:
        masks: (T, h, w) probabilities.
        classes: (T, K) probabilities, 0 = background.
        stop: (T,) objectness, the probability that a step holds an object.
        size: (H, W) of the image; each mask is resized to it before the threshold is applied.
        class_names: K names, or none (then "class 1", "class 2", …).
        stop_threshold: a step below it holds no object.
        mask_threshold: a pixel belongs to the object from this probability on.
        stop_mode: "first" ends the sequence at the first step below `stop_threshold` (paper, section 3.2);
            "each" judges every step by itself, as the original's evaluation does.
        aspect: how the image was brought to (h, w), see `resize_image`; with "keep" the padding is first cut off.
        draw: see `DrawMask`; None for bilinear resizing and the threshold.

    Returns:
        The instances; those without a pixel are left out. `full` is true if no step is below `stop_threshold`.

    Raises:
        InputError: for shapes that do not match, a threshold outside 0 … 1, or an unknown `stop_mode` or `aspect`.
    """
    Options(stop_mode=stop_mode, stop_threshold=stop_threshold, mask_threshold=mask_threshold)
    _check_aspect(aspect)
    masks, classes, stop = np.asarray(masks), np.asarray(classes), np.asarray(stop)
    if masks.ndim != 3 or classes.shape[:1] != masks.shape[:1] or classes.ndim != 2 or stop.shape != masks.shape[:1]:
        raise InputError(
            "masks, classes and stop must have the shapes (T, h, w), (T, K) and (T,). "
            f"Received: {masks.shape}, {classes.shape} and {stop.shape}"
        )
    if classes.shape[1] < 2 or len(class_names) not in (0, classes.shape[1]):
        raise InputError(
            f"expected a name for each class, background included. Received: {len(class_names)} names, "
            f"{classes.shape[1]} classes"
        )
    if aspect == "keep":
        top, left, height, width = letterbox(size, masks.shape[1:])
        masks = masks[:, top : top + height, left : left + width]
    instances = []
    for step, objectness in enumerate(stop.astype(np.float32)):
        if not objectness >= stop_threshold:  # written so that NaN ends the sequence too
            if stop_mode == "first":
                break
            continue
        mask = (draw or _draw_mask)(masks[step], size, mask_threshold)  # (H, W)
        if not mask.any():
            continue
        probs = classes[step].astype(np.float32)  # (K,)
        class_id = 1 + int(np.argmax(probs[1:]))
        mask_score = _mask_score(masks[step])
        instances.append(
            Instance(
                mask=mask,
                class_id=class_id,
                class_name=class_names[class_id] if class_names else f"class {class_id}",
                score=float(probs[class_id]) * float(objectness) * mask_score,
                step=step,
                objectness=float(objectness),
                class_probs=probs,
                mask_score=mask_score,
            )
        )
    return Instances(instances, size=size, full=bool((stop >= stop_threshold).all()))


def _mask_score(mask: Array) -> float:
    mask = mask.astype(np.float32, copy=False)  # (h, w)
    total = float(mask.sum())
    return min(float(np.vdot(mask, mask)) / total, 1.0) if total > 0 else 0.0


def _draw_mask(mask: Array, size: tuple[int, int], threshold: float) -> Array:
    mask = mask.astype(np.float32, copy=False)  # (h, w); uint8 would lose the values around the threshold
    if mask.shape != tuple(size):
        mask = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.BILINEAR))  # (H, W)
    return mask >= threshold


# --- What a predictor is told, and what a model says of itself -----------------------------------------------------

Providers = str | Sequence[str | tuple[str, dict[str, Any]]] | None
"""Where ONNX Runtime computes, see `Options`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """The options of every predictor; None stands for the default. They are checked here and nowhere else.

    Attributes:
        providers: where ONNX Runtime computes, best first: "cpu", "cuda", "tensorrt", ONNX Runtime's own names, or
            (name, options) pairs; a single name stands for a list of it. Default: the CPU. A provider that is
            unavailable is an error, never replaced. Other backends accept "cpu" if they run on the CPU.
        threads: CPU threads for one operation; default: as many as the library takes. TensorFlow can be told only
            before it has computed anything in this process.
        stop_mode: "first" or "each", see `decode`.
        stop_threshold: objectness from which a step holds an object; default: the model's own.
        mask_threshold: probability from which a pixel belongs to an object; default: the model's own.
        image_size: (h, w) the network runs at; default: the model's own. Files of a fixed size take no other.
        batch_size: images, or tiles, in one run of `batch` and `stream`; default: what the file is made for, else 8.
            Files of a fixed batch take no other.
        steps: T, the most objects in one sequence; default: the model's own. Only Keras models and ONNX exports of
            the layouts stepwise and loop take another number.
        tile: cut images into overlapping tiles of (h, w) pixels, or of n×n for one number n; "auto" for tiles of the
            network's own size. Each tile is resized to that size and predicted by itself, and the objects are merged
            (`rsis_tf.tiles`). A tile in which the sequence used all its steps is divided into four, up to twice.
            Images smaller than a tile are padded with black, so that the scale is the same for all. Default: an image
            is resized as a whole.
        tile_overlap: pixels that neighbouring tiles share; more than the largest object, for objects without seams.
            Default: a quarter of the tile's shorter side.
        flips: predict the mirror images too and average the sequences (`rsis_tf.flips`), in four times the time.
        verify: whether to compare an exported file with the SHA-256 in the JSON file beside it, if there is one. That
            reads the file once more, at about 1 GB/s. A `.keras` file has checksums of its own, which are always
            checked.

    Raises:
        InputError: for a value of another type or out of range; the message names the option.
    """

    providers: Providers = None
    threads: int | None = None
    stop_mode: str = "first"
    stop_threshold: float | None = None
    mask_threshold: float | None = None
    image_size: Sequence[int] | None = None
    batch_size: int | None = None
    steps: int | None = None
    tile: int | Sequence[int] | str | None = None
    tile_overlap: int | None = None
    flips: bool = False
    verify: bool = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Returns the options that a caller gave by name.

        Raises:
            TypeError: for a name that is not an option.
            InputError: see the class.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in options if name not in names]:
            raise TypeError(
                f"Predictor and open_model take the options {', '.join(names)}. Received: {', '.join(unknown)}"
            )
        return cls(**options)

    def __post_init__(self) -> None:
        if not isinstance(self.stop_mode, str) or self.stop_mode not in STOP_MODES:
            raise InputError(f"stop_mode must be one of {', '.join(STOP_MODES)}. Received: {_shown(self.stop_mode)}")
        for name in ("stop_threshold", "mask_threshold"):
            if getattr(self, name) is not None:
                _check_probability(name, getattr(self, name))
        for name, most in (("threads", _MOST_THREADS), ("batch_size", _LARGEST_BATCH), ("steps", _MOST_STEPS)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, numbers.Integral) and 1 <= value <= most):
                raise InputError(f"{name} must be a positive integer up to {most}. Received: {_shown(value)}")
        for name in ("verify", "flips"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise InputError(f"{name} must be True or False. Received: {_shown(getattr(self, name))}")
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _check_size(self.image_size))
        if self.tile is not None and not (isinstance(self.tile, str) and self.tile == "auto"):
            sides = (self.tile, self.tile) if _is_number(self.tile, numbers.Integral) else self.tile
            object.__setattr__(self, "tile", _check_size(sides, "tile"))
        overlap = self.tile_overlap
        if overlap is not None and not (
            self.tile is not None and _is_number(overlap, numbers.Integral) and 0 <= overlap < _LARGEST_SIDE
        ):
            raise InputError(f"tile_overlap must be a number of pixels, with tile. Received: {_shown(overlap)}")
        provider_list(self.providers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a predictor must know about a model. Exporters write it as metadata; a Keras model has it in its config.

    Attributes:
        image_size: (h, w) the network runs at by default.
        any_size: whether it takes other sizes.
        batch: the batch that the graph always takes, None for any.
        dtype: of the graph's input, "uint8" or "float32"; the values are 0..255 in both.
        aspect: "stretch" or "keep", see `resize_image`.
        class_names: K names, the first of them "background"; empty if unknown.
        category_ids: K numbers of the classes in COCO files, 0 for background; empty if unknown.
        stop_threshold: objectness from which a step holds an object.
        mask_threshold: probability from which a pixel belongs to an object.

    Raises:
        InputError: for a value of another type or out of range; the message names the field.
    """

    image_size: tuple[int, int]
    any_size: bool = True
    batch: int | None = None
    dtype: str = "uint8"
    aspect: str = "stretch"
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    stop_threshold: float = 0.5
    mask_threshold: float = 0.5

    def __post_init__(self) -> None:
        height, width = _check_size(self.image_size)
        object.__setattr__(self, "image_size", (height, width))
        if not isinstance(self.any_size, bool):
            raise InputError(f"dynamic_size must be true or false. Received: {_shown(self.any_size)}")
        if self.batch is not None and not (_is_number(self.batch, numbers.Integral) and self.batch >= 1):
            raise InputError(f"the batch must be a positive integer. Received: {_shown(self.batch)}")
        if (self.batch or 1) * height * width > _MOST_PIXELS:
            raise InputError(
                f"expected at most {_MOST_PIXELS} pixels in one run. "
                f"Received: a batch of {self.batch} at {height}x{width}"
            )
        if self.dtype not in ("uint8", "float32"):
            raise InputError(f"the input must be uint8 or float32. Received: {_shown(self.dtype)}")
        _check_aspect(self.aspect)
        _check_class_names(self.class_names)
        _check_category_ids(self.category_ids, len(self.class_names))
        for name in ("stop_threshold", "mask_threshold"):
            object.__setattr__(self, name, _check_probability(name, getattr(self, name)))

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], *, batch: int | None, dtype: str, source: str | os.PathLike
    ) -> "ModelInfo":
        """Reads what an exporter wrote, by the names of `export.metadata`. Every value from a file is checked here.

        Args:
            metadata: plain values by name; files of earlier versions have no `category_ids` and no `aspect`.
            batch: see the class.
            dtype: see the class.
            source: the file that the metadata is from, for messages.

        Raises:
            InputError: for a value that is missing or wrong; the message names it.
        """

        def value(key: str, kind: type, *default: Any) -> Any:
            found = metadata.get(key, *default)
            if not isinstance(found, kind):
                raise InputError(
                    f"expected a model that export wrote, with {key!r} in its metadata. "
                    f"Received: {os.fspath(source)} with {key} = {_shown(found)}"
                )
            return found

        version = metadata.get("format_version", FORMAT_VERSION)
        if not (_is_number(version, numbers.Integral) and version == FORMAT_VERSION):
            raise InputError(
                f"expected a file of format_version {FORMAT_VERSION}; a newer version of rsis_tf may read it. "
                f"Received: {os.fspath(source)} with format_version = {_shown(version)}"
            )
        fields = {
            "class_names": tuple(value("class_names", list)),
            "category_ids": tuple(value("category_ids", list, [])),
            "image_size": value("image_size", list),
            "any_size": value("dynamic_size", bool, False),
            "aspect": value("aspect", str, "stretch"),
            "stop_threshold": value("stop_threshold", object),
            "mask_threshold": value("mask_threshold", object),
        }
        try:
            return cls(batch=batch, dtype=dtype, **fields)
        except InputError as error:
            raise InputError(f"{error}, in the metadata of {os.fspath(source)}") from None

    def check_graph(
        self, inputs: "Mapping[str, Shape]", outputs: "Mapping[str, Shape]", *, source: str | os.PathLike
    ) -> None:
        """Checks that a graph has the names and shapes that the metadata and every call rely on.

        Args:
            inputs: shape by name; None for an axis, or for a whole shape, that is open.
            outputs: the same.
            source: the file, for messages.

        Raises:
            InputError: naming the tensor that does not fit.
        """
        if set(inputs) != {"image"} or not set(OUTPUTS) <= set(outputs):
            raise InputError(
                "expected a model that export wrote, with the input image and the outputs masks, classes, stop. "
                f"Received: {os.fspath(source)} with {_shown(list(inputs))} and {_shown(list(outputs))}"
            )
        size = self.image_size  # of an axis that is open, nothing is compared
        names = len(self.class_names or self.category_ids) or None
        steps = next((outputs[name][1] for name in OUTPUTS if len(outputs[name] or ()) > 1), None)  # type: ignore[index]
        expected: dict[str, Shape] = {
            "image": (self.batch, *size, 3),
            "masks": (self.batch, steps, *size),
            "classes": (self.batch, steps, names),
            "stop": (self.batch, steps),
        }
        for name, shape in expected.items():
            found = inputs[name] if name == "image" else outputs[name]
            if not _fits(found, shape):
                raise InputError(
                    f"expected {name} of the shape {_axes(shape)}, as the metadata says. "
                    f"Received: {_axes(found)} in {os.fspath(source)}"
                )
        if (outputs["classes"] or (2,))[-1] == 1:
            raise InputError(f"expected at least two classes. Received: 1 in {os.fspath(source)}")


Shape = tuple[int | None, ...] | None
"""Of a tensor in a graph; None for an open axis, or if nothing is known."""
FORMAT_VERSION = 1
"""Of the metadata that this version writes and reads, see `export.metadata`."""
_MOST_PIXELS = 1 << 28
"""In one run of a network: 268 million, 800 MB as uint8."""
_MOST_THREADS = 1024
_LARGEST_BATCH = 1 << 16
_LARGEST_SIDE = 1 << 15
_MOST_STEPS = 10_000


def _fits(found: Shape, expected: Shape) -> bool:
    """Whether two shapes can be the same."""
    if found is None or expected is None:
        return True
    same = (ours is None or theirs is None or ours == theirs for ours, theirs in zip(found, expected, strict=False))
    return len(found) == len(expected) and all(same)


def _axes(shape: Shape) -> str:
    return "?" if shape is None else f"({', '.join('?' if axis is None else str(axis) for axis in shape)})"


def _shown(value: Any) -> str:
    """Returns a value for a message, shortened."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, a list that is too deep
        text = "an integer of many digits" if isinstance(value, int) else f"a {type(value).__name__} of many parts"
    return text if len(text) <= 200 else f"{text[:200]}…"


def sidecar(path: pathlib.Path) -> pathlib.Path:
    """Returns the path of the JSON file with the metadata of an exported file or folder."""
    if path.name in ("", ".."):  # the current folder, or one above it
        path = pathlib.Path(os.path.abspath(path))
    return path.parent / f"{path.name}.json"


def read_sidecar(path: pathlib.Path) -> dict[str, Any]:
    """Reads the JSON file beside an exported file or folder.

    Args:
        path: of the export.

    Returns:
        What it holds; the values are not yet checked.

    Raises:
        InputError: if it is missing, or not a JSON object.
    """
    side = sidecar(path)
    try:
        if os.path.getsize(side) > _LARGEST_SIDECAR:
            raise ValueError(f"more than {_LARGEST_SIDECAR} bytes")
        content = json.loads(side.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"expected the JSON file that the exporter writes beside {path.name}. Received: {side} ({reason_of(error)})"
        ) from None
    return content


_LARGEST_SIDECAR = 1 << 24


def checksums(path: pathlib.Path) -> str | dict[str, str]:
    """Returns the SHA-256 of an exported file, in hexadecimal digits.

    Args:
        path: a file; a stepwise export, for each of its `.onnx` files by name; or a SavedModel, for `saved_model.pb`
            and each file in `variables` and `assets`, by its path in the folder.

    Raises:
        OSError: if a file cannot be read.
    """
    if not path.is_dir():
        return _sha256(path)
    patterns = ("*.onnx", "saved_model.pb", "variables/*", "assets/*")
    files = [file for pattern in patterns for file in path.glob(pattern)]
    return {file.relative_to(path).as_posix(): _sha256(file) for file in sorted(files) if file.is_file()}


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_checksums(path: pathlib.Path) -> None:
    """Compares an exported file or folder with the `sha256` in the JSON file beside it, if there is one.

    Earlier versions wrote no `sha256`; such an export is not checked.

    Raises:
        InputError: if they differ, or the JSON file is damaged.
    """
    if not os.path.lexists(sidecar(path)):
        return
    expected = read_sidecar(path).get("sha256")
    if expected is None:
        return
    try:
        found = checksums(path)
    except OSError as error:
        raise InputError(f"expected files that can be read. Received: {path} ({reason_of(error)})") from None
    if found != expected:
        wrong = ""
        if isinstance(found, dict) and isinstance(expected, dict):
            names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            wrong = f" (differs: {_shown(', '.join(map(str, names)))})"
        raise InputError(
            f"expected the file whose SHA-256 is in {sidecar(path).name}; copy both again, or export again "
            f"(verify=False or --no-verify skips this check). Received: {path}, which was changed or damaged{wrong}"
        )


def _check_class_names(value: Any) -> None:
    names = all(isinstance(name, str) and not any("\ud800" <= letter <= "\udfff" for letter in name) for name in value)
    if len(value) == 1 or not names:
        raise InputError(f"class_names must be at least two words, or none. Received: {_shown(list(value))}")


def _check_category_ids(value: Any, names: int) -> None:
    whole = all(_is_number(number, numbers.Integral) and -(1 << 63) <= number < 1 << 63 for number in value)
    if not whole or len(set(value[1:])) < len(value[1:]) or (names and len(value) not in (0, names)):
        raise InputError(
            f"category_ids must be different whole numbers, one for each of the {names} class_names, or none. "
            f"Received: {_shown(list(value))}"
        )


def _check_probability(name: str, value: Any) -> float:
    # NaN fails the comparison.
    if not (_is_number(value, numbers.Real) and 0 <= value <= 1):
        raise InputError(f"{name} must be a number in 0..1. Received: {name}={_shown(value)}")
    return float(value)


def _check_size(value: Any, name: str = "image_size") -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if len(sides) != 2 or not all(_is_number(side, numbers.Integral) and 1 <= side <= _LARGEST_SIDE for side in sides):
        raise InputError(
            f"{name} must be two positive integers (height, width) up to {_LARGEST_SIDE}. Received: {_shown(value)}"
        )
    return int(sides[0]), int(sides[1])


def _check_aspect(value: Any) -> str:
    if value not in ASPECTS:
        raise InputError(f"aspect must be one of {', '.join(ASPECTS)}. Received: {_shown(value)}")
    return str(value)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


# --- Predictors ----------------------------------------------------------------------------------------------------


class BasePredictor:
    """Images in, instances out; the part that all backends share. A backend defines `compute`.

    A pickle holds the path and the settings, not the model: another process opens the file again, so it must be at the
    same path there. Such a class is called with a path and, by name, options. `copy.copy` shares the open file.

    Args:
        path: where the model comes from, for messages.
        info: what the model says of itself.
        options: what the caller asks for.
        any_steps: whether the backend can take `options.steps`.

    Attributes:
        path: as given.
        class_names: K names, the first of them "background"; empty if the model knows none.
        category_ids: K numbers of the classes in COCO files, 0 for background; empty if the model knows none.
        image_size: (h, w) the network runs at.
        aspect: "stretch" or "keep", see `resize_image`.
        batch_size: images in one run of `batch` and `stream`.
        stop_mode: "first" or "each", see `decode`.
        stop_threshold: objectness from which a step holds an object.
        mask_threshold: probability from which a pixel belongs to an object.
        tile: (h, w) of the tiles that images are cut into, None if they are not; see `Options`.
        tile_overlap: pixels that neighbouring tiles share.
        flips: whether the sequences of mirror images are averaged.
        steps: the most objects of a sequence, if the caller has asked for a number; None for the model's own.
        any_steps: whether the model takes any number of steps.
        draw: see `DrawMask`; None unless set.

    Raises:
        InputError: for a size, a batch or steps that the model does not take; in calls, for something that is not an
            image, and when the library that runs the model fails.
    """

    draw: DrawMask | None = None

    def __init__(self, path: str | os.PathLike, info: ModelInfo, options: Options, *, any_steps: bool = False) -> None:
        if options.steps is not None and not any_steps:
            raise InputError(
                "this file takes only its own number of steps (a .keras file, or an ONNX export of the layout "
                "stepwise or loop, takes any). "
                f"Received: steps={options.steps}, {path}"
            )
        self.path = path
        self._source: Any = os.path.abspath(path)  # for pickles: another process may have another working folder
        self._options = options
        self.class_names = info.class_names
        self.category_ids = info.category_ids
        self.aspect = info.aspect
        self.image_size = info.image_size if options.image_size is None else _check_size(options.image_size)
        if not info.any_size and self.image_size != info.image_size:
            raise InputError(f"this file takes only image_size {info.image_size}. Received: {self.image_size}, {path}")
        if info.batch is not None and options.batch_size not in (None, info.batch):
            raise InputError(f"this file takes only batch_size {info.batch}. Received: {options.batch_size}, {path}")
        self.batch_size = int(info.batch or options.batch_size or 8)
        self.stop_mode = options.stop_mode
        stop, mask = options.stop_threshold, options.mask_threshold
        self.stop_threshold = info.stop_threshold if stop is None else float(stop)
        self.mask_threshold = info.mask_threshold if mask is None else float(mask)
        self.tile: tuple[int, int] | None = None
        if options.tile is not None:
            self.tile = self.image_size if isinstance(options.tile, str) else _check_size(options.tile)
        quarter = 0 if self.tile is None else min(self.tile) // 4
        self.tile_overlap = quarter if options.tile_overlap is None else int(options.tile_overlap)
        if self.tile is not None and self.tile_overlap >= min(self.tile):
            raise InputError(f"tile_overlap must be below the tile, {self.tile}. Received: {self.tile_overlap}")
        self.flips = bool(options.flips)
        self.steps = options.steps
        self.any_steps = any_steps
        self._fixed_batch = info.batch
        self._dtype = np.dtype(info.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return _reopened, (type(self), self._source, vars(self._options)), settings

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __call__(self, image: ImageLike) -> Instances:
        """Predicts one image.

        Args:
            image: of any size and kind, see `as_image`.

        Returns:
            The instances in predicted order, with masks at the size of the image. With `tile`, tile by tile; then a
            step is the position in this list.
        """
        return next(self.stream([image]))

    def batch(self, images: Iterable[ImageLike]) -> list[Instances]:
        """Predicts several images of any sizes, `batch_size` at a time; returns the results in their order."""
        return list(self.stream(images))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Instances]:
        """Predicts images as they come, `batch_size` at a time, and keeps no more than those in memory."""
        read = map(self.read, each_image(images))
        return self._each_whole(read) if self.tile is None else self._each_tiled(read)

    def _each_whole(self, images: Iterator[Array]) -> Iterator[Instances]:
        """Predicts images that are resized as a whole."""
        while chunk := list(itertools.islice(images, self.batch_size)):
            frames = np.stack([resize_image(image, self.image_size, self.aspect) for image in chunk])
            outputs = zip(*self.run(frames), strict=True) if not self.flips else self._averaged(frames)
            for image, (masks, classes, stop, *full) in zip(chunk, outputs, strict=True):
                found = decode(
                    masks,
                    classes,
                    stop,
                    size=image.shape[:2],
                    class_names=self.class_names,
                    stop_threshold=self.stop_threshold,
                    mask_threshold=self.mask_threshold,
                    stop_mode=self.stop_mode,
                    aspect=self.aspect,
                    draw=self.draw,
                )
                yield Instances(found, size=found.size, full=full[0]) if full else found

    def _averaged(self, frames: Array) -> Iterator[tuple[Array, Array, Array, bool]]:
        """Yields masks, classes and stop of each frame, averaged over its mirror images, and whether one was full."""
        flips = _sibling("flips")
        runs = [zip(*self.run(flips.flip_images(frames, axes)), strict=True) for axes in flips.AXES]
        for sequences in zip(*runs, strict=True):
            thresholds = {"stop_threshold": self.stop_threshold, "mask_threshold": self.mask_threshold}
            masks, classes, stop = flips.average(sequences, stop_mode=self.stop_mode, **thresholds)
            yield masks, classes, stop, any(bool((one[2] >= self.stop_threshold).all()) for one in sequences)

    def _each_tiled(self, images: Iterator[Array]) -> Iterator[Instances]:
        """Predicts images tile by tile. Tiles of several images share a run, and only crops of masks are kept."""
        tiles = _sibling("tiles")
        waiting: collections.deque[tuple[Array, list[Any]]] = collections.deque()

        def cuts() -> Iterator[Array]:
            for image in images:
                waiting.append((image, tiles.grid(image.shape[:2], self.tile, self.tile_overlap)))
                yield from (tile.cut(image) for tile in waiting[-1][1])

        found = self._each_whole(cuts())
        for first in found:
            image, grid = waiting.popleft()
            yield self._merged(image, grid, [first, *itertools.islice(found, len(grid) - 1)])

    def _merged(self, image: Array, grid: list[Any], found: list[Instances]) -> Instances:
        """Makes one list of the objects of all tiles; a tile that is full is first divided."""
        tiles = _sibling("tiles")
        for _ in range(_DIVISIONS):
            grid, found = self._divided(image, grid, found)
        pieces = []
        for number, (tile, instances) in enumerate(zip(grid, found, strict=True)):
            x0, y0, x1, y1 = tile.box
            for instance in instances:
                mask = instance.cropped.moved(0, 0, (y1 - y0, x1 - x0))  # what was found in the padding is cut off
                if mask.area:
                    x, y = mask.corner
                    pieces.append(tiles.Piece(mask=mask.crop, corner=(x0 + x, y0 + y), tile=number, source=instance))
        size = (image.shape[0], image.shape[1])
        merged = []
        for step, piece in enumerate(tiles.merge(pieces, grid, size)):
            mask = CroppedMask(crop=piece.mask, corner=piece.corner, size=size)
            merged.append(dataclasses.replace(piece.source, mask=mask, step=step))
        return Instances(merged, size=size, full=any(one.full for one in found))

    def _divided(self, image: Array, grid: list[Any], found: list[Instances]) -> tuple[list[Any], list[Instances]]:
        """Replaces each tile that is full by four smaller ones."""
        tiles = _sibling("tiles")
        parts = [
            tiles.quarters(tile, self.tile_overlap) if one.full else [tile]
            for tile, one in zip(grid, found, strict=True)
        ]
        again = self._each_whole(tile.cut(image) for part in parts if len(part) > 1 for tile in part)
        new: list[Instances] = []
        for before, part in zip(found, parts, strict=True):
            new += [before] if len(part) == 1 else itertools.islice(again, len(part))
        return [tile for part in parts for tile in part], new

    def run(self, images: Array) -> tuple[Array, Array, Array]:
        """Runs the network alone.

        Args:
            images: (B, h, w, 3) uint8, at a size that the network takes.

        Returns:
            masks (B, T, h, w), classes (B, T, K) and stop (B, T): probabilities, float32. A file that stops early
            returns fewer than T steps.

        Raises:
            InputError: for other arrays, when the library that runs the network fails, and for outputs that are not
                finite or not of these shapes.
        """
        count = check_batch(images, self._fixed_batch)
        if self._fixed_batch is not None:  # black images fill the batch
            images = np.pad(images, [(0, self._fixed_batch - count), (0, 0), (0, 0), (0, 0)])
        try:
            outputs = self.compute(images.astype(self._dtype, copy=False))
        except Exception as error:  # each library raises its own, out of memory among them
            raise InputError(
                f"expected {self.path} to run on an input of shape {images.shape}. Received: {reason_of(error)}"
            ) from error
        return check_outputs(outputs, batch=len(images), count=count, source=self.path)

    def read(self, image: ImageLike) -> Array:
        """Returns an image as (H, W, 3) uint8, see `as_image`."""
        return as_image(image)

    def compute(self, images: Array) -> Sequence[Array]:
        """Computes masks, classes and stop for a batch that the graph takes as it is."""
        raise NotImplementedError


def _reopened(kind: Callable[..., BasePredictor], source: Any, options: dict[str, Any]) -> BasePredictor:
    """Opens the model of a predictor that was pickled."""
    return kind(source, **options)


_DIVISIONS = 2
"""How often a tile that is full is divided into four."""


def _sibling(name: str) -> Any:
    """Imports a module of the package that an application which copied this file may not have.

    Raises:
        InputError: if the package is not installed.
    """
    try:
        return importlib.import_module(f"rsis_tf.{name}")
    except ImportError as error:
        raise InputError(f"expected the package rsis_tf, which has {name}.py. Received: {error}") from None


def check_outputs(
    outputs: Sequence[Any], *, batch: int, count: int, source: str | os.PathLike
) -> tuple[Array, Array, Array]:
    """Checks what a network computed: NaN would otherwise look like an image without objects.

    Args:
        outputs: masks (B, T, h, w), classes (B, T, K) and stop (B, T).
        batch: B.
        count: number of images; the rest of the batch was added to fill it.
        source: the model, for messages.

    Returns:
        The outputs of the images, float32.

    Raises:
        InputError: for other shapes or values that are not finite.
    """
    masks, classes, stop = (np.asarray(output) for output in outputs)
    if (
        (masks.ndim, classes.ndim, stop.ndim) != (4, 3, 2)
        or not masks.shape[:2] == classes.shape[:2] == stop.shape == (batch, stop.shape[1])
        or masks.size == 0
        or classes.shape[2] < 2
        or any(output.dtype.kind != "f" for output in (masks, classes, stop))
    ):
        raise InputError(
            f"expected masks, classes and stop of the shapes ({batch}, T, h, w), ({batch}, T, K) and ({batch}, T) from "
            f"the network. Received: {masks.shape}, {classes.shape} and {stop.shape} from {source}"
        )
    masks, classes, stop = (output[:count].astype(np.float32, copy=False) for output in (masks, classes, stop))
    check_finite({"stop": stop, "classes": classes, "masks": masks}, source)
    return masks, classes, stop


def check_finite(arrays: Mapping[str, Array], source: str | os.PathLike) -> None:
    """Checks that no value is NaN or infinite.

    Raises:
        InputError: naming the first array with such a value.
    """
    for name, array in arrays.items():
        low, high = float(array.min()), float(array.max())  # NaN is passed on; quicker than np.isfinite
        if not (math.isfinite(low) and math.isfinite(high)):
            what = "NaN" if math.isnan(low) else "an infinite value"
            raise InputError(
                f"expected finite numbers from the network; the file's weights may be damaged. "
                f"Received: {what} in {name} from {source}"
            )


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((line.strip()[:500] for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Predictor(BasePredictor):
    """Images in, instances out, from a file that `python -m export.onnx` wrote.

    Several threads may use one predictor at once; it keeps nothing between calls. It can be sent to other processes
    (pickled): they open the file again, at the same path.

    Args:
        path: the .onnx file, or the folder of an export in the layout `stepwise`.
        **options: see `Options`.

    Attributes:
        metadata: what the exporter wrote into the file, as text.
        …: see `BasePredictor`.

    Raises:
        InputError: for a file that is missing, broken or not of this project, or an option out of range; in calls, for
            something that is not an image, and when ONNX Runtime fails.
    """

    def __init__(self, path: str | os.PathLike, **options: Any) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path must be a string or a path. Received: path={_shown(path)}")
        path = pathlib.Path(path)
        chosen = Options.of(options)
        self._graph = open_graph(path, providers=chosen.providers, threads=chosen.threads, verify=chosen.verify)
        inputs, outputs = graph_shapes(self._graph, path)
        if set(inputs) != {"image"} or len(inputs["image"] or ()) != 4 or not set(OUTPUTS) <= set(outputs):
            raise InputError(
                "expected a model that export.onnx wrote, with the input image and the outputs masks, classes, stop. "
                f"Received: {path} with {_shown(list(inputs))} and {_shown(list(outputs))}"
            )
        self.metadata: dict[str, str] = read_properties(self._graph, path)
        kind = self._graph.get_inputs()[0].type
        info = ModelInfo.from_metadata(
            {key: _parsed(text) for key, text in self.metadata.items()},
            batch=inputs["image"][0],  # type: ignore[index]
            dtype={"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(kind, kind),
            source=path,
        )
        info.check_graph(inputs, outputs, source=path)
        loop = self.metadata.get("layout") == "loop"
        super().__init__(path, info, chosen, any_steps=loop or isinstance(self._graph, Stepwise))
        self._settings: dict[str, Array] = {}
        threshold = self.stop_threshold if self.stop_mode == "first" else None
        if isinstance(self._graph, Stepwise):
            self._graph.steps, self._graph.stop_threshold = int(chosen.steps or self._graph.steps), threshold
        elif loop and (chosen.steps is not None or threshold != info.stop_threshold):
            self._graph = open_adjustable(path, providers=chosen.providers, threads=chosen.threads)
            self._settings["stop_threshold"] = np.array(threshold or 0, np.float32)
            if chosen.steps is not None:
                self._settings["steps"] = np.array(chosen.steps, np.int64)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> Self:
        """Opens a model of the package by its name; `rsis zoo` lists the names.

        Args:
            name: a name, which needs the package and not only this file, or a path as for the class.
            **options: see `Options`.

        Raises:
            InputError: for a name that no model has, and as for the class.
        """
        try:
            from rsis_tf.zoo import registry
        except ImportError:
            if os.path.exists(name):
                return cls(name, **options)
            raise InputError(
                'names of models need the package, which holds their files: pip install "rsis_tf[cpu]". '
                f"Received: {_shown(name)}"
            ) from None
        path = registry.find(name, ".onnx")
        if path is None and isinstance(name, str | os.PathLike) and not os.path.exists(name):
            raise InputError(
                "expected the name of a model or the path of an ONNX file. "
                f"Received: {os.fspath(name)}, which is not there{registry.hint(name)}"
            )
        return cls(path or name, **options)

    def compute(self, images: Array) -> Sequence[Array]:
        return self._graph.run(list(OUTPUTS), {"image": images, **self._settings}, _quiet_run())


def open_adjustable(path: pathlib.Path, *, providers: Providers = None, threads: int | None = None) -> Any:
    """Opens a file of the layout loop with two optional inputs, `steps` (int64) and `stop_threshold` (float32).

    In the file they are constants, so that programs need not know them. A declaration after the end of the file makes
    them inputs: parsers of protocol buffers join the parts of a message.

    Args:
        path: of the file.
        providers, threads: see `Options`.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        InputError: for a file of an earlier version, whose constants have other names, or for names that are not text;
            see `open_session`.
    """
    names = ("steps", "stop_threshold")
    declared = b"".join(_scalar_input(name, kind) for name, kind in zip(names, (_INT64, _FLOAT), strict=True))
    session = open_session(path, providers=providers, threads=threads, more=_field(7, declared))
    try:
        found = {node.name for node in session.get_overridable_initializers()}
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"expected a graph with names. Received: {path} ({reason_of(error)})") from None
    if not found.issuperset(names):
        raise InputError(
            "other steps, another stop threshold and stop_mode='each' need a file of this version; files of the layout "
            f"loop from earlier versions must be exported again. Received: {path}"
        )
    return session


_FLOAT, _INT64 = 1, 7  # of TensorProto.DataType in onnx.proto


def _scalar_input(name: str, kind: int) -> bytes:
    """Returns the declaration of an input without axes as a part of a GraphProto of onnx.proto."""
    tensor = bytes([1 << 3, kind]) + _field(2, b"")
    return _field(11, _field(1, name.encode()) + _field(2, _field(1, tensor)))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer with fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # text, or what no exporter writes
        return text


def graph_shapes(graph: Any, source: str | os.PathLike) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Returns the shapes of the inputs and of the outputs of an ONNX Runtime session, by name.

    Raises:
        InputError: for a graph whose names are not text.
    """

    def shapes(nodes: Sequence[Any]) -> dict[str, Shape]:
        # ONNX Runtime gives an empty list both for a number and for a shape that the file does not state.
        return {
            node.name: tuple(axis if isinstance(axis, int) else None for axis in node.shape) if node.shape else None
            for node in nodes
        }

    try:
        return shapes(graph.get_inputs()), shapes(graph.get_outputs())
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"expected a graph with names. Received: {source} ({reason_of(error)})") from None


def read_properties(graph: Any, source: str | os.PathLike) -> dict[str, str]:
    """Returns the metadata of an ONNX Runtime session as text by name.

    Raises:
        InputError: for metadata that is not UTF-8.
    """
    try:
        return dict(graph.get_modelmeta().custom_metadata_map)
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"expected metadata in UTF-8. Received: {source} ({reason_of(error)})") from None


class Stepwise:
    """The graphs of a stepwise export with the interface of one session; stops when no image has an object left.

    What passes from step to step stays on the device that computes. On a CPU, images whose sequences have ended leave
    the batch, unless the graphs take only one size of batch.

    Args:
        folder: with `encoder.onnx`, `step.onnx` and `masks.onnx`. In folders of earlier versions, the encoder does not
            take the first step, and the step enlarges its mask; `masks.onnx` and `graphs` in the metadata are missing.
        providers, threads: see `Options`.

    Attributes:
        stop_threshold: objectness below which the sequence of an image has ended; None to take all steps.
        steps: T, the most steps of a sequence.
    """

    def __init__(self, folder: pathlib.Path, *, providers: Providers = None, threads: int | None = None) -> None:
        def opened(name: str) -> Any:
            return open_session(folder / f"{name}.onnx", providers=providers, threads=threads)

        self._encoder, self._step = opened("encoder"), opened("step")
        self.stop_threshold: float | None = None
        properties = read_properties(self._encoder, folder)
        steps, graphs = properties.get("num_steps"), _parsed(properties.get("graphs", "null"))
        if steps is None or not (steps.isascii() and steps.isdecimal() and 1 <= int(steps[:9]) <= _MOST_STEPS):
            raise InputError(
                f"expected the folder of a stepwise export, with 'num_steps' (1 … {_MOST_STEPS}) in its metadata. "
                f"Received: {folder} with {_shown(steps)}"
            )
        if graphs not in (None, list(GRAPHS)):
            raise InputError(
                "expected a stepwise export of the graphs encoder, step and masks; a newer version of rsis_tf may read "
                f"it. Received: {folder} with {_shown(graphs)}"
            )
        self.steps = int(steps)
        self._masks = opened("masks") if graphs else None
        self._names = STEP_OUTPUTS if graphs else EARLIER_STEP_OUTPUTS
        _, self._given = graph_shapes(self._encoder, folder)
        _, self._made = graph_shapes(self._step, folder)
        self._states = [name for name in self._given if name.startswith(("hidden_", "cell_")) or name == "found"]
        self._check(folder)
        on_gpu = self._encoder.get_providers()[0] in ("CUDAExecutionProvider", "TensorrtExecutionProvider")
        self._device = "cuda" if on_gpu else "cpu"
        any_batch = all(not isinstance((shape or (None,))[0], int) for shape in self._given.values())
        self._may_leave = any_batch and not on_gpu
        self.get_inputs, self.get_modelmeta = self._encoder.get_inputs, self._encoder.get_modelmeta

    def _check(self, folder: pathlib.Path) -> None:
        """Checks that the graphs take what the graphs before them return."""
        taken, _ = graph_shapes(self._step, folder)
        given, made, names = self._given, self._made, self._names
        first = names if self._masks is not None else ()
        problems = [
            *(f"no output {name} of the step" for name in names if name not in made),
            *(f"no output {name} of the encoder" for name in first if name not in given),
            *(f"no output next_{name} of the step" for name in sorted(self._states) if f"next_{name}" not in made),
            *(f"no input {name} of the step" for name in sorted(set(given) - set(taken) - set(first))),
            *(f"no output {name} of the encoder" for name in sorted(set(taken) - set(given))),
            *(f"{name} without its input" for name in sorted(set(made) - set(names)) if name[5:] not in self._states),
        ]
        kinds = {node.name: node.type for graph in (self._encoder, self._step) for node in graph.get_outputs()}
        for node in () if problems else self._step.get_inputs():
            name = node.name
            for maker in (name, f"next_{name}") if name in self._states else (name,):
                shape = made[maker] if maker in made else given[maker]
                if kinds[maker] != node.type or not _fits(shape, taken[name]):
                    got, wanted = f"{_axes(shape)} {kinds[maker]}", f"{_axes(taken[name])} {node.type}"
                    problems.append(f"{maker} {got} for the input {name} {wanted}")
        for name in () if problems else (*names, *(f"next_{name}" for name in self._states)):
            shape = made[name]
            if shape is None or None in shape[1:] or kinds[name] != "tensor(float)":  # memory for it must be known
                problems.append(f"{name} {_axes(shape)} {kinds[name]}, not float with sides that are known")
        if self._masks is not None and not problems:
            enlarged, sides = graph_shapes(self._masks, folder), made[names[0]]
            if set(enlarged[0]) != {"logits"} or set(enlarged[1]) != {"masks"}:
                problems.append(f"{_shown(list(enlarged[0]))} and {_shown(list(enlarged[1]))} of the masks")
            elif not _fits(enlarged[0]["logits"], (sides[0], None, *sides[1:])):  # type: ignore[index]
                problems.append(f"{names[0]} {_axes(sides)} for the input logits {_axes(enlarged[0]['logits'])}")
        if problems:
            files = "an encoder.onnx and a step.onnx" if self._masks is None else "the graphs"
            raise InputError(
                f"expected {files} of the same stepwise export. "
                f"Received: {folder} with {_shown('; '.join(problems))[1:-1]}"
            )

    def get_outputs(self) -> list[Any]:
        """Returns the outputs by the names of a whole graph."""
        shapes = [self._made[name] for name in self._names]  # (B, …) → (B, T, …)
        if self._masks is not None:
            (shape,) = (node.shape for node in self._masks.get_outputs())
            whole = [axis if isinstance(axis, int) else None for axis in shape]
            shapes[0] = (whole[0], *whole[2:]) if len(whole) > 2 else None
        return [
            types.SimpleNamespace(name=name, shape=None if shape is None else (shape[0], self.steps, *shape[1:]))
            for name, shape in zip(OUTPUTS, shapes, strict=True)
        ]

    def run(self, names: Sequence[str], feed: dict[str, Array], run_options: Any = None) -> list[Array]:
        """Does what `InferenceSession.run` does, with as many steps as the images need.

        The outputs of an image that has left the batch are 0.
        """
        images = np.ascontiguousarray(feed["image"])
        going = np.arange(len(images))  # the images in the batch
        ended = np.zeros(len(going), bool)
        chain, made = self._begin(images, run_options)
        blank = (0.0 if self._masks is None else _OUTSIDE, 0.0, 0.0)
        found: list[list[Array]] = []
        while True:
            if made is None:
                made = chain.step(run_options)
            found.append([_spread(*each, going, len(images)) for each in zip(made, blank, strict=True)])
            if self.stop_threshold is not None:
                ended |= ~(made[2] >= self.stop_threshold)  # written so that NaN ends the sequence too
            if len(found) >= self.steps or ended.all():
                break
            if self._may_leave and ended.any():
                chain, going, ended = chain.keep(~ended), going[~ended], ended[~ended]
            made = None
        masks, classes, stop = (np.stack(steps, axis=1) for steps in zip(*found, strict=True))  # (B, T, …)
        if self._masks is not None:
            (masks,) = self._masks.run(["masks"], {"logits": masks}, run_options)
        outputs = dict(zip(OUTPUTS, (masks, classes, stop), strict=True))
        return [outputs[name] for name in names]

    def _begin(self, images: Array, run_options: Any) -> tuple["_Chain", list[Array] | None]:
        """Runs the encoder. Returns also the outputs of the first step, or None if the encoder does not take it."""
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("image", images)
        for name in self._given:
            binding.bind_output(name, "cpu" if name in self._names else self._device)
        self._encoder.run_with_iobinding(binding, run_options)
        values = dict(zip(self._given, binding.get_outputs(), strict=True))
        made = None if self._masks is None else [values.pop(name).numpy() for name in self._names]
        shapes = {name: self._made[name] for name in self._names}
        shapes |= {name: self._made[f"next_{name}"] for name in self._states}
        sides = {name: shape[1:] for name, shape in shapes.items() if shape is not None}
        return _Chain(self._step, values, sides, self._names, batch=len(images), device=self._device), made


_OUTSIDE = -100.0
"""A mask logit whose probability is 0."""


class _Chain:
    """The step graph and its memory in one run: two sets of states take turns as input and output.

    Args:
        session: the step graph.
        values: what every step reads, and the states before the next step, as `OrtValue` by name.
        sides: shape of each output and each state without the batch, by name.
        outputs: names of the outputs.
        batch: B.
        device: of the states, "cpu" or "cuda".
    """

    def __init__(
        self,
        session: Any,
        values: dict[str, Any],
        sides: dict[str, tuple[Any, ...]],
        outputs: Sequence[str],
        *,
        batch: int,
        device: str,
    ) -> None:
        from onnxruntime import OrtValue

        self._session, self._values, self._outputs, self._device = session, values, outputs, device
        self._sides, self._batch = sides, batch
        states = [name for name in sides if name not in outputs]
        spare = {
            name: OrtValue.ortvalue_from_shape_and_type((batch, *sides[name]), np.float32, device) for name in states
        }
        self._sets = collections.deque([{name: values[name] for name in states}, spare])
        self._bindings = collections.deque(self._bound(*pair) for pair in (self._sets, reversed(self._sets)))

    def _bound(self, before: dict[str, Any], after: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        for name, value in (self._values | before).items():
            binding.bind_ortvalue_input(name, value)
        for name, value in after.items():
            binding.bind_ortvalue_output(f"next_{name}", value)
        return binding

    def step(self, run_options: Any) -> list[Array]:
        """Takes a step and returns its outputs, new arrays."""
        made = [np.empty((self._batch, *self._sides[name]), np.float32) for name in self._outputs]
        for name, array in zip(self._outputs, made, strict=True):
            self._bindings[0].bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(self._bindings[0], run_options)
        self._bindings.rotate()
        self._sets.rotate()
        return made

    def keep(self, rows: Array) -> "_Chain":
        """Returns the chain of some images of the batch, chosen by (B,) bool."""
        from onnxruntime import OrtValue

        values = {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[rows]))
            for name, value in (self._values | self._sets[0]).items()
        }
        count = int(np.count_nonzero(rows))
        return _Chain(self._session, values, self._sides, self._outputs, batch=count, device=self._device)


def _spread(output: Array, blank: float, going: Array, count: int) -> Array:
    """Returns an output of all `count` images: that of the images in the batch, and `blank` for those that left it."""
    if len(going) == count:
        return output
    whole = np.full((count, *output.shape[1:]), blank, output.dtype)
    whole[going] = output
    return whole


def open_graph(
    path: pathlib.Path, *, providers: Providers = None, threads: int | None = None, verify: bool = True
) -> Any:
    """Opens an .onnx file, or the folder of a stepwise export.

    Args:
        path: of the file or the folder.
        providers, threads, verify: see `Options`.

    Returns:
        An `onnxruntime.InferenceSession`, or a `Stepwise` with the same interface.

    Raises:
        InputError: see `open_session` and `verify_checksums`.
    """
    if verify:
        verify_checksums(path)
    if os.path.isdir(path):
        return Stepwise(path, providers=providers, threads=threads)
    return open_session(path, providers=providers, threads=threads)


def open_session(
    path: pathlib.Path, *, providers: Providers = None, threads: int | None = None, more: bytes = b""
) -> Any:
    """Opens an ONNX file on exactly the execution providers asked for.

    Args:
        path: of the file.
        providers, threads: see `Options`.
        more: bytes to read after the end of the file.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        InputError: for a file that is missing or broken, and when a provider asked for does not start (ONNX Runtime
            itself would continue on the CPU).
    """
    try:
        import onnxruntime  # here, so that decoding works without it and importing this module stays quick
    except ImportError as error:
        raise InputError(
            'running ONNX files needs one ONNX Runtime: pip install "rsis_tf[cpu]", or, for NVIDIA GPUs, '
            f'pip install "rsis_tf[runtime-gpu]". Received: {error}'
        ) from None
    if not os.path.isfile(path):
        raise InputError(f"expected an ONNX file. Received: {path}, which is not a file")
    asked = provider_list(Options(providers=providers, threads=threads).providers)
    names = [name for name, _ in asked]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    on_gpu = any("CUDA" in name or "Tensorrt" in name for name in names)
    if missing:
        # A CUDA provider can be missing because onnxruntime is installed over onnxruntime-gpu, or instead of it.
        gpu = ' (for NVIDIA GPUs, in a new environment, in the folder of the repository: pip install ".[runtime-gpu]")'
        raise InputError(
            f"expected providers of the installed onnxruntime, {onnxruntime.get_available_providers()}"
            f"{gpu if any('CUDA' in name or 'Tensorrt' in name for name in missing) else ''}. Received: {missing}"
        )
    if on_gpu and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads or 0)
    # Failures are raised. The log would print them too, with names from the file as they are, control characters too.
    options.log_severity_level = 4
    try:
        source = path.read_bytes() + more if more else str(path)
        session = onnxruntime.InferenceSession(source, options, providers=asked, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has a dozen classes of its own
        raise InputError(
            f"expected an ONNX file that loads on {names[0]}. Received: {path} ({reason_of(error)})"
        ) from None
    if session.get_providers()[: len(names)] != names:
        raise InputError(f"expected {names}, but not all of them start here. Received: {session.get_providers()}")
    return session


def provider_list(providers: Providers) -> list[tuple[str, dict[str, Any]]]:
    """Returns (ONNX Runtime's name, options) pairs; the CPU for None.

    Raises:
        InputError: for anything that is not described in `Options`.
    """
    short = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
    entries = ["cpu"] if providers is None else [providers] if isinstance(providers, str) else providers
    pairs = []
    for entry in entries if isinstance(entries, list | tuple) else ():
        pair = (entry, {}) if isinstance(entry, str) else entry
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            break
        name, options = pair
        if not (isinstance(name, str) and isinstance(options, dict)):
            break
        pairs.append((short.get(name.lower(), name), dict(options)))
    if not pairs or len(pairs) < len(entries):
        raise InputError(
            f"providers must be a name, or a list of names and (name, options) pairs. Received: {_shown(providers)}"
        )
    return pairs


def _quiet_run() -> Any:
    """Options of one run: ONNX Runtime raises its failures, so it need not print them as well."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # only fatal errors
    return options
