"""The JSON file of annotations: what it must hold, and which of its categories are classes.

The fields of an image, an annotation and a category are declared once, as `ImageEntry`, `Annotation` and `Category`;
msgspec checks every entry against the declaration. The module reads with Python's own JSON reader, because some tools
write NaN, which is not JSON: such a file is read, and the annotation that holds it is a problem.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from rsis_tf.errors import InputError, brief, printable

_BACKGROUND_NAMES = ("_background_", "__background__", "background")
"""Names that labelme and other tools give to the category of everything that is not an object."""

Id = int | str | Annotated[float, msgspec.Meta(multiple_of=1)]
"""Some tools write 3.0 for 3."""
Side = (
    Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | Annotated[float, msgspec.Meta(ge=1, le=1_000_000, multiple_of=1)]
)
Flag = Annotated[int, msgspec.Meta(ge=0, le=1)] | Annotated[float, msgspec.Meta(ge=0, le=1, multiple_of=1)] | bool
Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""A text with at least one letter."""


class ImageEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of "images"."""

    id: Id
    file_name: Text
    height: Side
    width: Side

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.height), int(self.width)


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of "annotations"; `rsis_tf.data.readers.coco.segmentation` checks the segmentation."""

    id: Id
    image_id: Id
    category_id: Id
    iscrowd: Flag | None = 0
    segmentation: Any = None
    attributes: Any = None


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of "categories"."""

    id: Id
    name: Text | int
    supercategory: Any = None


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    info: Any = None
    licenses: Any = None


class _Use(msgspec.Struct, frozen=True, kw_only=True):
    """What another split's annotation says about the category."""

    category_id: Id


_EXPECTED = {
    "id": "a number or text as id",
    "image_id": "a number or text as image_id",
    "category_id": "a number or text as category_id",
    "file_name": "a file name",
    "height": "height and width of an image in whole pixels",
    "width": "height and width of an image in whole pixels",
    "name": "a name for every category",
    "iscrowd": "0 or 1 as iscrowd",
}
"""What each field must hold, for messages."""

_Entry = TypeVar("_Entry", ImageEntry, Annotation, Category)


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
    images: list[ImageEntry]
    annotations: list[Annotation]
    categories: list[Category]
    problems: list[str]
    remarks: list[str]
    dropped: list[str] = dataclasses.field(default_factory=list)
    contributor: str = ""
    datumaro: bool = False

    @property
    def brush_masks(self) -> bool:
        """Whether there are run lengths with `iscrowd` 1 that are single objects, as the brush masks of CVAT are.

        CVAT's exporter (datumaro) sets `iscrowd` for all run lengths; CVAT's own annotations all have the attribute
        `occluded`.
        """
        marked = any(entry.iscrowd and isinstance(entry.segmentation, dict) for entry in self.annotations)
        return self.datumaro and marked and all("occluded" in _attributes(entry) for entry in self.annotations)


def read_annotation_file(
    path: pathlib.Path, siblings: Iterable[pathlib.Path] = (), class_names: Collection[str] = ()
) -> AnnotationFile:
    """Reads a file and separates the wrong entries from the correct ones.

    A category is not a class if no annotation of any split has it and it is called background or only groups other
    categories. (Roboflow's first category has the name of the project and is the supercategory of all others.)

    Args:
        path: the file; UTF-8, with or without a byte order mark.
        siblings: files of the other splits, which may use categories that this file does not use.
        class_names: names of categories that are classes even if no annotation has them.

    Raises:
        InputError: if it is not a JSON file with the three lists.
    """
    content = _load(path)
    problems: list[str] = []
    remarks: list[str] = []
    author = content.info.get("contributor") if isinstance(content.info, dict) else None
    file = AnnotationFile(
        path=path,
        images=_unique(_entries(content.images, "images", ImageEntry, path, problems), "image", path, problems),
        annotations=_entries(content.annotations, "annotations", Annotation, path, problems),
        categories=_unique(
            _entries(content.categories, "categories", Category, path, problems), "category", path, problems
        ),
        problems=problems,
        remarks=remarks,
        contributor=author if isinstance(author, str) else "",
        datumaro=content.licenses == [{"name": "", "id": 0, "url": ""}],
    )
    _drop_groups(file, [other for other in siblings if other != path], class_names)
    _check_file_names(file)
    _check_names(file)
    _check_annotations(file)
    _check_annotation_ids(file)
    file.problems[:] = map(printable, file.problems)
    file.remarks[:] = map(printable, file.remarks)
    return file


def _load(path: pathlib.Path) -> _Content:
    try:
        # Some tools write a byte order mark on Windows.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        # Python's own text for a number of thousands of digits speaks of Python's settings.
        plain = type(error) is ValueError
        reason = "a number with more than 4300 digits" if plain else error
        raise InputError(f"expected COCO annotations in JSON. Received: {path} ({reason})") from None
    try:
        return msgspec.convert(content, _Content)
    except msgspec.ValidationError as error:
        name = re.search(r"images|annotations|categories", str(error))
        raise InputError(f"expected a list {name[0] if name else 'images'!r}. Received: none in {path}") from None


def _entries(values: list[Any], name: str, kind: type[_Entry], path: pathlib.Path, problems: list[str]) -> list[_Entry]:
    """Returns the entries of a list that are as declared."""
    kept = []
    for position, value in enumerate(values):
        try:
            kept.append(msgspec.convert(value, kind))
        except msgspec.ValidationError as error:
            problems.append(_problem(value, str(error), name, position, kind, path))
    return kept


def _problem(
    value: Any, error: str, name: str, position: int, kind: type[ImageEntry | Annotation | Category], path: pathlib.Path
) -> str:
    """Returns the line for an entry that msgspec refused; msgspec's own text names the field."""
    entry = f"entry {position} of {name!r} of {path}"
    missing = re.search(r"missing required field `(\w+)`", error)
    field = re.search(r"at `\$\.(\w+)", error)
    if missing or not field:
        fields = ", ".join(one.name for one in msgspec.structs.fields(kind) if one.required)
        received = f"no {missing[1]} in {entry}" if missing else f"{brief(value)} as {entry}"
        return f"expected the fields {fields} in every entry of {name!r}. Received: {received}"
    if field[1] != "id" and _is_id(value.get("id")):
        entry = f"{'category' if name == 'categories' else name[:-1]} {brief(value['id'])} of {path}"
    return f"expected {_EXPECTED[field[1]]}. Received: {brief(value[field[1]])} in {entry}"


def _is_id(value: Any) -> bool:
    try:
        msgspec.convert(value, Id)
    except msgspec.ValidationError:
        return False
    return True


def _unique(entries: list[_Entry], kind: str, path: pathlib.Path, problems: list[str]) -> list[_Entry]:
    """Returns the first entry of every id."""
    kept: dict[Any, _Entry] = {}
    for entry in entries:
        if entry.id in kept:
            first, again = (
                brief(one.file_name if isinstance(one, ImageEntry) else getattr(one, "name", ""))
                for one in (kept[entry.id], entry)
            )
            problems.append(
                f"expected a different id for every {kind}. Received: id {brief(entry.id)} for {first} and again for "
                f"{again} in {path}"
            )
        kept.setdefault(entry.id, entry)
    return list(kept.values())


def _check_file_names(file: AnnotationFile) -> None:
    ids: dict[str, Any] = {}
    for entry in file.images:
        if entry.file_name in ids:
            # Label Studio lists an image once for each of its annotators.
            file.remarks.append(
                f"expected every file once. Received: {entry.file_name[:200]} for image {brief(ids[entry.file_name])} "
                f"and again for image {brief(entry.id)} of {file.path}"
            )
        ids.setdefault(entry.file_name, entry.id)


def _drop_groups(file: AnnotationFile, siblings: list[pathlib.Path], class_names: Collection[str]) -> None:
    # Roboflow's project may have the name of one of its classes, so entries are compared, not names.
    candidates = [
        entry
        for entry in file.categories
        if entry.name in _BACKGROUND_NAMES
        or any(other is not entry and other.supercategory == entry.name for other in file.categories)
    ]
    unused = _unused(candidates, file.annotations)
    for sibling in siblings if unused else ():
        unused = _unused(unused, _uses(_load(sibling).annotations))
    unused = _without_classes(unused, file.categories, class_names)
    if len(unused) < len(file.categories):
        dropped = {entry.id for entry in unused}
        file.categories = [entry for entry in file.categories if entry.id not in dropped]
        file.dropped = list(map(_name, unused))


def _without_classes(
    unused: list[Category], categories: list[Category], class_names: Collection[str]
) -> list[Category]:
    """Returns the unused categories that do not stand for a class.

    Roboflow's project, its first category, may have the name of a class: of several, the last is the class.
    """
    used = {_name(entry) for entry in categories if entry not in unused}
    classes = {_name(entry): entry.id for entry in unused if _name(entry) in class_names and _name(entry) not in used}
    return [entry for entry in unused if entry.id not in classes.values()]


def _name(category: Category) -> str:
    return printable(str(category.name))


def _unused(categories: list[Category], annotations: Sequence[Annotation | _Use]) -> list[Category]:
    used = {entry.category_id for entry in annotations}
    return [entry for entry in categories if entry.id not in used]


def _uses(values: list[Any]) -> list[_Use]:
    """Returns the correct entries of another split; reading that split reports the others."""
    kept = []
    for value in values:
        try:
            kept.append(msgspec.convert(value, _Use))
        except msgspec.ValidationError:
            continue
    return kept


def _check_names(file: AnnotationFile) -> None:
    ids: dict[str, Any] = {}
    for entry in file.categories:
        name = _name(entry)
        if name != str(entry.name):
            file.remarks.append(
                f"expected a name without control characters, which are shown as escapes. "
                f"Received: {brief(entry.name)} for category {brief(entry.id)} of {file.path}"
            )
        if name in ids:
            file.problems.append(
                f"expected a different name for every category. Received: {brief(name)} for id {brief(ids[name])} and "
                f"again for id {brief(entry.id)} in {file.path}"
            )
        ids.setdefault(name, entry.id)
    kinds = {isinstance(entry.id, str) for entry in file.categories}
    if len(kinds) > 1:
        file.problems.append(f"expected category ids of one kind. Received: numbers and texts in {file.path}")


def _check_annotations(file: AnnotationFile) -> None:
    images, categories = {entry.id for entry in file.images}, {entry.id for entry in file.categories}
    kept = []
    for entry in file.annotations:
        for kind, value, ids in (("image", entry.image_id, images), ("category", entry.category_id, categories)):
            if value not in ids:
                file.problems.append(
                    f"expected the {kind}_id of a listed {kind}. "
                    f"Received: {brief(value)} in annotation {brief(entry.id)} of {file.path}"
                )
                break
        else:
            kept.append(entry)
    file.annotations = kept


def _check_annotation_ids(file: AnnotationFile) -> None:
    """Remarks on ids that are used again, in one line: some tools begin anew with every image."""
    images: dict[Any, Any] = {}
    again = []
    for entry in file.annotations:
        if entry.id in images:
            again.append(entry)
        images.setdefault(entry.id, entry.image_id)
    if again:
        first = again[0]
        file.remarks.append(
            f"expected a different id for every annotation. Received: id {brief(first.id)} in image "
            f"{brief(images[first.id])} and again in image {brief(first.image_id)} of {file.path} "
            f"({len(again)} annotations have the id of an earlier one)"
        )


def _attributes(annotation: Annotation) -> dict:
    return annotation.attributes if isinstance(annotation.attributes, dict) else {}
