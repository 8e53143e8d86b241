"""Version requirements as installed packages state them; a base install has no package that reads them."""

import re
from collections.abc import Callable, Mapping

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;()@]*)\)?$")
_CLAUSE = re.compile(r"^(~=|===?|!=|<=|>=|<|>)\s*([\w.*+!-]+)$")
_Release = tuple[int, ...]


def normal(name: str) -> str:
    """Returns the name of a package in its normal form: small letters, and "-" as the only separator."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> _Release:
    """Returns the numbers at the beginning of a version, (2, 21, 0) for "2.21.0rc1", without zeros at the end."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = [int(number) for number in match[1].split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def split(requirement: str) -> tuple[str, str, str]:
    """Splits a requirement such as "protobuf<8,>=6 ; extra == 'x'".

    Returns:
        Normal name, version clauses and marker; the name is "" for a form that is not read, such as a URL.
    """
    text, _, marker = requirement.partition(";")
    match = _REQUIREMENT.match(text.strip())
    return (normal(match[1]), match[2].strip(), marker.strip()) if match else ("", "", marker.strip())


def satisfies(version: str, clauses: str) -> bool:
    """Whether a version meets comma-separated clauses such as ">=6.31.1,<8". Unknown clauses count as met."""
    return all(_meets(version, clause.strip()) for clause in clauses.split(",") if clause.strip())


_COMPARISONS: Mapping[str, Callable[[_Release, _Release], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def _meets(version: str, clause: str) -> bool:
    match = _CLAUSE.match(clause)
    if not match:
        return True
    comparison, limit = match[1], match[2]
    found = release(version)
    if limit.endswith(".*"):
        wanted = tuple(int(number) for number in re.findall(r"\d+", limit))
        same = _padded(found, len(wanted))[: len(wanted)] == wanted
        return same == (comparison == "==")
    if comparison == "~=":
        numbers = tuple(int(number) for number in re.findall(r"\d+", limit))
        return found >= release(limit) and _padded(found, len(numbers))[: len(numbers) - 1] == numbers[:-1]
    return _COMPARISONS["==" if comparison == "===" else comparison](found, release(limit))


def _padded(numbers: _Release, length: int) -> _Release:
    return numbers + (0,) * (length - len(numbers))
