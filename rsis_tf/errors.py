"""Mistakes in what the user gave (a path, a file, an option), and how command lines show them."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, NoReturn


class InputError(ValueError):
    """Input the program cannot work with; the message is one line that ends in what was received."""


class ArgumentParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose errors are one line and whose help keeps its layout."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Turns an `InputError` into one line on standard error and exit code 2, and Ctrl-C into exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter shows its number; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
