"""Frames of a video, read by PyAV (the package contains FFmpeg)."""

import contextlib
import os
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from rsis_tf.errors import InputError
from rsis_tf.runtime import reason_of

_MOST_PIXELS = 1 << 26
"""Of a frame: 67 million, twice those of 8K. A damaged header may claim any size."""
_FORMATS = "avi,mov,mp4,m4v,matroska,webm,mpeg,mpegvideo,mpegts"
"""FFmpeg's readers that may open a file: those of videos, not those of playlists, which open other files."""


def read_frames(path: pathlib.Path, *, every: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Reads a video frame by frame, one in memory at a time.

    Args:
        path: of the file.
        every: return frames 0, every, 2·every …

    Yields:
        The number of the frame, from 0, and the frame (H, W, 3) uint8 RGB, turned as the video's rotation says.

    Raises:
        InputError: if PyAV is not installed, or the video is missing, broken or incomplete.
    """
    _library(path)
    number = -1
    try:
        with _opened(path) as container:
            if not container.streams.video:
                raise InputError(f"expected a video. Received: {path}, which has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
            for number, frame in enumerate(container.decode(stream)):
                if frame.width * frame.height > _MOST_PIXELS:
                    raise ValueError(f"{frame.width}x{frame.height} pixels are more than {_MOST_PIXELS}")
                if number % every == 0:
                    # FFmpeg counts degrees counterclockwise, as rot90 does.
                    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield number, np.ascontiguousarray(turned)
    except InputError:
        raise
    except Exception as error:  # PyAV raises several kinds for a damaged file, not only its own
        reason = getattr(error, "strerror", None) or reason_of(error)
        where = f", after {number + 1} frames" if number >= 0 else ""
        raise InputError(f"expected a video that can be read. Received: {path}{where} ({reason})") from None


def count_frames(path: pathlib.Path, *, every: int = 1) -> int:
    """Returns how many frames `read_frames` will yield according to the file's header; 1 if the header does not say."""
    _library(path)
    try:
        with _opened(path) as container:
            return max([1, *(-(-stream.frames // every) for stream in container.streams.video[:1])])
    except Exception:
        return 1  # `read_frames` reports what is wrong


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """Opens a video as a file, never as an address: FFmpeg would fetch `http://…` and files that playlists name."""
    import av

    if not os.path.isfile(path):  # opening a pipe would wait for its writer
        raise InputError(f"expected a video. Received: {path} (no such file)")
    with (
        open(path, "rb") as file,
        av.open(file, metadata_errors="replace", options={"format_whitelist": _FORMATS}) as container,
    ):
        yield container


def _library(path: pathlib.Path) -> types.ModuleType:
    try:
        import av
    except ImportError:
        raise InputError(f'reading videos needs PyAV: pip install "rsis_tf[video]". Received: {path}') from None
    return av
