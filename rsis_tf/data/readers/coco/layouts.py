"""Where the annotation files and images are: one row per layout that label tools write.

`docs/datasets.md` says which settings of a tool produce which layout.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from rsis_tf.data.paths import MissingSplitError, UnsplitError, require_folder
from rsis_tf.errors import OptionError

SPLIT_NAMES = {
    "train": ("train", "train2017", "training"),
    "val": ("val", "val2017", "valid", "validation"),
    "test": ("test", "test2017", "testing"),
}
"""Names that label tools give to the splits, in upper or lower case."""

WHOLE = "all"
"""Name of the whole of a dataset without splits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Located:
    """The files of one split.

    Attributes:
        annotation_file: a COCO JSON file.
        image_folders: folders that the file's paths may be relative to, the most likely first.
        own_folder: the folder that holds the images of this split only, or None.
        siblings: annotation files of all splits, including this one.
        part: "train" or "val" if the split is a part of the file, else None.
    """

    annotation_file: pathlib.Path
    image_folders: tuple[pathlib.Path, ...]
    own_folder: pathlib.Path | None = None
    siblings: tuple[pathlib.Path, ...] = ()
    part: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of a split, or of a dataset without splits (no `{split}` in `annotations`).

    Attributes:
        tools: the tools that write it.
        annotations: paths of the annotation file, relative to the dataset's folder.
        images: folders of the images, relative to the dataset's folder.
    """

    tools: str
    annotations: tuple[str, ...]
    images: tuple[str, ...]


SPLIT_LAYOUTS = (
    Layout(
        tools="COCO, CVAT (subsets)",
        annotations=("annotations/{split}.json", "annotations/instances_{split}.json"),
        images=("{split}", "images/{split}", "images", "."),
    ),
    Layout(tools="Roboflow", annotations=("{split}/_annotations.coco.json",), images=("{split}",)),
    Layout(
        tools="labelme2coco (split)",
        annotations=("{split}.json", "instances_{split}.json"),
        images=("{split}", "images/{split}", "images", "."),
    ),
)
WHOLE_LAYOUTS = (
    Layout(tools="CVAT", annotations=("annotations/instances_default.json",), images=("images/default", "images", ".")),
    Layout(tools="Label Studio", annotations=("result.json", "result_coco.json"), images=(".", "images")),
    Layout(tools="Roboflow", annotations=("_annotations.coco.json",), images=(".",)),
    Layout(
        tools="labelme, labelme2coco",
        annotations=("annotations.json", "dataset.json", "annotations/annotations.json", "annotations/instances.json"),
        images=(".", "images", "JPEGImages"),
    ),
    Layout(tools="FiftyOne", annotations=("labels.json",), images=("data", ".")),
    Layout(tools="VGG Image Annotator", annotations=("via_export_coco.json",), images=(".", "images")),
)
"""Each of these may also be in a folder per split."""


def locate(
    root: str | pathlib.Path | None,
    split: str,
    *,
    annotations: str | None = None,
    val_annotations: str | None = None,
    images: str | None = None,
    val_images: str | None = None,
    val_share: float | None = None,
) -> Located:
    """Finds the files of a split.

    Args:
        root: the dataset's folder; may be None if files are named.
        split: "train", "val" or "test", or `WHOLE`.
        annotations, val_annotations: the annotation files, if they are not to be looked for in `root`.
        images, val_images: the folders of their images; by default the folders beside the files, and `root`.
        val_share: the share of a dataset without validation split that is "val"; the rest is "train".

    Raises:
        MissingSplitError: if there are no such files; the message lists the paths that were tried.
        UnsplitError: (a subclass) if there is one annotation file for everything and `val_share` is None.
        OptionError: if `val_share` is given for a dataset that has a validation split, or a folder or file
            that is named does not exist.
    """
    if root is not None:
        root = require_folder(root, "a folder with a dataset in COCO's format")
    if annotations is not None or val_annotations is not None:
        return _named(root, split, annotations, val_annotations, images, val_images, val_share)
    if images is not None or val_images is not None:
        raise OptionError(f"--images needs --annotations. Received: --images {images or val_images}")
    if root is None:
        raise OptionError("expected a folder or an annotation file. Received: neither")
    tree = _Tree(root)
    splits = {name: found for name in SPLIT_NAMES if (found := _split(tree, name)) is not None}
    siblings = tuple(found.annotation_file for found in splits.values())
    if val_share is None:
        if split in splits:
            return dataclasses.replace(splits[split], siblings=siblings)
        whole = None if splits else _whole(tree)
        if whole is not None and split == WHOLE:
            return whole
        if whole is not None:
            raise UnsplitError(
                "expected a dataset with splits, or --val-share 0.2 to keep a fifth of it for validation. "
                f"Received: one file for everything, {whole.annotation_file}"
            )
        hint = ""
        if split == "val" and "train" in splits:
            hint = " (--val-share 0.2 keeps a fifth of the training images for it)"
        raise MissingSplitError(
            f"expected COCO annotations of split {split!r}{hint}. Received: none in {root} at {_looked_for(split)}"
        )
    if "val" in splits:
        raise OptionError(
            "expected --val-share with a dataset that has no validation split. "
            f"Received: --val-share {val_share} beside {splits['val'].annotation_file}"
        )
    if split not in ("train", "val"):
        if split in splits:
            return dataclasses.replace(splits[split], siblings=siblings)
        raise MissingSplitError(
            f"expected annotations of split {split!r}, since --val-share makes train and val only. "
            f"Received: none in {root}"
        )
    whole = splits.get("train") or _whole(tree)
    if whole is None:
        raise MissingSplitError(
            f"expected COCO annotations to divide. Received: none in {root} at {_looked_for('train')}"
        )
    return dataclasses.replace(whole, siblings=siblings or whole.siblings, part=split)


def _named(
    root: pathlib.Path | None,
    split: str,
    annotations: str | None,
    val_annotations: str | None,
    images: str | None,
    val_images: str | None,
    val_share: float | None,
) -> Located:
    if val_share is not None and val_annotations is not None:
        raise OptionError(
            "expected --val-share or --val-annotations, not both. "
            f"Received: --val-share {val_share} beside --val-annotations {val_annotations}"
        )
    if val_images is not None and val_annotations is None:
        raise OptionError(f"--val-images needs --val-annotations. Received: --val-images {val_images}")
    divided = val_share is not None and split in ("train", "val")
    name = val_annotations if split == "val" and not divided else annotations
    if name is None or split not in ("train", "val", WHOLE):
        options = {"train": "--annotations", "val": "--val-annotations or --val-share"}.get(
            split, "a folder with splits"
        )
        raise MissingSplitError(f"expected {options} for split {split!r}. Received: other annotation files only")
    file = pathlib.Path(name)
    if not file.is_file():
        raise OptionError(f"expected an annotation file in COCO's format. Received: {file} (no such file)")
    folder = images if divided or split != "val" else val_images or images
    folders: tuple[pathlib.Path, ...]
    if folder is not None:
        folders = (require_folder(folder, "a folder of images", error=OptionError),)
    else:
        beside = file.parent
        folders = (beside, beside / "images", beside.parent, beside.parent / "images", *([root] if root else []))
    siblings = tuple(pathlib.Path(other) for other in (annotations, val_annotations) if other is not None)
    return Located(annotation_file=file, image_folders=folders, siblings=siblings, part=split if divided else None)


class _Tree:
    """A folder in which names are found in upper or lower case: CVAT's subsets are `Train` and `Validation`."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._names: dict[pathlib.Path, dict[str, str]] = {}

    def below(self, name: str) -> "_Tree":
        return _Tree(self.path(name))

    def path(self, name: str) -> pathlib.Path:
        """Returns the path of that name, or of a name that differs from it only in upper and lower case."""
        path = self.root
        for part in pathlib.PurePosixPath(name).parts:
            if not (path / part).exists():
                part = self._listing(path).get(part.lower(), part)
            path = path / part
        return path

    def folders(self, names: Iterable[str]) -> tuple[pathlib.Path, ...]:
        """Returns the folders of these names that exist."""
        return tuple(dict.fromkeys(path for name in names if (path := self.path(name)).is_dir()))

    def _listing(self, folder: pathlib.Path) -> dict[str, str]:
        if folder not in self._names:
            names = sorted(os.listdir(folder), reverse=True) if folder.is_dir() else []
            self._names[folder] = {name.lower(): name for name in names}
        return self._names[folder]


def _split(tree: _Tree, split: str) -> Located | None:
    """Returns the files of a split, or None."""
    for layout in SPLIT_LAYOUTS:
        for name in SPLIT_NAMES[split]:
            for path in layout.annotations:
                file = tree.path(path.format(split=name))
                if not file.is_file():
                    continue
                folders = tree.folders(path.format(split=part) for path in layout.images for part in (name, split))
                own = next((folder for folder in folders if folder.name.lower() in SPLIT_NAMES[split]), None)
                return Located(annotation_file=file, image_folders=folders, own_folder=own)
    for name in SPLIT_NAMES[split]:
        found = _whole(tree.below(name))
        if found is not None:
            return found
    return None


def _whole(tree: _Tree) -> Located | None:
    """Returns the files of a dataset without splits, or None."""
    for layout in WHOLE_LAYOUTS:
        for name in layout.annotations:
            file = tree.path(name)
            if file.is_file():
                folders = tree.folders(layout.images)
                own = tree.path("images")
                return Located(
                    annotation_file=file,
                    image_folders=folders,
                    own_folder=own if own in folders else folders[0],
                    siblings=(file,),
                )
    return None


def _looked_for(split: str) -> str:
    """Returns all paths at which the annotations of a split, or of a dataset without splits, may be."""
    paths = [path.format(split=split) for layout in SPLIT_LAYOUTS for path in layout.annotations]
    paths += [path for layout in WHOLE_LAYOUTS for path in layout.annotations]
    others = ", ".join(SPLIT_NAMES.get(split, ())[1:])
    return ", ".join(paths) + (f" (or {others} for {split})" if others else "")
