"""The JSON file of annotations: what it must hold, and which of its categories are classes."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from rsis_tf.errors import InputError

_REQUIRED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
_BACKGROUND_NAMES = ("_background_", "__background__", "background")
"""Names that labelme and other tools give to the category of everything that is not an object."""


@dataclasses.dataclass(kw_only=True)
class AnnotationFile:
    """The usable content of a file, and what is wrong with the rest.

    Attributes:
        path: the file.
        images, annotations, categories: the entries that are correct. Ids are unique among images and among categories,
            and every annotation refers to an image and a category of the file.
        problems: one line for each wrong entry, with the file and the entry's id.
        remarks: one line for each entry that can be used but is probably a mistake.
        dropped: names of the categories that are not classes.
        contributor: the author of the file according to its `info`.
        datumaro: whether CVAT's exporter, datumaro, wrote the file; its list of licences has one without a name.
    """

    path: pathlib.Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    problems: list[str]
    remarks: list[str]
    dropped: list[str] = dataclasses.field(default_factory=list)
    contributor: str = ""
    datumaro: bool = False

    @property
    def brush_masks(self) -> bool:
        """Whether run lengths with `iscrowd` 1 are single objects, as the brush masks of CVAT are.

        CVAT's exporter (datumaro) sets `iscrowd` for all run lengths; CVAT's own annotations all have the attribute
        `occluded`.
        """
        return self.datumaro and all("occluded" in _attributes(entry) for entry in self.annotations)


def read_annotation_file(path: pathlib.Path, siblings: Iterable[pathlib.Path] = ()) -> AnnotationFile:
    """Reads a file and separates the wrong entries from the correct ones.

    A category is not a class if no annotation of any split has it and it is called background or only groups other
    categories. (Roboflow's first category has the name of the project and is the supercategory of all others.)

    Args:
        path: the file; UTF-8, with or without a byte order mark.
        siblings: files of the other splits, which may use categories that this file does not use.

    Raises:
        InputError: if it is not a JSON file with the three lists.
    """
    content = _load(path)
    info = content.get("info")
    licenses = content.get("licenses")
    problems: list[str] = []
    remarks: list[str] = []
    entries = {name: _with_fields(content, name, path, problems) for name in _REQUIRED}
    file = AnnotationFile(
        path=path,
        images=_images(entries["images"], path, problems, remarks),
        annotations=entries["annotations"],
        categories=_unique(entries["categories"], "category", path, problems),
        problems=problems,
        remarks=remarks,
        contributor=str(info.get("contributor") or "") if isinstance(info, dict) else "",
        datumaro=licenses == [{"name": "", "id": 0, "url": ""}],
    )
    _drop_groups(file, [other for other in siblings if other != path])
    _check_names(file)
    _check_annotations(file)
    return file


def _load(path: pathlib.Path) -> dict:
    try:
        # Some tools write a byte order mark on Windows.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"expected COCO annotations in JSON. Received: {path} ({error})") from None
    for name in _REQUIRED:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise InputError(f"expected a list {name!r}. Received: none in {path}")
    return content


def _with_fields(content: dict, name: str, path: pathlib.Path, problems: list[str]) -> list[dict]:
    """Returns the entries of a list that have all fields and valid ids."""
    fields = _REQUIRED[name]
    ids = [field for field in fields if field.endswith("id")]
    kept = []
    for position, entry in enumerate(content[name]):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        wrong = [] if missing else [field for field in ids if not _is_id(entry[field])]
        if missing:
            problems.append(
                f"expected the fields {', '.join(fields)} in every entry of {name!r}. "
                f"Received: no {missing[0]} in entry {position} of {path}"
            )
        elif wrong:
            problems.append(
                f"expected a number or text as {wrong[0]}. "
                f"Received: {entry[wrong[0]]!r} in entry {position} of {name!r} of {path}"
            )
        else:
            kept.append(entry)
    return kept


def _images(entries: list[dict], path: pathlib.Path, problems: list[str], remarks: list[str]) -> list[dict]:
    kept = []
    names: dict[str, Any] = {}
    for entry in _unique(entries, "image", path, problems):
        sides = [_side(entry[name]) for name in ("height", "width")]
        if None in sides:
            problems.append(
                f"expected height and width of an image in whole pixels. "
                f"Received: {entry['height']!r} and {entry['width']!r} for image {entry['id']!r} of {path}"
            )
        elif not isinstance(entry["file_name"], str) or not entry["file_name"].strip():
            problems.append(
                f"expected a file name. Received: {entry['file_name']!r} for image {entry['id']!r} of {path}"
            )
        else:
            name = entry["file_name"]
            if name in names:
                # Label Studio lists an image once for each of its annotators.
                remarks.append(
                    f"expected every file once. Received: {name} for image {names[name]!r} and again for image "
                    f"{entry['id']!r} of {path}"
                )
            names.setdefault(name, entry["id"])
            kept.append({**entry, "height": sides[0], "width": sides[1]})
    return kept


def _unique(entries: list[dict], kind: str, path: pathlib.Path, problems: list[str]) -> list[dict]:
    """Returns the first entry of every id."""
    kept: dict[Any, dict] = {}
    for entry in entries:
        if entry["id"] in kept:
            name_field = "file_name" if kind == "image" else "name"
            problems.append(
                f"expected a different id for every {kind}. Received: id {entry['id']!r} for "
                f"{kept[entry['id']][name_field]!r} and again for {entry[name_field]!r} in {path}"
            )
        kept.setdefault(entry["id"], entry)
    return list(kept.values())


def _drop_groups(file: AnnotationFile, siblings: list[pathlib.Path]) -> None:
    # Roboflow's project may have the name of one of its classes, so entries are compared, not names.
    candidates = [
        entry
        for entry in file.categories
        if entry["name"] in _BACKGROUND_NAMES
        or any(other is not entry and other.get("supercategory") == entry["name"] for other in file.categories)
    ]
    unused = _unused(candidates, file.annotations)
    for sibling in siblings if unused else ():
        unused = _unused(unused, _load(sibling)["annotations"])
    if len(unused) < len(file.categories):
        file.categories = [entry for entry in file.categories if entry not in unused]
        file.dropped = [str(entry["name"]) for entry in unused]


def _unused(categories: list[dict], annotations: list) -> list[dict]:
    used = {
        entry.get("category_id")
        for entry in annotations
        if isinstance(entry, dict) and _is_id(entry.get("category_id"))
    }
    return [entry for entry in categories if entry["id"] not in used]


def _check_names(file: AnnotationFile) -> None:
    ids: dict[str, Any] = {}
    for entry in file.categories:
        name = str(entry["name"])
        if not isinstance(entry["name"], str | int) or not name.strip():
            file.problems.append(
                f"expected a name for every category. Received: {entry['name']!r} for id {entry['id']!r} in {file.path}"
            )
        if name in ids:
            file.problems.append(
                f"expected a different name for every category. Received: {name!r} for id {ids[name]!r} and again "
                f"for id {entry['id']!r} in {file.path}"
            )
        ids.setdefault(name, entry["id"])
    kinds = {isinstance(entry["id"], str) for entry in file.categories}
    if len(kinds) > 1:
        file.problems.append(f"expected category ids of one kind. Received: numbers and texts in {file.path}")


def _check_annotations(file: AnnotationFile) -> None:
    known = {
        "image_id": {entry["id"] for entry in file.images},
        "category_id": {entry["id"] for entry in file.categories},
    }
    kept = []
    for entry in file.annotations:
        where = f"annotation {entry['id']!r} of {file.path}"
        wrong = [key for key, ids in known.items() if entry[key] not in ids]
        crowd = entry.get("iscrowd", 0)
        if wrong:
            kind = wrong[0].removesuffix("_id")
            file.problems.append(
                f"expected the {wrong[0]} of a listed {kind}. Received: {entry[wrong[0]]!r} in {where}"
            )
        # Every text is true in Python, "0" too.
        elif not (crowd is None or (isinstance(crowd, bool | int | float) and crowd in (0, 1))):
            file.problems.append(f"expected 0 or 1 as iscrowd. Received: {crowd!r} in {where}")
        else:
            kept.append(entry)
    file.annotations = kept


def _attributes(annotation: dict) -> dict:
    attributes = annotation.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _is_id(value: Any) -> bool:
    """Whether a value is an integer or a text; some tools write 3.0 for 3."""
    whole = isinstance(value, float) and value.is_integer()
    return (isinstance(value, int | str) or whole) and not isinstance(value, bool)


def _side(value: Any) -> int | None:
    """Returns a side in pixels, or None if the value is not one; some tools write 640.0 for 640."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1_000_000 or value % 1:
        return None
    return int(value)
