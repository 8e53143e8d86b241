"""Checks of settings; every message ends in the setting and the value received."""

from collections.abc import Collection
from typing import Any

from rsis_tf.errors import InputError


def require(condition: bool, name: str, expected: str, received: object) -> None:
    """Raises an `InputError` that says what a setting must be, unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {expected}. Received: {name}={received!r}")


def one_of(name: str, value: object, choices: Collection[Any]) -> None:
    """Requires one of several values."""
    require(value in choices, name, f"one of {', '.join(map(str, choices))}", value)


def image_size(value: Any) -> tuple[int, int]:
    """Returns (height, width) as a tuple, and requires two positive integers."""
    size = tuple(value)
    valid = len(size) == 2 and all(isinstance(side, int) and side >= 1 for side in size)
    require(valid, "image_size", "two positive integers (height, width)", size)
    return size[0], size[1]
