"""Settings as JSON.

`config.json` of a run is nested as the classes are and has the number of its format. Files of format 1, which had no
number, stored the training as one flat list of fields; they are still read.
"""

import dataclasses
import json
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from rsis_tf.config.grouped import Grouped
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.config.model import ModelConfig
from rsis_tf.config.run import FOLLOWING, RunConfig
from rsis_tf.config.training import HEAD_LOSSES
from rsis_tf.errors import InputError, brief, reason_of
from rsis_tf.files import write_text

FORMAT = 2
"""Of a run's settings; files with a higher number were written by a later version."""

_LARGEST = 64 << 20
"""Size in bytes of the largest file that is read; the files of a run take a thousandth of it."""

Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """Returns a configuration as indented JSON. Of a `RunConfig`, each setting that parts share is stored once."""
    values = dataclasses.asdict(config)
    if isinstance(config, RunConfig):
        for part, names in FOLLOWING.items():
            for name in names:
                del values[part][name]
        values = {"format": FORMAT, **values}
    return json.dumps(values, indent=2) + "\n"


def write(config: RunConfig, path: str | pathlib.Path) -> None:
    """Writes a run's settings."""
    write_text(path, to_json(config))


def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Builds a configuration from plain values; fields left out keep their default.

    Raises:
        InputError: for a field that is missing or does not exist, or a value of another type or out of range.
    """
    if cls is RunConfig:
        values = _today(values)
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a dataclass
    accepted = cls.accepted_names() if issubclass(cls, Grouped) else fields
    unknown = sorted(set(values) - accepted)
    if unknown:
        raise InputError(f"{cls.__name__} has the fields {sorted(accepted)}. Received: {_names(unknown)}")
    required = [
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"{cls.__name__} needs the fields {required}. Received: no {', '.join(missing)}")
    return cls(
        **{name: _built(hints[name], value, name) if name in fields else value for name, value in values.items()}
    )


def _built(hint: Any, value: Any, name: str) -> Any:
    """Returns a field's value in which the objects that stand for dataclasses are those; others are not checked."""
    arguments = [argument for argument in typing.get_args(hint) if argument not in (type(None), Ellipsis)]
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{name} must be an object with fields. Received: {name}={brief(value)}")
        return from_dict(hint, value)  # type: ignore[arg-type]
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and len(arguments) == 1:
        return value if value is None else _built(arguments[0], value, name)
    if arguments and dataclasses.is_dataclass(arguments[-1]):
        if typing.get_origin(hint) is tuple and isinstance(value, list):
            return [_built(arguments[-1], item, name) for item in value]
        if isinstance(value, Mapping):
            return {key: _built(arguments[-1], item, name) for key, item in value.items()}
    return value


def load(cls: type[Config], path: str | pathlib.Path) -> Config:
    """Reads a configuration from a JSON file.

    Raises:
        InputError: if the file is missing or holds something else; the message names the file.
    """
    values = read_json(pathlib.Path(path), f"a JSON object with a {cls.__name__}")
    try:
        return from_dict(cls, values)
    except InputError as error:
        raise InputError(f"{error} in {path}") from None


def read_json(path: pathlib.Path, expected: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: if the file is missing or holds something else; `expected` says what it should have been.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"more than {_LARGEST:,} bytes")
        values = json.loads(content.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or thousands of digits
        raise InputError(f"expected {expected}. Received: {path} ({reason_of(error)})") from None
    if not isinstance(values, dict):
        raise InputError(f"expected {expected}. Received: {type(values).__name__} in {path}")
    return values


def _today(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a `config.json` of any format without its number, in names that the classes take."""
    read = {name: value for name, value in values.items() if name != "format"}
    number = values.get("format", 1)
    if type(number) is not int or number not in (1, FORMAT):
        raise InputError(
            f"expected settings of format 1 or {FORMAT}, which this version reads. Received: {brief(number)}"
        )
    for part in ("model", "data", "train"):
        if not isinstance(read.get(part), Mapping):
            received = f"{part}={brief(read[part])}" if part in read else f"no {part}"
            raise InputError(f"expected settings with model, data and train, each an object. Received: {received}")
    if number == 1:
        # Every run stored the loss weights of all mask heads.
        name = read["model"].get("mask_head", ModelConfig.mask_head)
        head = MASK_HEADS.get(name) if isinstance(name, str) else None
        unused = [name for name, term in HEAD_LOSSES.items() if head is None or term not in head.loss_weights]
        read["train"] = {name: value for name, value in read["train"].items() if name not in unused}
    return read


def _names(unknown: list[str]) -> str:
    """Returns a few names as Python writes them, without quotes where they are plain."""
    shown = [name if name.isidentifier() and len(name) < 60 else brief(name) for name in unknown[:5]]
    return ", ".join(shown) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
