"""Headless Chromium controlled over two pipes with the DevTools protocol, without a driver program or a package."""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find_program() -> str | None:
    """Returns the path of an installed Chromium."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Page:
    """One page in a new browser; a context manager.

    Args:
        profile: an empty folder for the browser's files.
        url: page to open.
        size: (width, height) of the window.
    """

    def __init__(self, profile: pathlib.Path, url: str, *, size: tuple[int, int] = (1180, 760)) -> None:
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4; our pipes are put there before it starts.
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        # Without these options the browser contacts its vendor at every start.
        options += ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        options += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "about:blank"]
        start = "import fcntl, os, sys\nread, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])\n"
        start += "os.dup2(read, 3)\nos.dup2(write, 4)\nos.execv(sys.argv[3], sys.argv[3:])"
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", start, str(to_read), str(to_write), find_program(), *options],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, None
        try:
            target = self.send("Target.createTarget", url=url)["targetId"]
            self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait(20)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            continue
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def evaluate(self, program: str) -> Any:
        """Returns the value of an expression in the page, or of its promise."""
        answer = self.send("Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, *, limit: float = 60) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + limit
        while not self.evaluate(f"Boolean({condition})"):
            status = self.evaluate("document.body?.innerText")
            assert time.monotonic() < end, f"{condition} did not become true; the page says {status!r}"
            time.sleep(0.1)

    def screenshot(self, path: pathlib.Path) -> None:
        """Writes a PNG of the visible page."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], 60)[0], "expected an answer from the browser within a minute"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "expected an answer from the browser. Received: its end"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)
