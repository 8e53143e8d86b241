"""Where the images of a split are, and the names of the classes.

Three layouts are known:

- `data.yaml` (or another YAML file with `names`), as Ultralytics defines it: `path`, and for each split a folder of
  images, a text file that lists images, or a list of both. CVAT and FiftyOne write it like this.
- Roboflow's `data.yaml`: `train: ../train/images` although the folder is beside the file.
- Label Studio's export: `classes.txt`, `images/` and `labels/`, without splits.

The label file of an image has its name with the suffix `.txt`, in the folder `labels` that stands where the path of the
image has its last `images`; beside the image if the path has no `images`.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

from rsis_tf.data.paths import MissingSplitError, UnsplitError, exists, read_names, require_folder
from rsis_tf.data.readers.validation_share import part_of
from rsis_tf.errors import InputError, OptionError, brief
from rsis_tf.files import is_file
from rsis_tf.images import list_images

_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_LARGEST = 1 << 20
"""Bytes of a YAML file."""
_MOST_CLASSES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Located:
    """The files of a split.

    Attributes:
        source: the file that names the classes.
        names: name of each class by its number in label files.
        images: sorted, each of them once.
    """

    source: pathlib.Path
    names: dict[int, str]
    images: list[pathlib.Path]


def locate(root: str | pathlib.Path, split: str, *, val_share: float | None = None) -> Located:
    """Finds the images of a split.

    Args:
        root: the folder with the YAML file or `classes.txt`.
        split: "train", "val" or "test"; "all" for the images of all splits.
        val_share: the share of a dataset without validation split that is "val"; the rest is "train".

    Raises:
        MissingSplitError: if there is no such split.
        UnsplitError: (a subclass) if there are no splits and `val_share` is None.
        OptionError: if `val_share` is given for a dataset that has a validation split, or the folder holds neither of
            the files.
        InputError: if a file is missing or wrong.
    """
    root = require_folder(root, "a folder with a dataset in YOLO's format")
    source, content = _description(root)
    if content is None:
        names = dict(enumerate(read_names(source)))
        splits, whole = {}, list_images(require_folder(root / "images", "a folder of images"), recursive=True)
    else:
        names = _names(content.get("names"), source)
        splits = {name: images for name in _KEYS if (images := _images(content, name, source)) is not None}
        whole = None
    images = _chosen(splits, whole, split, val_share, source)
    if not images:
        raise InputError(f"expected at least one image of split {split!r}. Received: none, {source}")
    return Located(source=source, names=names, images=images)


def label_file(image: pathlib.Path) -> pathlib.Path:
    """Returns the path of an image's label file."""
    parts = list(image.with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return pathlib.Path(*parts)


def _description(root: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any] | None]:
    """Returns the file that describes a dataset, and what it says; None for a list of classes."""
    candidates = [root / "data.yaml", root / "data.yml"]
    candidates += sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    for path in candidates:
        if path.is_file():
            content = _load(path)
            if "names" in content:
                return path, content
    if (root / "classes.txt").is_file():
        return root / "classes.txt", None
    raise OptionError(f"expected data.yaml with the names of the classes, or classes.txt. Received: none in {root}")


def _load(path: pathlib.Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"expected a YAML file of at most {_LARGEST} bytes. Received: {path}")
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"expected a YAML file. Received: {path} ({reason})") from None
    return content if isinstance(content, dict) else {}


def _names(value: Any, source: pathlib.Path) -> dict[int, str]:
    """Returns the names by number; Ultralytics takes a list, or a mapping from numbers."""
    found = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(found, dict) or not 0 < len(found) <= _MOST_CLASSES:
        raise InputError(f"expected the names of the classes. Received: names: {brief(value)} in {source}")
    names = {}
    for number, name in found.items():
        text = str(number)
        if not (text.isascii() and text.isdigit()) or not isinstance(name, str | int | float):
            raise InputError(
                f"expected a number and a name for every class. Received: {brief(number)}: {brief(name)} in {source}"
            )
        names[int(text)] = str(name)
    return dict(sorted(names.items()))


def _images(content: dict[str, Any], split: str, source: pathlib.Path) -> list[pathlib.Path] | None:
    """Returns the images of a split; None if the file does not name it, or names a folder that is not there."""
    value = next((content[key] for key in _KEYS[split] if content.get(key)), None)
    if value is None:
        return None
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"expected folders or text files. Received: {split}: {brief(value)} in {source}")
    places = [next(filter(exists, _places(entry, content, source)), None) for entry in entries]
    if not any(places):
        return None
    images: set[pathlib.Path] = set()
    for entry, place in zip(entries, places, strict=True):
        if place is None:
            raise InputError(f"expected a folder or text file. Received: {brief(entry)} of {split}, {source}")
        images.update(list_images(place, recursive=True) if place.is_dir() else _listed(place, content, source))
    return sorted(images)


def _places(entry: str, content: dict[str, Any], source: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields where a path of the file may lead, in the order of preference."""
    base = content.get("path")
    if isinstance(base, str):
        # As in Ultralytics, a relative base may mean a folder of its settings; then the file's own folder is meant.
        yield source.parent / base / entry
    yield source.parent / entry
    if entry.startswith("../"):  # Roboflow
        yield source.parent / entry.removeprefix("../")


def _listed(file: pathlib.Path, content: dict[str, Any], source: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images that a text file lists, relative to the dataset's folder or to that of the file."""
    images = []
    for line in read_names(file):
        places = [file.parent / line, *_places(line, content, source)]
        if line.startswith("data/"):  # older versions of CVAT, whose archive has no such folder
            places.append(file.parent / line.removeprefix("data/"))
        images.append(next(filter(is_file, places), places[0]))
    return images


def _chosen(
    splits: dict[str, list[pathlib.Path]],
    whole: list[pathlib.Path] | None,
    split: str,
    val_share: float | None,
    source: pathlib.Path,
) -> list[pathlib.Path]:
    if split == "all":
        return sorted({path for images in (*splits.values(), whole or []) for path in images})
    if val_share is not None and "val" in splits:
        raise OptionError(
            "expected --val-share with a dataset that has no validation split. "
            f"Received: --val-share {val_share} beside that of {source}"
        )
    if val_share is not None and split != "test":
        images = splits.get("train") or whole or []
        return part_of(images, [path.name for path in images], split=split, share=val_share)
    if split in splits:
        return splits[split]
    if whole is not None and val_share is None:
        raise UnsplitError(
            "expected a dataset with splits, or --val-share 0.2 to keep a fifth of it for validation. "
            f"Received: {source}, which names none"
        )
    hint = " (--val-share 0.2 keeps a fifth of the training images for it)" if split == "val" else ""
    raise MissingSplitError(f"expected images of split {split!r}{hint}. Received: none where {source} says")
