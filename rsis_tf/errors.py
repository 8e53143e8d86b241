"""The one exception that stands for a mistake in what the user gave: a path, a file, an option."""

import contextlib
import sys
from collections.abc import Iterator


class InputError(ValueError):
    """Input the program cannot work with; the message is one line that ends in what was received."""


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Turns an `InputError` into one line on standard error and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
