"""Finds the files of the package's models by name, with the standard library alone.

Every model has a folder `models/NAME` with

- `NAME.onnx`: the network, and `NAME.onnx.json`, the description that the exporter wrote;
- `NAME.keras`: the same weights for Keras, and `NAME.keras.json`, its checksum;
- `NAME.json`: the card, see `rsis_tf.zoo.card`;
- `config.json`: the settings of the training.

A name is accepted wherever the path of a model is.
"""

import os
import pathlib
import re

FOLDER = pathlib.Path(__file__).parent / "models"
"""Holds one folder for each model."""
LISTED = "`rsis zoo` lists the names of models"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_OF_USERS = (
    *("best.keras", "saved_model.pb", "step.onnx"),
    *("encoder.pt", "decoder.pt", "args.pkl"),
    *("config.json", "state"),
)
"""What makes a folder a model or a run: files of the user's models, and those of a training that has not ended."""


def names() -> list[str]:
    """Returns the names of all models, sorted."""
    return sorted(path.name for path in FOLDER.glob("*") if (path / f"{path.name}.json").is_file())


def is_name(text: object) -> bool:
    """Returns whether a value can be the name of a model: text without separators, dots and capital letters."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def file_of(name: str, suffix: str) -> pathlib.Path:
    """Returns the path of a file of a model, such as that of "shapes.onnx" for "shapes" and ".onnx"."""
    return FOLDER / name / f"{name}{suffix}"


def find(text: object, suffix: str) -> pathlib.Path | None:
    """Returns the file of the model that a text names.

    A model or run of the user's comes first: if the current folder has a folder of that name which holds one, complete
    or not, the text is its path. Any other file or folder, such as one with images, does not hide the name.

    Args:
        text: what the user gave as a model. Only text can be a name; a `pathlib.Path` is always a path.
        suffix: ".onnx" or ".keras".

    Returns:
        The file's path; None if the text is not the name of a model.
    """
    if not is_name(text) or any(os.path.lexists(os.path.join(str(text), entry)) for entry in _OF_USERS):
        return None
    path = file_of(str(text), suffix)
    return path if path.is_file() else None


def hint(path: str | os.PathLike) -> str:
    """Returns a clause for the message about a path that does not exist: which names are close to it, or ""."""
    text = os.path.normpath(os.fspath(path)).lower()
    if not is_name(text):
        return ""
    import difflib  # takes a moment, and only mistakes need it

    near = difflib.get_close_matches(text, names(), cutoff=0.5)
    return f" (did you mean {' or '.join(near)}? {LISTED})" if near else f" ({LISTED})"


def holds(path: str | os.PathLike) -> bool:
    """Returns whether a path lies in the folder of the package's models, where nothing may be written."""
    return FOLDER in pathlib.Path(path).absolute().parents
