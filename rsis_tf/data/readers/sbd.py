"""Merges Pascal VOC 2012 with the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) for training.

The result has VOC's layout, so `--dataset voc` reads it: training and validation are the union of both datasets less
VOC's validation set, which becomes the test set (paper, section 4.1). Pictures and VOC's own label images are linked,
SBD's annotations are written as label images. Where both annotate a picture, VOC's annotation is taken.
"""

import hashlib
import os
import pathlib
import shutil
import sys
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from rsis_tf.data.files import check_files, find, read_names, require_folder
from rsis_tf.data.readers import voc
from rsis_tf.errors import ArgumentParser, InputError, command_line

SPLITS = ("train", "val", "test")


def merge(
    *,
    voc_root: str | pathlib.Path,
    sbd_root: str | pathlib.Path,
    out: str | pathlib.Path,
    val_share: float = 0.1,
    seed: int = 0,
) -> dict[str, int]:
    """Makes the merged dataset.

    The split depends on the names and the seed alone: names are ordered by the SHA-256 of seed and name.

    Args:
        voc_root: the folder VOC2012 (or one above it).
        sbd_root: SBD's folder `dataset`, with `inst/`, `img/`, `train.txt` and `val.txt` (or the archive's folder).
        out: the folder to make; must not exist.
        val_share: share of the union that validates.
        seed: of the split.

    Returns:
        Pictures of the splits "train", "val" and "test".

    Raises:
        InputError: when a folder or file is missing, an annotation is not SBD's, or `out` exists.
    """
    out = pathlib.Path(out)
    if out.exists():
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
    check_files([sbd_root / "inst" / f"{name}.mat" for name in sbd_names], sbd_root)
    names.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    border = len(names) - round(len(names) * val_share)
    splits = {"train": sorted(names[:border]), "val": sorted(names[border:]), "test": sorted(test)}

    # Made beside and renamed when complete, so that `out` is whole or not there.
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    try:
        for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationObject", "SegmentationClass"):
            (partial / folder).mkdir(parents=True)
        for name in sorted({*voc_train, *test}):
            for folder, ending in (("JPEGImages", "jpg"), ("SegmentationObject", "png"), ("SegmentationClass", "png")):
                _link(voc_root / folder / f"{name}.{ending}", partial / folder / f"{name}.{ending}")
        for position, name in enumerate(sbd_names, start=1):
            objects, classes = read_annotation(sbd_root / "inst" / f"{name}.mat")
            _save(objects, partial / "SegmentationObject" / f"{name}.png")
            _save(classes, partial / "SegmentationClass" / f"{name}.png")
            picture = find([root / f"{name}.jpg" for root in (voc_root / "JPEGImages", sbd_root / "img")], "a picture")
            _link(picture, partial / "JPEGImages" / f"{name}.jpg")
            if sys.stderr.isatty() and (position % 100 == 0 or position == len(sbd_names)):
                print(f"\r{position}/{len(sbd_names)} annotations", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        for split, members in splits.items():
            text = "".join(f"{name}\n" for name in members)
            (partial / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text, encoding="utf-8")
        os.replace(partial, out)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return {split: len(members) for split, members in splits.items()}


def read_annotation(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file of SBD's `inst/`.

    The file holds a struct `GTinst`: `Segmentation` numbers the objects 1 … n, `Categories` gives the class of each.

    Args:
        path: of the .mat file.

    Returns:
        (H, W) uint8 object numbers and (H, W) uint8 classes, 0 for background in both.

    Raises:
        InputError: when the file is not such an annotation.
    """
    import scipy.io  # here, so that the command can say what to install
    import scipy.io.matlab

    try:
        content = scipy.io.loadmat(path)["GTinst"]
        objects = np.asarray(content["Segmentation"][0, 0])
        categories = np.asarray(content["Categories"][0, 0]).ravel()
    # What SciPy raises for a broken file depends on where it is broken.
    except (scipy.io.matlab.MatReadError, zlib.error, OSError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"expected SBD's annotation of a picture (GTinst). Received: {path} ({reason})") from None
    highest = int(objects.max(initial=0))
    if objects.ndim != 2 or highest > len(categories) or highest >= voc.VOID_ID:
        raise InputError(
            f"expected a 2-D map of objects, each with a category, at most {voc.VOID_ID - 1}. "
            f"Received: object {highest} of {len(categories)} categories in {path}"
        )
    if not np.all((categories >= 1) & (categories < len(voc.CLASS_NAMES))):
        raise InputError(f"expected categories 1 … 20. Received: {sorted(set(categories.tolist()))} in {path}")
    class_of = np.concatenate([[0], categories]).astype(np.uint8)
    return objects.astype(np.uint8), class_of[objects]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of `merge`."""
    parser = ArgumentParser(
        prog="python -m rsis_tf.data.readers.sbd",
        description="Merges Pascal VOC 2012 and SBD into one dataset in VOC's layout. Pictures are linked, not copied.",
        epilog="example:\n"
        "  python -m rsis_tf.data.readers.sbd --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --out VOCplus\n"
        "  python train.py --dataset voc --data VOCplus",
    )
    parser.add_argument("--voc", required=True, metavar="DIR", help="the folder VOC2012")
    parser.add_argument("--sbd", required=True, metavar="DIR", help="SBD's folder benchmark_RELEASE/dataset")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make; must not exist")
    parser.add_argument("--val-share", type=float, default=0.1, help="share that validates (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    options = parser.parse_args(arguments)
    with command_line():
        sizes = merge(
            voc_root=options.voc, sbd_root=options.sbd, out=options.out, val_share=options.val_share, seed=options.seed
        )
        print(f"{options.out}: " + ", ".join(f"{size} {split}" for split, size in sizes.items()))


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Links a file; the link is relative, so that both datasets can move together."""
    if not source.is_file():
        raise InputError(f"expected a file of the dataset. Received: {source} (no such file)")
    folder = target.resolve().parent
    try:
        target.symlink_to(os.path.relpath(source.resolve(), folder))
    except OSError as error:
        raise InputError(f"expected a place where links can be made. Received: {folder} ({error.strerror})") from None


def _save(labels: np.ndarray, path: pathlib.Path) -> None:
    """Writes a palette PNG in VOC's colours."""
    picture = Image.fromarray(labels)
    picture.putpalette(_palette().tobytes())
    picture.save(path)


def _palette() -> np.ndarray:
    """(256, 3) uint8: VOC's colours, which spread the bits of the index over red, green and blue, highest bit first."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * level + channel) & 1) << (7 - level)).astype(np.uint8)
    return colours


if __name__ == "__main__":
    main()
