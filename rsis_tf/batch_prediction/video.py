"""Frames of a video, read by PyAV (the package contains FFmpeg)."""

import pathlib
import types
from collections.abc import Iterator

import numpy as np

from rsis_tf.errors import InputError


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
    av = _library(path)
    if not path.is_file():
        raise InputError(f"expected a video. Received: {path} (no such file)")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"expected a video. Received: {path}, which has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if number % every == 0:
                    # FFmpeg counts degrees counterclockwise, as rot90 does.
                    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield number, np.ascontiguousarray(turned)
    except av.FFmpegError as error:
        raise InputError(f"expected a video that can be read. Received: {path} ({error.strerror})") from None


def count_frames(path: pathlib.Path, *, every: int = 1) -> int:
    """Returns how many frames `read_frames` will yield according to the file's header; 1 if the header does not say."""
    av = _library(path)
    try:
        with av.open(str(path)) as container:
            return max([1, *(-(-stream.frames // every) for stream in container.streams.video[:1])])
    except (av.FFmpegError, OSError):
        return 1  # `read_frames` reports what is wrong


def _library(path: pathlib.Path) -> types.ModuleType:
    try:
        import av
    except ImportError:
        raise InputError(f'reading videos needs PyAV: pip install "rsis_tf[video]". Received: {path}') from None
    return av
