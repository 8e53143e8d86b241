"""Readers: drawn datasets, written with Pillow and `json` as the tools write them, are read back equal."""

import contextlib
import io
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from scipy import ndimage
from strategies import check_message, folder, masks_of, painted, sizes

from rsis_tf.data.readers.cityscapes import CLASS_IDS, VOID_IDS, CityscapesDataset
from rsis_tf.data.readers.coco import CocoDataset
from rsis_tf.data.readers.cvppp import CvpppDataset
from rsis_tf.data.readers.folder import FolderDataset
from rsis_tf.data.readers.voc import CLASS_NAMES, VocDataset
from rsis_tf.data.sample import VOID, Sample
from rsis_tf.runtime import InputError

Objects = list[tuple[int, bytes]]
"""Class and pixels of each object, sorted."""


def _objects(sample: Sample) -> Objects:
    assert sample.label_map.dtype == sample.classes.dtype == np.int32
    assert set(np.unique(sample.label_map)) - {0, VOID} == set(range(1, len(sample.classes) + 1))
    return sorted((int(c), (sample.label_map == i).tobytes()) for i, c in enumerate(sample.classes, start=1))


def _save(path: pathlib.Path, pixels: np.ndarray, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16))
    else:
        image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)
    assert mode == "RGB" or image.mode == mode


def _noise(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)


# ---- COCO ----


@st.composite
def _segmentations(draw: st.DrawFn, size: tuple[int, int]) -> Any:
    mask = draw(masks_of(size))
    kind = draw(st.sampled_from(["polygons", "runs", "compressed"]))
    if kind == "polygons":
        numbers = st.one_of(st.integers(-1, min(size) + 1), st.floats(-1, min(size) + 1))
        rings = st.integers(3, 5).flatmap(lambda points: st.lists(numbers, min_size=2 * points, max_size=2 * points))
        return draw(st.lists(rings, min_size=1, max_size=2))
    code = rle_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    if kind == "compressed":
        return {"size": list(size), "counts": code["counts"].decode("ascii")}
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F").astype(int), prepend=-1, append=-1)))
    return {"size": list(size), "counts": [0, *runs.tolist()] if mask[0, 0] else runs.tolist()}


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draws the content of an annotation file: ids with gaps, large or as text, and optional fields left out."""
    ids = draw(
        st.sampled_from(
            [st.integers(0, 20), st.integers(2**53, 2**53 + 9), st.integers(0, 2**70), st.text("ab1", min_size=1)]
        )
    )
    image_ids = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    category_ids = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    shapes = {image_id: draw(sizes(9)) for image_id in image_ids}
    annotations = []
    for number in range(draw(st.integers(0, 5))):
        image_id = draw(st.sampled_from(image_ids))
        entry = {
            "id": draw(st.sampled_from([number, str(number), 2**60 + number])),
            "image_id": image_id,
            "category_id": draw(st.sampled_from(category_ids)),
            "segmentation": draw(_segmentations(shapes[image_id])),
        }
        crowd = draw(st.sampled_from([None, 0, 0, 1]))
        annotations.append(entry if crowd is None else {**entry, "iscrowd": crowd, "bbox": [0, 0, 1, 1]})
    extra = draw(st.sampled_from([{}, {"info": {}}, {"licenses": [], "info": {"contributor": None}}]))
    return {
        **extra,
        "images": [
            {"id": image_id, "file_name": f"{number}.png", "height": shapes[image_id][0], "width": shapes[image_id][1]}
            for number, image_id in enumerate(image_ids)
        ],
        "annotations": draw(st.permutations(annotations)),
        "categories": [
            {"id": category_id, "name": f"category {number}"} | draw(st.sampled_from([{}, {"supercategory": "thing"}]))
            for number, category_id in enumerate(category_ids)
        ],
    }


def _official(document: dict[str, Any]) -> dict[int | str, tuple[Objects, np.ndarray]]:
    """Returns the visible objects and the void of each image, from pycocotools' masks and the rule of the reader.

    Crowds are void. Of the objects that claim a pixel, the smallest keeps it, and of equal ones the last.
    """
    coco = COCO()
    coco.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    class_of = {entry: k for k, entry in enumerate(sorted(e["id"] for e in document["categories"]), start=1)}
    result: dict[int | str, tuple[Objects, np.ndarray]] = {}
    for image in document["images"]:
        owner = np.full((image["height"], image["width"]), -1)
        void = np.zeros(owner.shape, bool)
        entries = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
        shapes = [coco.annToMask(entry).astype(bool) for entry in entries]
        smallest = np.full(owner.shape, owner.size + 1)
        for number, (entry, mask) in enumerate(zip(entries, shapes, strict=True)):
            if entry.get("iscrowd"):
                void |= mask
            else:
                mine = mask & (mask.sum() <= smallest)
                owner[mine], smallest[mine] = number, mask.sum()
        objects = [(class_of[e["category_id"]], (owner == n).tobytes()) for n, e in enumerate(entries)]
        seen = set(np.unique(owner).tolist())
        result[image["id"]] = sorted(o for n, o in enumerate(objects) if n in seen), void & (owner < 0)
    return result


@given(_documents())
def test_coco_documents_are_read_as_pycocotools_reads_them(document: dict[str, Any]) -> None:
    expected = _official(document)
    with folder() as root:
        for image in document["images"]:
            _save(root / "train" / image["file_name"], _noise((image["height"], image["width"])))
        (root / "annotations").mkdir()
        (root / "annotations" / "train.json").write_text(json.dumps(document), encoding="utf-8")
        dataset = CocoDataset(root, "train", crowds="ignore")
        assert dataset.problems == []
        names = {entry["id"]: entry["name"] for entry in document["categories"]}
        assert dataset.category_ids == (0, *sorted(names))
        assert dataset.class_names == ("background", *(names[entry] for entry in sorted(names)))
        assert len(dataset) == len(document["images"])
        for index, image in enumerate(document["images"]):
            sample = dataset[index]
            objects, void = expected[image["id"]]
            assert sample.image_id == str(image["id"])
            assert _objects(sample) == objects
            np.testing.assert_array_equal(sample.label_map == VOID, void)
            np.testing.assert_array_equal(sample.image, _noise(void.shape))
            inspected = dataset.inspect(index)
            crowds = [e for e in document["annotations"] if e["image_id"] == image["id"] and e.get("iscrowd")]
            assert inspected.crowds == len(crowds)
            assert inspected.objects >= len(objects)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@given(_documents(), st.data())
def test_coco_documents_with_any_value_in_a_field_are_read_or_refused(
    document: dict[str, Any], data: st.DataObject
) -> None:
    part = document[data.draw(st.sampled_from(["images", "annotations", "categories"]))]
    assume(part)
    entry = data.draw(st.sampled_from(part))
    field = data.draw(st.sampled_from(sorted(entry)))
    if data.draw(st.booleans()):
        entry[field] = data.draw(_JSON)
    else:
        del entry[field]
    with folder() as root:
        for number, shape in enumerate((image.get("height"), image.get("width")) for image in document["images"]):
            sides = [side if isinstance(side, int) and 0 < side < 10 else 1 for side in shape]
            _save(root / "train" / f"{number}.png", _noise((sides[0], sides[1])))
        (root / "annotations").mkdir()
        (root / "annotations" / "train.json").write_text(json.dumps(document), encoding="utf-8")
        try:
            dataset = CocoDataset(root, "train")
            for index in range(len(dataset)):
                dataset.inspect(index)
                dataset.findings(index)
                _objects(dataset[index])
        except InputError as error:
            check_message(error)


# ---- Label images ----

_BYTES = st.integers(0, 255)
_WORDS = st.one_of(st.integers(0, 300), st.integers(0, 65535))


@given(sizes().flatmap(lambda size: painted(size, _WORDS)), st.sampled_from(["png", "tif", "bmp"]), st.booleans())
def test_label_maps_of_a_folder_are_read_back(ids: np.ndarray, ending: str, palette: bool) -> None:
    assume(ids.max() < 256 or ending != "bmp")
    mode = "I;16" if ids.max() > 255 else "P" if palette else "L"
    with folder() as root:
        _save(root / "train/images/a.png", _noise(ids.shape))
        _save(root / f"train/labels/a.{ending}", ids, mode)
        dataset = FolderDataset(root, "train")
        sample = dataset[0]
        assert _objects(sample) == sorted((1, (ids == value).tobytes()) for value in np.unique(ids[ids > 0]))
        assert not (sample.label_map == VOID).any()
        assert dataset.inspect(0).objects == len(sample.classes)
        np.testing.assert_array_equal(sample.image, _noise(ids.shape))


@given(
    sizes().flatmap(
        lambda size: painted(size, st.one_of(st.integers(0, 5999), st.sampled_from([999, 1000, 1999, 2000])))
    ),
    st.integers(1, 6),
)
def test_label_maps_with_classes_are_read_back(ids: np.ndarray, classes: int) -> None:
    with folder() as root:
        _save(root / "images/val/a.png", _noise(ids.shape))
        _save(root / "labels/val/a.png", ids, "I;16")
        (root / "classes.txt").write_text("".join(f"class {k}\n" for k in range(classes)), encoding="utf-8")
        dataset = FolderDataset(root, "val")
        assert dataset.class_names == ("background", *(f"class {k}" for k in range(classes)))
        if ids.max() // 1000 > classes:
            with pytest.raises(InputError, match="Received: "):
                dataset.read(0)
            return
        sample = dataset[0]
        values = np.unique(ids[ids >= 1000]).tolist()
        assert _objects(sample) == sorted((value // 1000, (ids == value).tobytes()) for value in values)
        np.testing.assert_array_equal(sample.label_map == VOID, (ids > 0) & (ids < 1000))


@given(sizes().flatmap(lambda size: st.lists(painted(size, _BYTES), min_size=2, max_size=5)))
def test_plants_are_divided_and_read_back(plants: list[np.ndarray]) -> None:
    with folder() as root:
        for number, ids in enumerate(plants):
            _save(root / f"A1/plant{number:03d}_rgb.png", _noise(ids.shape, 4))
            _save(root / f"A1/plant{number:03d}_label.png", ids, "P")
        split = [CvpppDataset(root, name) for name in ("train", "val")]
        folds = [CvpppDataset(root, "val", fold=fold, num_folds=2) for fold in (0, 1)]
        for parts in (split, folds):
            names = sorted(name for part in parts for name in part.names)
            assert names == [f"plant{number:03d}" for number in range(len(plants))]
        for part in split:
            for index, name in enumerate(part.names):
                ids, sample = plants[int(name[-3:])], part[index]
                assert _objects(sample) == sorted((1, (ids == value).tobytes()) for value in np.unique(ids[ids > 0]))
                np.testing.assert_array_equal(sample.image, _noise(ids.shape, 4)[..., :3])


@st.composite
def _voc_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draws VOC's two images: objects with one class each, some of whose pixels are void or of another class."""
    size = draw(sizes())
    objects = draw(painted(size, st.one_of(st.integers(0, 5), st.just(255))))
    classes = np.where(objects == 255, 255, 0)
    for number in np.unique(objects[(objects > 0) & (objects < 255)]):
        classes[objects == number] = draw(st.integers(1, 20))
    strays = draw(painted(size, st.sampled_from([0, 3, 255]), most=2))
    return objects, np.where(strays > 0, strays, classes)


@given(_voc_labels())
@example((np.array([[0, 1, 1, 255]]), np.array([[255, 20, 3, 255]])))
def test_voc_labels_are_read_back(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    objects, classes = drawn
    numbers = np.unique(objects[(objects > 0) & (objects < 255)]).tolist()
    counts = {n: np.bincount(classes[objects == n], minlength=256)[1:21] for n in numbers}
    with folder() as root:
        (root / "ImageSets/Segmentation").mkdir(parents=True)
        (root / "ImageSets/Segmentation/train.txt").write_text("2007_1\n", encoding="utf-8")
        _save(root / "JPEGImages/2007_1.jpg", _noise(objects.shape))
        _save(root / "SegmentationObject/2007_1.png", objects, "P")
        _save(root / "SegmentationClass/2007_1.png", classes, "P")
        dataset = VocDataset(root, "train")
        assert dataset.class_names == CLASS_NAMES
        if not all(count.any() for count in counts.values()):
            with pytest.raises(InputError, match="Received: object"):
                dataset.read(0)
            return
        sample = dataset[0]
        expected = [(int(count.argmax()) + 1, (objects == n).tobytes()) for n, count in counts.items()]
        assert _objects(sample) == sorted(expected)
        void = (objects == 255) | ((objects == 0) & (classes == 255))
        np.testing.assert_array_equal(sample.label_map == VOID, void)


_CITYSCAPES_IDS = st.one_of(
    st.integers(0, 33),
    st.builds(lambda label, number: label * 1000 + number, st.sampled_from(sorted(CLASS_IDS)), st.integers(0, 999)),
    st.builds(lambda label, number: label * 1000 + number, st.sampled_from([29, 30]), st.integers(0, 9)),
)


@given(sizes().flatmap(lambda size: painted(size, _CITYSCAPES_IDS)))
def test_cityscapes_ids_are_read_back(ids: np.ndarray) -> None:
    with folder() as root:
        _save(root / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", _noise(ids.shape))
        _save(root / "gtFine/val/ulm/ulm_0_gtFine_instanceIds.png", ids, "I;16")
        dataset = CityscapesDataset(root, "val")
        sample = dataset[0]
        classes = {label: number for number, label in enumerate(CLASS_IDS, start=1)}
        values = [value for value in np.unique(ids).tolist() if value // 1000 in classes]
        assert _objects(sample) == sorted((classes[v // 1000], (ids == v).tobytes()) for v in values)
        np.testing.assert_array_equal(sample.label_map == VOID, np.isin(ids, [*VOID_IDS, *CLASS_IDS]))
        assert dataset.inspect(0).objects == len(values)


_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation → how the pixels of an upright image are stored."""


@given(
    sizes(70, least=4).flatmap(lambda size: painted(size, st.integers(1, 3), most=2)),
    sizes(40),
    st.sampled_from(sorted(_STORED)),
)
def test_a_jpeg_file_read_at_a_reduced_scale_shows_its_labels(
    ids: np.ndarray, at_least: tuple[int, int], orientation: int
) -> None:
    grey = np.where(ids > 0, 220, 30).astype(np.uint8)
    with folder() as root:
        (root / "train/images").mkdir(parents=True)
        image, exif = Image.fromarray(grey), Image.Exif()
        exif[0x0112] = orientation
        turned = _STORED[orientation]
        (image if turned is None else image.transpose(turned)).save(root / "train/images/a.jpg", quality=95, exif=exif)
        _save(root / "train/labels/a.png", ids, "L")
        dataset = FolderDataset(root, "train")
        whole, sample = dataset[0], dataset.read(0, at_least)
    assert whole.label_map.shape == ids.shape
    for one in (whole, sample):
        assert one.image.shape == (*one.label_map.shape, 3)
        _objects(one)
        # Beside an edge of an object, the decoder mixes both sides.
        near = ndimage.maximum_filter(one.label_map, 5), ndimage.minimum_filter(one.label_map, 5)
        flat = (near[0] > 0) == (near[1] > 0)
        np.testing.assert_array_equal((one.image[..., 0] > 125)[flat], (one.label_map > 0)[flat])
    sides = zip(ids.shape, sample.label_map.shape, at_least, strict=True)
    assert all(small >= min(side, least) for side, small, least in sides)
