"""Mistakes in what the user gave (a path, a file, an option) or installed, and how command lines show them."""

import argparse
import contextlib
import io
import reprlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

# The runtime is one file that an application may copy, so the class that it raises is defined there.
from rsis_tf.runtime import InputError, printable, reason_of

__all__ = [
    "ArgumentParser",
    "InputError",
    "OptionError",
    "brief",
    "command_line",
    "missing_module",
    "printable",
    "reason_of",
]


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, 120, 40, 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out an integer of more than 4300 digits.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 10_000 else super().repr_int(x, level)


def brief(value: object) -> str:
    """Returns a short form of a value for a message, however long, large or deeply nested the value is."""
    return printable(_Brief().repr(value))


class OptionError(InputError):
    """The options are wrong, or do not fit what they name; no file has a mistake that could be mended."""


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite; the message names the step and the files of the last good state."""


_EXTRAS = {
    "train": (
        *("tensorflow", "keras", "scipy", "pycocotools", "matplotlib", "tensorboard", "tf2onnx", "onnx"),
        *("ai_edge_litert", "msgspec", "yaml"),
    ),
    "cityscapes": ("cityscapesscripts",),
    "jax": ("jax",),
    "ray": ("ray",),
    "video": ("av",),
    "everything": ("torch",),
}
"""Extra of this package → the modules it brings; a base install has none of them."""


def missing_module(error: ImportError) -> str | None:
    """Returns what to install if the error is that of a package of an extra that is not there, None otherwise."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in _EXTRAS.items() if name in modules), None)
    if extra is None or not isinstance(error, ModuleNotFoundError):
        return None
    return f'this needs more than the base install: pip install "rsis_tf[{extra}]". Received: no module {error.name}'


class ArgumentParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose errors are one line and whose help keeps its layout."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Turns wrong input into one line on standard error and exit code 2, and Ctrl-C into exit code 130.

    Wrong input is an `InputError` and a package of an extra that is not installed. A file that the system does not read
    or write (no permission, a full disk) ends the command in the same way. Characters that the screen does not have are
    shown as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter shows its number; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        what = missing_module(error)
        if what is None:
            raise
        print(f"error: {what}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `… | head` has read enough
        sys.stderr.close()
        raise SystemExit(141) from None
    except OSError as error:
        place = "" if error.filename is None else f" ({error.filename})"
        received = f"{reason_of(error)}{place}"
        print(f"error: expected files that can be read and written. Received: {received}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
