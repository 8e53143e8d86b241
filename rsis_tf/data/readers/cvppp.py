"""CVPPP Leaf Segmentation Challenge, sets A1 to A4: one plant per image, its leaves numbered."""

import pathlib

import numpy as np

from rsis_tf.data.labels import from_ids, ids_in
from rsis_tf.data.paths import MissingSplitError, check_files, require_folder
from rsis_tf.data.readers.label_images import LabelImageDataset, read_labels_of
from rsis_tf.errors import InputError, OptionError

SUBSETS = ("A1", "A2", "A3", "A4")


class CvpppDataset(LabelImageDataset):
    """A split of one of the challenge's sets.

    Layout: `{plant}_rgb.png` (RGBA) and `{plant}_label.png` (palette indices, 0 = background) side by side, as in
    `training/A1`. Sorted by name, the first three quarters are for training and the rest for validation: 96 and 32 of
    A1's 128, the sizes of the paper. With `fold`, every `num_folds`-th plant is for validation instead.

    Args:
        root: the folder of a set, or the folder of the unpacked archive, which holds `training/{subset}` or `{subset}`.
        split: "train", "val" or "test". Test images are those of `testing/{subset}`, or of `root` if it holds no
            labels. They have no annotations, so all their pixels are void.
        subset: the set to read if the folder holds several.
        fold: 0 … num_folds − 1 for cross-validation; None for the fixed split.
        num_folds: number of folds, at least 2.
        check: see `FileDataset`.

    Raises:
        OptionError: if the folder holds no such images.
        InputError: if a folder or file is missing or there are too few images to split.
    """

    class_names: tuple[str, ...] = ("background", "leaf")

    def __init__(
        self,
        root: str | pathlib.Path,
        split: str,
        *,
        subset: str = "A1",
        fold: int | None = None,
        num_folds: int = 4,
        check: bool = True,
    ):
        if subset not in SUBSETS:
            raise InputError(f"subset must be one of {', '.join(SUBSETS)}. Received: {subset!r}")
        if num_folds < 2 or not (fold is None or 0 <= fold < num_folds):
            raise InputError(
                f"fold must be in 0 … num_folds − 1, num_folds at least 2. Received: fold={fold}, num_folds={num_folds}"
            )
        root = require_folder(root, "the folder of a CVPPP set")
        folder = _test_folder(root, subset) if split == "test" else _training_folder(root, subset)
        names = [path.name.removesuffix("_rgb.png") for path in sorted(folder.glob("*_rgb.png"))]
        if split != "test":
            names = _select(names, split, fold, num_folds)
            if not names:
                raise InputError(f"expected at least 2 plants to split. Received: fewer in {folder}")
        self.names = names
        self.image_files = [folder / f"{name}_rgb.png" for name in names]
        self.annotation_files = [] if split == "test" else [folder / f"{name}_label.png" for name in names]
        if check:
            check_files(self.annotation_files, folder)

    def _labels(self, index: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        ids = read_labels_of(self.annotation_files[index], self.image_files[index], shape)
        return from_ids(ids, {value: 1 for value in ids_in(ids) if value != 0})


def _training_folder(root: pathlib.Path, subset: str) -> pathlib.Path:
    candidates = [root, root / subset, root / "training" / subset]
    for folder in candidates:
        if folder.is_dir() and any(folder.glob("*_rgb.png")):
            return folder
    raise OptionError(f"expected images named …_rgb.png. Received: none in {', '.join(map(str, candidates))}")


def _test_folder(root: pathlib.Path, subset: str) -> pathlib.Path:
    folder = root / "testing" / subset
    if folder.is_dir() and any(folder.glob("*_rgb.png")):
        return folder
    # A folder with labels is a training set; its images must not be taken for test images.
    if any(root.glob("*_rgb.png")) and not any(root.glob("*_label.png")):
        return root
    raise MissingSplitError(f"expected test images in {folder}, or a folder of images without labels. Received: {root}")


def _select(names: list[str], split: str, fold: int | None, num_folds: int) -> list[str]:
    if fold is None:
        border = len(names) * 3 // 4
        return names[:border] if split == "train" else names[border:]
    return [name for position, name in enumerate(names) if (position % num_folds == fold) == (split == "val")]
