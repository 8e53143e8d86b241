"""Checks of settings: their types and ranges are declared beside them, and one function compares the values.

```python
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pause:
    seconds: Annotated[float, Between(0, 60)] = 1.0
    where: Annotated[str, OneOf(("train", "val"))] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
```

Every message ends in the setting and the value received.
"""

import collections.abc
import dataclasses
import numbers
import os
import re
import types
import typing
from collections.abc import Collection
from typing import Annotated, Any, Protocol

from rsis_tf.errors import InputError, brief


class Rule(Protocol):
    """A condition in an `Annotated` type; its text continues "… must be"."""

    def admits(self, value: Any) -> bool:
        """Whether a value of the right type satisfies the condition."""


@dataclasses.dataclass(frozen=True)
class Between:
    """A number from `low` to `high`; NaN and the infinities never are.

    Attributes:
        low, high: the bounds.
        open_low, open_high: whether the bound itself is excluded.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def admits(self, value: float) -> bool:
        """Whether the number is in the range."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low, high = (f"{bound:,}" if isinstance(bound, int) else f"{bound:g}" for bound in (self.low, self.high))
        if not self.open_low and not self.open_high:
            return f"in {low}..{high}"
        return f"in {'(' if self.open_low else '['}{low}, {high}{')' if self.open_high else ']'}"


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf:
    """One of several values. A table that grows later, such as `MASK_HEADS`, is read at each check."""

    choices: Collection[Any]

    def admits(self, value: Any) -> bool:
        """Whether the value is among the choices."""
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.choices))}"


@dataclasses.dataclass(frozen=True)
class Matching:
    """A text of a certain form.

    Attributes:
        pattern: a regular expression for the whole text.
        form: the same for the message.
    """

    pattern: str
    form: str

    def admits(self, value: str) -> bool:
        """Whether the text has the form."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.form


# Upper bounds are far above any use: a value beyond them is a mistake, and would only fail later and less clearly.
Channels = Annotated[int, Between(0, 2048)]
Count = Annotated[int, Between(1, 1_000_000)]
Steps = Annotated[int, Between(1, 10_000)]
Epoch = Annotated[int, Between(-1, 1_000_000)]
Patience = Annotated[int, Between(0, 1_000_000)]
Seed = Annotated[int, Between(0, 2**32 - 1)]
Side = Annotated[int, Between(1, 32_768)]
Share = Annotated[float, Between(0, 1)]
ShareBelowOne = Annotated[float, Between(0, 1, open_high=True)]
ShareInside = Annotated[float, Between(0, 1, open_low=True, open_high=True)]
Weight = Annotated[float, Between(0, 1_000_000)]
Rate = Annotated[float, Between(0, 1000)]


def check_fields(config: Any) -> None:
    """Compares the fields of a frozen dataclass with their declared types, and stores lists as tuples.

    Integers pass for floats, paths for text, and NumPy's numbers for Python's.

    Raises:
        InputError: for a field of another type or outside its range.
    """
    for name, hint in declared(type(config)).items():
        object.__setattr__(config, name, fitting(hint, getattr(config, name), name))


def fitting(hint: Any, value: Any, name: str) -> Any:
    """Returns a value as a type declares it.

    Args:
        hint: bool, int, float, str or a dataclass, alone, with rules (`Annotated`) or None, in a tuple or a mapping.
        value: of any type.
        name: for the message.

    Raises:
        InputError: if the value does not fit.
    """
    try:
        return _fitting(hint, value)
    except _DoesNotFit:
        require(False, name, _described(hint), value)


def declared(cls: type) -> dict[str, Any]:
    """Returns the declared type of every field of a dataclass, rules included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def require(condition: bool, name: str, expected: str, received: object) -> None:
    """Raises an `InputError` that says what a setting must be, unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {expected}. Received: {name}={brief(received)}")


def one_of(name: str, value: object, choices: Collection[Any]) -> None:
    """Requires one of several values."""
    require(value in choices, name, str(OneOf(choices)), value)


class _DoesNotFit(Exception):
    """A value is not of its declared type."""


def _fitting(hint: Any, value: Any) -> Any:
    """Returns a value as a type declares it; raises `_DoesNotFit` if it does not fit."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = _fitting(members[0], value)
        if all(rule.admits(value) for rule in members[1:]):
            return value
    elif origin in (types.UnionType, typing.Union):
        return None if value is None else _fitting(_without_none(members), value)
    elif origin is tuple and isinstance(value, list | tuple):
        hints = [members[0]] * len(value) if members[-1] is Ellipsis else members
        if len(hints) == len(value):
            return tuple(map(_fitting, hints, value))
    elif origin is collections.abc.Mapping and isinstance(value, collections.abc.Mapping):
        return {_fitting(members[0], key): _fitting(members[1], item) for key, item in value.items()}
    elif hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    elif hint is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return value if isinstance(value, int) else float(value)
    elif hint is str and isinstance(value, str | os.PathLike):
        return _name(os.fspath(value))
    elif isinstance(hint, type) and (hint is bool or dataclasses.is_dataclass(hint)) and isinstance(value, hint):
        return value
    raise _DoesNotFit


def _name(text: Any) -> str:
    """Returns a text that may be part of a path; raises `_DoesNotFit` for a text that no file system takes."""
    try:
        if "\0" not in text and os.fsencode(text) is not None:
            return text
    except UnicodeEncodeError:
        pass
    raise _DoesNotFit


def _without_none(members: tuple[Any, ...]) -> Any:
    (other,) = (member for member in members if member is not type(None))
    return other


_WORDS = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "truth values"),
}
_NUMBERS = {2: "two", 3: "three"}


def _described(hint: Any, number: int = 0) -> str:
    """Returns what a value of a type is, as it continues "… must be"; in the plural from `number` 1 on."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        rules = " and ".join(map(str, members[1:]))
        # "one of a, b" and "epoch-N.npz" need no type, and "in 0..1" is a number in any case.
        alone = not number and (members[0] is float or any(isinstance(rule, OneOf | Matching) for rule in members[1:]))
        return rules if alone else f"{_described(members[0], number)} {rules}"
    if origin in (types.UnionType, typing.Union):
        return f"{_described(_without_none(members), number)}, or none"
    if origin is tuple:
        many = members[-1] is Ellipsis
        return ("a list of " if many else f"{_NUMBERS[len(members)]} ") + _described(members[0], 2)
    if origin is collections.abc.Mapping:
        return f"an object whose values are {_described(members[1], 2)}"
    return _WORDS[hint][bool(number)] if hint in _WORDS else f"a {hint.__name__}"
