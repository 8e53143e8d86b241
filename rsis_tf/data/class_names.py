"""Names of classes that a dataset's files list."""

import collections
import pathlib
from collections.abc import Iterable

from rsis_tf.errors import InputError, printable


def with_background(names: Iterable[str], source: pathlib.Path) -> tuple[str, ...]:
    """Returns the K names of a dataset, the first of them the background.

    Args:
        names: of the K−1 classes; control characters become escapes.
        source: the file that lists them, for messages.

    Raises:
        InputError: if two names are equal, or one is that of the background.
    """
    class_names = ("background", *map(printable, names))
    repeated = [name for name, count in collections.Counter(class_names).items() if count > 1]
    if repeated:
        raise InputError(
            "expected a different name for every class, and none for the background. "
            f"Received: {repeated[0]!r} in {source}"
        )
    return class_names
