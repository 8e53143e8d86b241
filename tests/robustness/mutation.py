"""Seeded damage: to bytes, to JSON, to one file of a folder."""

import contextlib
import copy
import json
import pathlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

Mutate = Callable[[random.Random, pathlib.Path], None]

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2,
    0.5,
    1e8,
    -1e308,
    10**30,
    10**4999,
    float("nan"),
    float("inf"),
    "",
    "text",
    "../../outside",
    "/absolute",
    "bad\x00name",
    "\ud800",
    "\x1b[31mred",
    [],
    {},
    [[]],
    [[0, 0, 1]],
    [None],
    {"size": [4, 6], "counts": [-1, 5]},
    {"size": [10**6, 10**6], "counts": "0"},
    {"counts": "~" * 10_000, "size": [4, 6]},
    [list(range(20))] * 3,
)
"""What a JSON value is replaced by."""


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Returns damaged data: flipped bytes, a cut, a repeated or removed part, zeros, or nothing."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(8))
    kind = rng.choices(("flip", "cut", "repeat", "remove", "zero", "empty", "tail"), (10, 4, 2, 2, 2, 0.3, 1))[0]
    start = rng.randrange(len(data))
    end = min(len(data), start + 1 + int(rng.expovariate(1 / 40)))
    match kind:
        case "flip":
            changed = bytearray(data)
            for _ in range(1 + int(rng.expovariate(1 / 3))):
                changed[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(changed)
        case "cut":
            return data[:start]
        case "repeat":
            return data[:end] + data[start:]
        case "remove":
            return data[:start] + data[end:]
        case "zero":
            return data[:start] + bytes(end - start) + data[end:]
        case "tail":
            return data + data[start:end]
    return b""


def mutate_json(rng: random.Random, value: Any) -> Any:
    """Returns a copy with one to three places replaced, removed, renamed or repeated."""
    with _deep():
        return _mutated(rng, copy.deepcopy(value))


def _mutated(rng: random.Random, value: Any) -> Any:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.choices(("replace", "remove", "repeat", "rename", "nest"), (10, 2, 2, 1, 0.5))[0]
        if kind == "replace":
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == "remove":
            del holder[key]
        elif kind == "nest":
            for _ in range(rng.choice((3, 300))):
                holder[key] = [holder[key]]
        elif isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        else:
            holder[f"{key}2"] = holder.pop(key) if kind == "rename" else copy.deepcopy(holder[key])
    return value


def _places(value: Any) -> Any:
    """Yields (container, key) of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def damage_bytes(*patterns: str) -> Mutate:
    """Returns a function that damages the bytes of one file of a folder that fits a pattern."""

    def mutate(rng: random.Random, folder: pathlib.Path) -> None:
        path = rng.choice(_files(folder, patterns))
        path.write_bytes(mutate_bytes(rng, path.read_bytes()))

    return mutate


def damage_json(*patterns: str) -> Mutate:
    """Returns a function that damages a JSON file's values, or now and then its bytes."""

    def mutate(rng: random.Random, folder: pathlib.Path) -> None:
        path = rng.choice(_files(folder, patterns))
        if rng.random() < 0.1:
            path.write_bytes(mutate_bytes(rng, path.read_bytes()))
            return
        value = mutate_json(rng, json.loads(path.read_text(encoding="utf-8")))
        path.write_bytes(dump(value).encode("utf-8", "surrogatepass"))

    return mutate


@contextlib.contextmanager
def _deep() -> Iterator[None]:
    """Lets this code handle values nested deeper than Python's limit, which stays in force for what reads them."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def dump(value: Any) -> str:
    """Returns JSON text, of numbers with thousands of digits too."""

    def shortened(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {key: shortened(item) for key, item in inner.items()}
        if isinstance(inner, list):
            return [shortened(item) for item in inner]
        return "\x02huge\x03" if isinstance(inner, int) and abs(inner) > 10**100 else inner

    with _deep():
        text = json.dumps(shortened(value), ensure_ascii=False)
    return text.replace('"\\u0002huge\\u0003"', "9" * 5000)


def _files(folder: pathlib.Path, patterns: tuple[str, ...]) -> list[pathlib.Path]:
    return sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})
