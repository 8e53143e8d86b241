"""A process that measures one case, as its parent sees it.

The parent writes lines to the process: first the task as JSON, then how many runs to measure, as often as it likes,
then `end`. The process answers each line with one line of JSON: facts of the opened file or an `error`, the
milliseconds of each run, and its memory. Several processes can wait with opened files, so that they can be measured in
turns.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from export.benchmarking.worker import Task


class MeasurementError(Exception):
    """The process ended, failed or took too long; the message gives the reason."""


class Process:
    """Starts the process; the file is opened meanwhile.

    Args:
        task: what to measure.
        worker: arguments of Python.
        environment: variables to set for it.
    """

    def __init__(self, task: Task, *, worker: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115, closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, *worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=os.environ | environment,
        )
        self._send(json.dumps(dataclasses.asdict(task)))

    def opened(self, seconds: float | None = None) -> dict[str, Any]:
        """Waits until the file is open and warm, and returns its facts.

        Raises:
            MeasurementError: if it cannot be opened, or not in time.
        """
        facts = self._answer(seconds)
        if "error" in facts:
            raise MeasurementError(facts["error"])
        return facts

    def times(self, runs: int, seconds: float | None = None) -> list[float]:
        """Returns the milliseconds of each of a number of runs.

        Raises:
            MeasurementError: if a run fails, or not all end in time.
        """
        self._send(str(runs))
        found = self._answer(seconds)
        if isinstance(found, dict):
            raise MeasurementError(found["error"])
        return found

    def memory(self) -> dict[str, float | None]:
        """Returns the megabytes (2²⁰ bytes) of the process."""
        self._send("end")
        return self._answer(60)

    def close(self) -> None:
        """Ends the process, if it has not ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def stop(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will be missing, and the reason is known then
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _answer(self, seconds: float | None) -> Any:
        """Returns the next line as JSON."""
        assert self._process.stdout is not None
        start = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise MeasurementError(f"no answer in {time.monotonic() - start:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise MeasurementError(f"ended with code {code}: {last}")
        return json.loads(line)
