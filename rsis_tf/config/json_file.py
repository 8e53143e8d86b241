"""Configurations as JSON."""

import dataclasses
import json
import pathlib
import typing
from typing import Any, TypeVar

from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from rsis_tf.errors import InputError

Config = TypeVar("Config", ModelConfig, DataConfig, TrainConfig, RunConfig)


def to_json(config: Any) -> str:
    """Returns the configuration as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Builds a configuration from plain values; fields left out keep their default.

    Raises:
        InputError: for a field that does not exist or a value out of range.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - fields)
    if unknown:
        raise InputError(f"{cls.__name__} has the fields {sorted(fields)}. Received: {unknown}")
    hints = typing.get_type_hints(cls)
    read = {
        name: from_dict(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    return cls(**read)


def load(cls: type[Config], path: str | pathlib.Path) -> Config:
    """Reads a configuration from a JSON file."""
    return from_dict(cls, read_json(pathlib.Path(path), f"a JSON object with a {cls.__name__}"))


def read_json(path: pathlib.Path, expected: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: if the file is missing or holds something else; `expected` says what it should have been.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"expected {expected}. Received: {path} ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"expected {expected}. Received: {type(values).__name__} in {path}")
    return values
