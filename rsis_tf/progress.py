"""A progress line for terminals: how many are done, at which rate, and the time left."""

import sys
import time
from typing import TextIO


class ProgressLine:
    """Shows count, rate and time left on standard error; writes nothing if that is not a terminal.

        line = ProgressLine()
        line(3, 120)  # 3/120 images, 4.1/s, 29 s left

    Args:
        unit: plural of the things counted.
        stream: where to write; default: standard error.
    """

    def __init__(self, unit: str = "images", *, stream: TextIO | None = None) -> None:
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._start = self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Updates the line, at most ten times a second; removes it when everything is done."""
        if not self._stream.isatty():
            return
        now = time.monotonic()
        if done >= total:
            self.clear()
        elif now - self._shown >= 0.1:
            self._shown = now
            rate = done / max(now - self._start, 1e-9)
            left = _duration((total - done) / rate) if done else "?"
            line = f"{done}/{total} {self._unit}, {rate:.1f}/s, {left} left"
            print(f"\r\033[K{line}", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Removes the line so that something else can be printed; the next call draws it again at once."""
        self._shown = float("-inf")
        if self._stream.isatty():
            print("\r\033[K", end="", file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
