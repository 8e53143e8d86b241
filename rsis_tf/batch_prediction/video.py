"""Frames of a video, read and written by PyAV (the package contains FFmpeg)."""

import contextlib
import fractions
import math
import os
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from rsis_tf.errors import InputError
from rsis_tf.runtime import reason_of

_MOST_PIXELS = 1 << 26
"""Of a frame: 67 million, twice those of 8K. A damaged header may claim any size."""
_FORMATS = "avi,mov,mp4,m4v,matroska,webm,mpeg,mpegvideo,mpegts"
"""FFmpeg's readers that may open a file: those of videos, not those of playlists, which open other files."""


def read_frames(path: pathlib.Path, *, every: int = 1) -> Iterator[tuple[int, float | None, np.ndarray]]:
    """Reads a video frame by frame, one in memory at a time. Damaged frames are left out, and those after them read.

    Args:
        path: of the file.
        every: return frames 0, every, 2·every …

    Yields:
        The number of the frame, from 0, its time in seconds (None if the file does not say), and the frame (H, W, 3)
        uint8 RGB, turned and mirrored as the video says. A damaged frame has a number, too.

    Raises:
        InputError: if PyAV is not installed, or the video is missing or broken; after the last frame if some were
            damaged, or if the header of an AVI, MP4 or Matroska file states a later end.
    """
    library = _library(path)
    number, damaged = -1, 0
    try:
        with _opened(path) as container:
            if not container.streams.video:
                raise InputError(f"expected a video. Received: {path}, which has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
            begin = stream.start_time or 0  # MPEG streams and cuts of longer videos do not begin at 0
            failures: list[Exception] = []
            end = _End(stream)
            for packet in map(end.pass_on, _packets(container, stream, failures)):
                try:
                    frames = stream.decode(packet)
                except library.error.InvalidDataError as error:
                    if number < 0:  # without a first frame, the file is no video
                        raise
                    number, damaged, reason = number + 1, damaged + 1, error.strerror
                    continue
                for frame in frames:
                    number += 1
                    if frame.width * frame.height > _MOST_PIXELS:
                        raise ValueError(f"{frame.width}x{frame.height} pixels are more than {_MOST_PIXELS}")
                    if number % every == 0:
                        shown = _as_shown(frame.to_ndarray(format="rgb24"), frame.side_data.get("DISPLAYMATRIX"))
                        # `frame.time` is NaN after the packet None.
                        seconds = None if frame.pts is None else float((frame.pts - begin) * stream.time_base)
                        yield number, seconds, np.ascontiguousarray(shown)
            missed = None if failures else end.missed(container)
        if failures:
            raise failures[0]
        if damaged:
            raise InputError(
                f"expected a video without damage. Received: {path}, {damaged} of whose {number + 1} frames cannot be "
                f"read ({reason})"
            )
        if missed is not None:
            raise InputError(
                f"expected a whole video. Received: {path}, which ends after {number + 1} frames, at second "
                f"{end.seconds:.1f} of {missed:.1f}"
            )
    except InputError:
        raise
    except Exception as error:  # PyAV raises several kinds for a damaged file, not only its own
        reason = getattr(error, "strerror", None) or reason_of(error)
        where = f", after {number + 1} frames" if number >= 0 else ""
        raise InputError(f"expected a video that can be read. Received: {path}{where} ({reason})") from None


def _as_shown(frame: np.ndarray, matrix: Any) -> np.ndarray:
    """Turns and mirrors a frame as players do: by quarters, to what is nearest to the matrix.

    Args:
        frame: (H, W, 3), as stored.
        matrix: nine int32, by rows; a stored pixel (x, y, 1) is shown at its product with the matrix. None for a video
            without one.

    Returns:
        (H, W, 3), or (W, H, 3) after a quarter turn.
    """
    if matrix is None:
        return frame
    (a, b, _), (c, d, _), _ = np.frombuffer(matrix, np.int32).reshape(3, 3).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):  # rows become columns
        frame, a, d = frame.swapaxes(0, 1), c, b
    return frame[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _packets(container: Any, stream: Any, failures: list[Exception]) -> Iterator[Any]:
    """Yields the packets of a stream; after an error, which goes to `failures`, None.

    None makes the decoder return the frames that it still holds: with several threads it is some packets behind, and
    the frames before the damage would be lost.
    """
    try:
        yield from container.demux(stream)
    except Exception as error:
        failures.append(error)
        yield None


class _End:
    """Where the packets of a stream end, compared with the header: FFmpeg reads a file without its end as a whole one.

    Attributes:
        seconds: at which the last packet ends.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._packets, self.seconds = stream, 0, 0.0

    def pass_on(self, packet: Any) -> Any:
        """Counts a packet and returns it."""
        if packet is not None and packet.size and packet.pts is not None:
            self._packets += 1
            self.seconds = max(self.seconds, float((packet.pts + (packet.duration or 0)) * self._stream.time_base))
        return packet

    def missed(self, container: Any) -> float | None:
        """Returns the second at which the stream should end; None if it does, or if the header does not say."""
        stream, reader, stated = self._stream, container.format.name, -math.inf
        begin = (stream.start_time or 0) * stream.time_base
        if "matroska" in reader and container.duration:
            # The file's duration is that of its longest stream; some programs also copy the tag of a longer video.
            own = _seconds(stream.metadata.get("DURATION", ""))
            whole = container.duration / 1e6
            stated = whole if len(container.streams) == 1 else min(own, whole)
        elif "mp4" in reader and stream.frames and stream.duration:
            stated = float(begin + stream.duration * stream.time_base)
        elif reader == "avi" and stream.frames and stream.average_rate:  # its duration is one of what is there
            stated = float(begin + stream.frames / stream.average_rate)
        fewer = self._packets < stream.frames or not stream.frames
        return stated if fewer and self.seconds < stated - _ROUNDING else None


_ROUNDING = 0.5
"""Seconds that a stated end may be off."""


def _seconds(text: str) -> float:
    """Returns the number of a text such as 00:01:02.500000000; infinity below 0 for another text."""
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return 3600 * int(parts[1]) + 60 * int(parts[2]) + float(parts[3]) if parts else -math.inf


def count_frames(path: pathlib.Path, *, every: int = 1) -> int:
    """Returns how many frames `read_frames` will yield according to the file's header; 1 if the header does not say."""
    _library(path)
    try:
        with _opened(path) as container:
            return max([1, *(-(-stream.frames // every) for stream in container.streams.video[:1])])
    except Exception:
        return 1  # `read_frames` reports what is wrong


def frame_rate(path: pathlib.Path) -> float | None:
    """Returns the frames per second that the file's header states; None if it does not."""
    try:
        with _opened(path) as container:
            rate = container.streams.video[0].average_rate
            return float(rate) if rate and 0.001 < rate < 1000 else None
    except Exception:
        return None  # `read_frames` reports what is wrong


class VideoWriter:
    """Writes an MP4 file, H.264 if PyAV has an encoder for it and MPEG-4 otherwise.

    Args:
        path: of the file; complete after `close`.
        size: (H, W) of the frames; an odd side is one pixel longer in the file.
        rate: frames per second.

    Raises:
        InputError: if PyAV is not installed.
    """

    def __init__(self, path: pathlib.Path, *, size: tuple[int, int], rate: float) -> None:
        av = require(f"writing {path.name}")
        self._library, self._size = av, size
        self._container = av.open(str(path), "w", format="mp4")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=fractions.Fraction(rate).limit_denominator(1001))
        self._stream.height, self._stream.width = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"  # what browsers and players show

    def add(self, frame: np.ndarray) -> None:
        """Adds a frame, (H, W, 3) uint8; one of another size is resized."""
        if frame.shape[:2] != self._size:
            frame = np.asarray(Image.fromarray(frame).resize(self._size[::-1]))
        frame = np.pad(frame, ((0, self._size[0] % 2), (0, self._size[1] % 2), (0, 0)), mode="edge")
        self._container.mux(self._stream.encode(self._library.VideoFrame.from_ndarray(frame, format="rgb24")))

    def close(self) -> None:
        """Writes what the encoder still holds."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def abandon(self) -> None:
        """Closes the file as it is."""
        with contextlib.suppress(OSError):  # on a full disk; the error that ended the run is the one to report
            self._container.close()


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
    return require("reading videos", path)


def require(purpose: str, received: object = "an installation without it") -> types.ModuleType:
    """Returns PyAV.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import av
    except ImportError:
        raise InputError(f'{purpose} needs PyAV: pip install "rsis_tf[video]". Received: {received}') from None
    return av
