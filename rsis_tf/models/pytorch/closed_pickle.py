"""A pickle reader that imports nothing and calls only the functions that it is given.

`pickle.Unpickler` sets attributes of whatever `find_class` returns (BUILD), allocates what a file declares
(LONG_BINPUT, BINBYTES8) and hashes nested keys without a bound. This one interprets the opcodes of protocols 0 to 5
itself: a class or function is only a name, and memory grows with the bytes read.
"""

import codecs
import dataclasses
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_BYTES = 1 << 21
"""Length of the longest pickle that is read; those of state dictionaries take about 100 bytes per tensor."""
_NAME = re.compile(r"[\w.<>]{1,200}", re.ASCII)
"""Names of modules, classes and functions."""


class PickleError(ValueError):
    """A pickle that is broken, too long, or uses something that is not available."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that a pickle refers to, such as "collections.OrderedDict"."""

    name: str


def shown(text: str, length: int = 80) -> str:
    """Returns text from a file as it may stand in a message: short, in one line, without control characters."""
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: length + 1])
    return plain if len(text) <= length else f"{plain[:length]}…"


class Foreign:
    """Stands in for an object that the reader cannot build; holds nothing.

    Attributes:
        name: of the class or function that would build it.
    """

    def __init__(self, name: str) -> None:
        self.name = name


class Buildable:
    """Base class of objects that receive a state (pickle's BUILD)."""

    def set_state(self, state: Any) -> None:
        raise NotImplementedError


def load(
    data: memoryview,
    position: int = 0,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    persistent: Callable[[Any], Any] | None = None,
    foreign: bool = False,
) -> tuple[Any, int]:
    """Reads one pickle.

    Byte strings of Python 2 are decoded as Latin-1, so that each character is a byte.

    Args:
        data: bytes that contain the pickle.
        position: where it begins.
        functions: the functions that may be called, by full name.
        persistent: turns a persistent id into an object; None if there must be none.
        foreign: whether a call of another function gives a `Foreign`; otherwise it is an error.

    Returns:
        The object, and the position after the pickle.

    Raises:
        PickleError: for a pickle that is broken, too long, or uses something that is not available.
    """
    machine = _Machine(data, position, functions or {}, persistent, foreign)
    try:
        return machine.run(), machine.position
    except PickleError:
        raise
    except (IndexError, KeyError):
        raise PickleError("the pickle takes what it has not put down") from None
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise PickleError(f"the pickle is broken: {shown(str(error))}") from None


_NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H", b"G": ">d"}
_LONGS = {b"\x8a": "<B", b"\x8b": "<i"}
_STRINGS = {
    **{b"X": ("<I", "utf-8"), b"\x8c": ("<B", "utf-8"), b"\x8d": ("<Q", "utf-8")},
    **{b"T": ("<i", "latin-1"), b"U": ("<B", "latin-1")},
    **{b"B": ("<I", None), b"C": ("<B", None), b"\x8e": ("<Q", None), b"\x96": ("<Q", None)},
}
"""Opcodes of text and bytes: format of the length, encoding."""
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}


class _Machine:
    """The stack, the marks in it and the memo of one pickle."""

    def __init__(
        self,
        data: memoryview,
        position: int,
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any] | None,
        foreign: bool,
    ) -> None:
        self.data, self.position, self.end = data, position, min(len(data), position + MAX_BYTES)
        self.functions, self.persistent, self.foreign = functions, persistent, foreign
        self.start, self.handed_over = position, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (opcode := self.take(1)) != b".":
            self.step(opcode)
        return self.stack[-1]

    def step(self, opcode: bytes) -> None:
        push, pop = self.stack.append, self.stack.pop
        if opcode in _CONSTANTS:
            push(_CONSTANTS[opcode])
        elif opcode in _NUMBERS:
            push(self.number(_NUMBERS[opcode]))
        elif opcode in _LONGS:
            push(int.from_bytes(self.take(self.number(_LONGS[opcode])), "little", signed=True))
        elif opcode in _STRINGS:
            length, encoding = _STRINGS[opcode]
            content = self.take(self.number(length))
            push(content if encoding is None else content.decode(encoding))
        elif opcode in (b"I", b"L", b"F", b"S", b"V"):
            push(_text(opcode, self.line()))
        elif opcode in _PUTS:
            self.memo[self.number(_PUTS[opcode])] = self.stack[-1]
        elif opcode == b"p":
            self.memo[int(self.line())] = self.stack[-1]
        elif opcode == b"\x94":
            self.memo[len(self.memo)] = self.stack[-1]
        elif opcode in _GETS:
            push(self.memo[self.number(_GETS[opcode])])
        elif opcode == b"g":
            push(self.memo[int(self.line())])
        elif opcode == b"(":
            self.marks.append(len(self.stack))
        elif opcode == b"0":
            pop()
        elif opcode == b"1":
            self.since_mark()
        elif opcode == b"2":
            push(self.stack[-1])
        elif opcode in _TUPLES:
            push(tuple(reversed([pop() for _ in range(_TUPLES[opcode])])))
        elif opcode == b"t":
            push(tuple(self.since_mark()))
        elif opcode == b"]":
            push([])
        elif opcode == b"l":
            push(self.since_mark())
        elif opcode in (b"a", b"e", b"\x90"):
            items = [pop()] if opcode == b"a" else self.since_mark()
            self.extend(self.stack[-1], items)
        elif opcode == b"}":
            push({})
        elif opcode == b"d":
            items = self.since_mark()
            push({})
            self.update(self.stack[-1], items)
        elif opcode in (b"s", b"u"):
            items = list(reversed([pop(), pop()])) if opcode == b"s" else self.since_mark()
            self.update(self.stack[-1], items)
        elif opcode == b"\x8f":
            push(Foreign("builtins.set"))
        elif opcode == b"\x91":
            self.since_mark()
            push(Foreign("builtins.frozenset"))
        else:
            self.step_of_objects(opcode)

    def step_of_objects(self, opcode: bytes) -> None:
        push, pop = self.stack.append, self.stack.pop
        if opcode == b"c":
            push(_name(self.line().decode(), self.line().decode()))
        elif opcode == b"\x93":
            name, module = pop(), pop()
            push(_name(module, name))
        elif opcode in (b"R", b"\x81"):
            arguments, function = pop(), pop()
            push(self.call(function, arguments))
        elif opcode == b"\x92":
            keywords, arguments, function = pop(), pop(), pop()
            push(self.call(function, arguments) if not keywords else self.unknown(function))
        elif opcode == b"o":
            function, *arguments = self.since_mark()
            push(self.call(function, tuple(arguments)))
        elif opcode == b"i":
            function = _name(self.line().decode(), self.line().decode())
            push(self.call(function, tuple(self.since_mark())))
        elif opcode == b"b":
            state, target = pop(), self.stack[-1]
            if isinstance(target, Buildable):
                self.hand_over((state,))
                target.set_state(state)
            elif not isinstance(target, Foreign):
                raise PickleError("the pickle gives a state to what takes none")
        elif opcode in (b"Q", b"P"):
            key = pop() if opcode == b"Q" else self.line().decode("latin-1")
            if self.persistent is None:
                raise PickleError("the pickle refers to something outside it")
            push(self.persistent(key))
        elif opcode == b"\x80":
            if (version := self.number("<B")) > 5:
                raise PickleError(f"the pickle is of protocol {version}")
        elif opcode == b"\x95":
            if self.number("<Q") > self.end - self.position:
                raise PickleError("the pickle ends too early")
        else:
            raise PickleError(f"the pickle holds the opcode 0x{opcode[0]:02x}, which is not read")

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.end - self.position:
            reason = "ends too early" if self.end == len(self.data) else f"is longer than {MAX_BYTES} bytes"
            raise PickleError(f"the pickle {reason}")
        self.position += count
        return bytes(self.data[self.position - count : self.position])

    def line(self) -> bytes:
        for start in range(self.position, self.end, 256):
            if (length := bytes(self.data[start : min(start + 256, self.end)]).find(b"\n")) >= 0:
                return self.take(start + length + 1 - self.position)[:-1]
        raise PickleError("the pickle ends within a line")

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise PickleError(f"the pickle appends to a {type(target).__name__}")

    def update(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleError(f"the pickle sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise PickleError("the pickle calls something that is not a function")
        if function.name not in self.functions:
            return self.unknown(function)
        self.hand_over(arguments)
        try:
            return self.functions[function.name](*arguments)
        except TypeError:
            raise PickleError(f"the pickle calls {function.name} with other arguments than it takes") from None

    def hand_over(self, arguments: tuple[Any, ...]) -> None:
        """Counts the items that functions and objects receive: what is passed repeatedly is copied each time."""
        self.handed_over += sum(len(item) for item in arguments if isinstance(item, list | tuple | dict | str | bytes))
        if self.handed_over > 4 * (self.position - self.start) + 1024:
            raise PickleError("the pickle hands over more items than it holds")

    def unknown(self, function: Any) -> Foreign:
        name = function.name if isinstance(function, Name) else type(function).__name__
        if not self.foreign:
            raise PickleError(f"it asks to run {name}")
        return Foreign(name)


def checked_key(key: Any) -> Any:
    """Returns the key if it is text or a short number, otherwise a `Foreign`, whose hash is cheap."""
    if isinstance(key, str | bytes | bool | None) or (isinstance(key, int) and abs(key) < 1 << 60):
        return key
    return Foreign(f"{type(key).__name__} as a key")


def _name(module: Any, name: Any) -> Name:
    """Returns the name of a class or function; it may stand in messages."""
    for part in (module, name):
        if not isinstance(part, str) or not _NAME.fullmatch(part):
            raise PickleError("the pickle names something by other than a name of Python")
    return Name(f"{module}.{name}")


def _text(opcode: bytes, line: bytes) -> Any:
    """Returns the value of an opcode of protocol 0, whose argument is a line of text."""
    if opcode == b"F":
        return float(line)
    if opcode == b"V":
        return line.decode("raw-unicode-escape")
    if opcode == b"S":
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise PickleError("the pickle holds text without quotes")
        return codecs.escape_decode(line[1:-1])[0].decode("latin-1")
    if line in (b"00", b"01") and opcode == b"I":
        return line == b"01"
    return int(line.removesuffix(b"L"))
