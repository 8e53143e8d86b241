"""The result of one check."""

import dataclasses
from typing import Literal

Status = Literal["ok", "note", "problem"]

_NEW_ENVIRONMENT = "in a new environment, in the folder of the repository: "
NEW_GPU = _NEW_ENVIRONMENT + 'pip install ".[gpu]"'
NEW_RUNTIME_GPU = _NEW_ENVIRONMENT + 'pip install ".[runtime-gpu]"'
"""Advice for training, and for exported models alone, on an NVIDIA GPU."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        status: "ok", "note" (something is limited or missing that not everybody needs) or "problem".
        found: one line: what is there.
        advice: one line: what to do; "" if there is nothing to do.
    """

    status: Status
    found: str
    advice: str = ""


def ok(found: str) -> Finding:
    """Returns the finding of a check without a result to act on."""
    return Finding("ok", found)


def note(found: str, advice: str = "") -> Finding:
    """Returns a finding that limits what can be done."""
    return Finding("note", found, advice)


def problem(found: str, advice: str) -> Finding:
    """Returns a finding that has to be mended."""
    return Finding("problem", found, advice)


def gigabytes(size: int) -> str:
    """Returns a number of bytes as text in GB (10⁹ bytes), or in MB or kB below one."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1000:.0f} kB"
