"""Merges Pascal VOC 2012 with the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) for training.

The result has VOC's layout, so the dataset `voc` reads it. Its training and validation sets are the union of both
datasets without VOC's validation set, which becomes the test set (paper, section 4.1). Images and VOC's own label
images are linked; SBD's annotations are written as label images. If both datasets annotate an image, VOC's annotation
is used.
"""

import hashlib
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from rsis_tf.data.paths import check_files, find, read_names, require_folder
from rsis_tf.data.readers import voc
from rsis_tf.errors import InputError, brief
from rsis_tf.files import inside, is_file, replacing
from rsis_tf.progress import ProgressLine


def merge(
    *,
    voc_root: str | pathlib.Path,
    sbd_root: str | pathlib.Path,
    out: str | pathlib.Path,
    val_share: float = 0.1,
    seed: int = 0,
) -> dict[str, int]:
    """Creates the merged dataset.

    The split depends only on the names and the seed: names are ordered by the SHA-256 of seed and name.

    Args:
        voc_root: the folder VOC2012 (or one above it).
        sbd_root: SBD's folder `dataset`, with `inst/`, `img/`, `train.txt` and `val.txt` (or the archive's folder).
        out: the folder to create; it must not exist.
        val_share: share of the union that is for validation.
        seed: seed of the split.

    Returns:
        The number of images of the splits "train", "val" and "test".

    Raises:
        InputError: if a folder or file is missing, an annotation is not SBD's, a listed name leads out of its folder,
            or `out` exists.
    """
    out = pathlib.Path(out)
    if os.path.lexists(out):
        raise InputError(f"expected a folder that does not exist yet. Received: {out}")
    if not 0 < val_share < 1:
        raise InputError(f"val_share must be between 0 and 1. Received: {val_share}")
    voc_root = voc.locate(voc_root)
    sbd_root = require_folder(sbd_root, "SBD's folder (benchmark_RELEASE/dataset)")
    candidates = [sbd_root, sbd_root / "dataset", sbd_root / "benchmark_RELEASE" / "dataset"]
    sbd_root = find([path / "inst" for path in candidates], "SBD's annotations").parent
    lists = voc_root / "ImageSets" / "Segmentation"
    voc_train, test = read_names(lists / "train.txt"), read_names(lists / "val.txt")
    sbd_names = sorted({*read_names(sbd_root / "train.txt"), *read_names(sbd_root / "val.txt")} - {*voc_train, *test})
    names = sorted({*voc_train, *sbd_names} - {*test})
    for name in (*names, *test):
        inside(out, f"{name}.jpg")
    check_files([sbd_root / "inst" / f"{name}.mat" for name in sbd_names], sbd_root)
    names.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    border = len(names) - round(len(names) * val_share)
    splits = {"train": sorted(names[:border]), "val": sorted(names[border:]), "test": sorted(test)}

    with replacing(out) as partial:
        for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationObject", "SegmentationClass"):
            (partial / folder).mkdir(parents=True)
        for name in sorted({*voc_train, *test}):
            for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationObject", "png"), ("SegmentationClass", "png")):
                _link(voc_root / folder / f"{name}.{suffix}", _place(partial / folder, f"{name}.{suffix}"))
        progress = ProgressLine("annotations")
        for position, name in enumerate(sbd_names, start=1):
            objects, classes = read_annotation(sbd_root / "inst" / f"{name}.mat")
            _save(objects, _place(partial / "SegmentationObject", f"{name}.png"))
            _save(classes, _place(partial / "SegmentationClass", f"{name}.png"))
            image = find([root / f"{name}.jpg" for root in (voc_root / "JPEGImages", sbd_root / "img")], "an image")
            _link(image, _place(partial / "JPEGImages", f"{name}.jpg"))
            progress(position, len(sbd_names))
        progress.clear()
        for split, members in splits.items():
            text = "".join(f"{name}\n" for name in members)
            (partial / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text, encoding="utf-8")
    return {split: len(members) for split, members in splits.items()}


def read_annotation(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file of SBD's `inst/`.

    The file holds a struct `GTinst`: `Segmentation` numbers the objects 1 … n, `Categories` gives the class of each.

    Args:
        path: the .mat file.

    Returns:
        (H, W) uint8 object numbers and (H, W) uint8 classes, 0 for background in both.

    Raises:
        InputError: if the file is not such an annotation.
    """
    content = _load(path)
    objects, categories = (_integers(content, name, path) for name in ("Segmentation", "Categories"))
    categories = categories.ravel()
    lowest, highest = int(objects.min(initial=0)), int(objects.max(initial=0))
    if objects.ndim != 2 or lowest < 0 or highest > len(categories) or highest >= voc.VOID_ID:
        raise InputError(
            f"expected a 2-D map of objects, each with a category, at most {voc.VOID_ID - 1}. "
            f"Received: objects {lowest} … {highest} of {len(categories)} categories in {path}"
        )
    if not np.all((categories >= 1) & (categories < len(voc.CLASS_NAMES))):
        raise InputError(f"expected categories 1 … 20. Received: {brief(sorted(set(categories.tolist())))} in {path}")
    class_of = np.concatenate([[0], categories]).astype(np.uint8)
    return objects.astype(np.uint8), class_of[objects]


def _load(path: pathlib.Path) -> np.ndarray:
    """Returns the structure `GTinst` of a file, an array with named fields."""
    import scipy.io  # imported here so that the command can say what to install

    try:
        content = scipy.io.loadmat(path, appendmat=False, variable_names=["GTinst"]).get("GTinst")
    # SciPy's reader raises almost any error for a broken file, MemoryError and UnboundLocalError among them.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"expected SBD's annotation of an image (GTinst). Received: {path} ({reason[:200]})") from None
    if not isinstance(content, np.ndarray) or content.size != 1 or content.dtype.names is None:
        raise InputError(f"expected SBD's annotation of an image (GTinst). Received: {path} (no such structure)")
    return content.ravel()


def _integers(content: np.ndarray, name: str, path: pathlib.Path) -> np.ndarray:
    """Returns a field of the structure as whole numbers, int64; MATLAB stores most numbers as float."""
    value: Any = content[name][0] if name in (content.dtype.names or ()) else None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        received = "no such field" if value is None else getattr(value, "dtype", type(value).__name__)
        raise InputError(f"expected whole numbers as {name}. Received: {received} in {path}")
    if value.dtype.kind == "f" and not np.all(np.isfinite(value) & (np.abs(value) < 2**31) & (value % 1 == 0)):
        raise InputError(f"expected whole numbers as {name}. Received: others in {path}")
    return value.astype(np.int64)


def _place(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the path of a listed name inside a folder of the result; the name may have a folder of its own."""
    path = inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Links a file; the link is relative, so both datasets can be moved together."""
    if not is_file(source):
        raise InputError(f"expected a file of the dataset. Received: {source} (no such file)")
    folder = target.resolve().parent
    try:
        target.symlink_to(os.path.relpath(source.resolve(), folder))
    except OSError as error:
        raise InputError(
            f"expected a folder in which links can be created. Received: {folder} ({error.strerror})"
        ) from None


def _save(labels: np.ndarray, path: pathlib.Path) -> None:
    """Writes a palette PNG in VOC's colours."""
    image = Image.fromarray(labels)
    image.putpalette(_palette().tobytes())
    image.save(path)


def _palette() -> np.ndarray:
    """Returns (256, 3) uint8, VOC's colours: the bits of the index spread over red, green and blue, high bits first."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * level + channel) & 1) << (7 - level)).astype(np.uint8)
    return colours
