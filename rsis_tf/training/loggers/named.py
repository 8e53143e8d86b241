"""Callbacks that a command line names as MODULE:CLASS."""

import importlib
from typing import Any

from rsis_tf.errors import InputError
from rsis_tf.training.loggers.interface import METHODS, Callback


def load_callback(text: str) -> Callback:
    """Imports a module and calls the class, or another callable without arguments, that makes a callback.

    Args:
        text: "MODULE:CLASS", such as "notify:Mail" for the class Mail of notify.py.

    Raises:
        InputError: if there is no such module or class, if one of them fails, or if the object lacks a method.
    """
    module_name, colon, name = text.partition(":")
    if not (colon and module_name and name):
        raise InputError(f"expected --callback MODULE:CLASS, such as notify:Mail. Received: {text}")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"expected a module that can be imported. Received: --callback {text} ({_what(error)})"
        ) from None
    made: Any = module
    for part in name.split("."):
        if not hasattr(made, part):
            raise InputError(f"expected a class of {module_name} ({module.__file__}). Received: --callback {text}")
        made = getattr(made, part)
    try:
        callback = made()
    except Exception as error:
        raise InputError(
            f"expected a class that is made without arguments. Received: --callback {text} ({_what(error)})"
        ) from None
    lacks = [method for method in METHODS if not callable(getattr(callback, method, None))]
    if lacks:
        raise InputError(
            f"expected a callback with {', '.join(METHODS)}, for example a class that inherits from "
            f"rsis_tf.training.loggers.Callback. Received: --callback {text} without {', '.join(lacks)}"
        )
    return callback


def _what(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
