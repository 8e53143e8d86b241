"""What the property-based tests draw: masks, label maps, classes, predictions."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
from evaluation_fakes import make_instance
from hypothesis import strategies as st

from rsis_tf.runtime import Instance, printable

Size = tuple[int, int]


@contextlib.contextmanager
def folder() -> Iterator[pathlib.Path]:
    """Yields an empty folder for one example; pytest's `tmp_path` is shared by all examples of a test."""
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


def check_message(error: Exception) -> None:
    """Checks that an error of the project is one printable line that says what was received."""
    text = str(error)
    assert "Received: " in text
    assert "\n" not in text
    assert text == printable(text)


def sizes(most: int = 12, *, least: int = 1) -> st.SearchStrategy[Size]:
    """Draws (H, W)."""
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def masks_of(draw: st.DrawFn, size: Size) -> np.ndarray:
    """Draws a mask (H, W) bool: any pixels, empty, full, one pixel, or a few rectangles."""
    height, width = size
    kind = draw(st.sampled_from(["any", "empty", "full", "pixel", "rectangles", "rectangles"]))
    mask = np.full(size, kind == "full")
    if kind == "any":
        packed = draw(st.binary(min_size=height * width // 8 + 1, max_size=height * width // 8 + 1))
        mask = np.unpackbits(np.frombuffer(packed, np.uint8))[: height * width].reshape(size).astype(bool)
    elif kind == "pixel":
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    elif kind == "rectangles":
        for value in draw(st.lists(st.booleans(), min_size=1, max_size=4)):
            mask[_slice(draw, height), _slice(draw, width)] = value
    return mask


def masks(most: int = 12) -> st.SearchStrategy[np.ndarray]:
    """Draws a mask (H, W) bool, 1×N and N×1 included."""
    return sizes(most).flatmap(masks_of)


@st.composite
def painted(
    draw: st.DrawFn, size: Size, values: st.SearchStrategy[int], *, least: int = 0, most: int = 6
) -> np.ndarray:
    """Draws an image (H, W) int64: 0, and up to `most` rectangles of drawn values, one over the other."""
    image = np.zeros(size, np.int64)
    for value in draw(st.lists(values, min_size=least, max_size=most)):
        image[_slice(draw, size[0]), _slice(draw, size[1])] = value
    return image


@st.composite
def label_maps(draw: st.DrawFn, size: Size, *, most: int = 5, void: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draws a label map (H, W) int32 in which every object has a pixel, and the classes (n,) int32 in 1 … 3."""
    image = draw(painted(size, st.integers(-1 if void else 0, most)))
    present = [value for value in np.unique(image).tolist() if value > 0]
    order = draw(st.permutations(present))
    label_map = np.where(image < 0, -1, 0).astype(np.int32)
    for number, value in enumerate(order, start=1):
        label_map[image == value] = number
    classes = draw(st.lists(st.integers(1, 3), min_size=len(order), max_size=len(order)))
    return label_map, np.array(classes, np.int32)


@st.composite
def images(draw: st.DrawFn, size: Size) -> np.ndarray:
    """Draws an image (H, W, 3) uint8 of noise; only the seed is drawn, because pixels matter little."""
    return np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (*size, 3), np.uint8)


def instance(mask: np.ndarray, *, class_id: int = 1, score: float = 0.5, step: int = 0) -> Instance:
    """Returns a prediction of one of three classes; the score is its class probability, with objectness 1."""
    return make_instance(mask, class_id, class_prob=score, step=step)


@st.composite
def predictions(draw: st.DrawFn, size: Size, *, most: int = 5) -> list[Instance]:
    """Draws predicted objects with a pixel each, in predicted order. Scores are multiples of 1/4, so that many tie."""
    drawn = draw(st.lists(masks_of(size).filter(np.any), max_size=most))
    return [
        instance(mask, class_id=draw(st.integers(1, 3)), score=draw(st.integers(1, 4)) / 4, step=step)
        for step, mask in enumerate(drawn)
    ]


def _slice(draw: st.DrawFn, side: int) -> slice:
    start = draw(st.integers(0, side - 1))
    return slice(start, draw(st.integers(start + 1, side)))
