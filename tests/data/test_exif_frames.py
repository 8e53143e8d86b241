"""Images with an EXIF orientation and annotations in one frame or the other are never read crooked in silence."""

import json

import label_tools as tools
import numpy as np
import pytest
from PIL import Image

from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.check import main
from rsis_tf.errors import InputError
from rsis_tf.images import read_header, read_image

STORED = (24, 40)  # height, width as the pixels lie in the file
TURNED = (40, 24)
BOX = (slice(4, 10), slice(6, 18))  # a bright box in the stored frame


def write(root, *, orientation, size, ring, name="a.png", stored=STORED):
    """One image with a bright box and an annotation around it, in a frame of a size (height, width)."""
    pixels = np.zeros((*stored, 3), np.uint8)
    pixels[BOX] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "train").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "train" / name, exif=exif.tobytes())
    content = {
        "images": [{"id": 1, "file_name": name, "height": size[0], "width": size[1]}],
        "annotations": [{"id": 8, "image_id": 1, "category_id": 1, "segmentation": [ring], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "box"}],
    }
    (root / "train.json").write_text(json.dumps(content), encoding="utf-8")
    return DataConfig(dataset="coco", root=str(root))


def ring_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return [left, top, right, top, right, bottom, left, bottom]


def stored_mask(stored=STORED):
    mask = np.zeros(stored, bool)
    mask[BOX] = True
    return mask


def assert_under_the_box(sample):
    assert sample.classes.tolist() == [1]
    np.testing.assert_array_equal(sample.label_map == 1, sample.image[..., 0] == 255)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_in_either_frame_lie_on_their_object(tmp_path, orientation):
    config = write(tmp_path / "stored", orientation=orientation, size=STORED, ring=ring_of(stored_mask()))
    dataset = load_dataset(config, "train")
    assert dataset.inspect(0).note == "exif_stored"
    assert_under_the_box(dataset[0])
    assert dataset[0].image.shape[:2] == STORED

    shown = read_image(tmp_path / "stored/train/a.png")[..., 0] == 255
    config = write(tmp_path / "shown", orientation=orientation, size=TURNED, ring=ring_of(shown))
    dataset = load_dataset(config, "train")
    assert dataset.inspect(0).note == ""
    assert_under_the_box(dataset[0])
    assert dataset[0].image.shape[:2] == TURNED


def test_polygons_of_the_turned_image_beside_the_stored_size_are_refused(tmp_path):
    ring = [4, 26, 10, 26, 10, 38, 4, 38]  # in 24x40, not in 40x24
    config = write(tmp_path, orientation=6, size=STORED, ring=ring)
    for read in (lambda dataset: dataset[0], lambda dataset: dataset.inspect(0)):
        with pytest.raises(InputError, match=r"EXIF orientation 6.*annotation 8 of .*train\.json.*a\.png"):
            read(load_dataset(config, "train"))


def test_another_size_names_the_orientation(tmp_path):
    config = write(tmp_path, orientation=6, size=(39, 23), ring=[1, 1, 5, 1, 5, 5])
    with pytest.raises(InputError, match=r"23x39.*24x40 in .*a\.png \(its EXIF orientation 6 turns the stored 40x24\)"):
        load_dataset(config, "train")[0]


def test_label_studio_writes_the_stored_size_beside_polygons_of_the_displayed_image(tmp_path):
    tools.label_studio(tmp_path, orientation=6, suffix=".jpg")
    dataset = load_dataset(DataConfig(dataset="coco", root=str(tmp_path)), "all")
    assert dataset.inspect(0).note == "exif_scaled"
    sample = dataset[0]
    assert sample.image.shape[:2] == (tools.HEIGHT, tools.WIDTH)
    assert sample.classes.tolist() == [1, 2]
    assert (sample.label_map[3:23, 2:22] == 1).all()
    assert (sample.label_map == 1).sum() == tools.LARGE_AREA
    assert (sample.label_map[5:15, 30:40] == 2).all()
    assert (sample.label_map == 2).sum() == tools.SMALL_AREA


@pytest.mark.parametrize(("orientation", "stored"), [(3, STORED), (6, (24, 24))])
def test_where_the_size_cannot_tell_the_check_says_so(tmp_path, capsys, orientation, stored):
    config = write(tmp_path, orientation=orientation, size=stored, ring=[1, 1, 5, 1, 5, 5], stored=stored)
    assert load_dataset(config, "train").inspect(0).note == "exif_unclear"
    assert main(["--dataset", "coco", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'train' / 'a.png'}: an EXIF orientation leaves the size as it is" in out


def test_label_maps_of_the_stored_frame_are_refused_with_the_orientation(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    tools.picture(tmp_path / "train/images/a.jpg", width=40, height=24, orientation=6)
    Image.fromarray(np.ones(STORED, np.uint8)).save(tmp_path / "train/labels/a.png")
    dataset = load_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "train")
    with pytest.raises(InputError, match=r"24x40 .*EXIF orientation 6 turns the stored 40x24.*a\.png"):
        dataset.inspect(0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_the_header_says_what_reading_gives(tmp_path, suffix):
    tools.picture(tmp_path / f"plain{suffix}", width=40, height=24)
    plain = read_image(tmp_path / f"plain{suffix}")
    for orientation in range(1, 9) if suffix != ".bmp" else (1,):
        path = tmp_path / f"{orientation}{suffix}"
        tools.picture(path, width=40, height=24, orientation=orientation)
        header = read_header(path)
        assert header.size == read_image(path).shape[:2]
        assert header.stored_size == (24, 40)
        np.testing.assert_array_equal(read_image(path, as_stored=True), plain)
        assert header.orientation == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_header_of_a_file_that_was_cut_off_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    tools.picture(path, width=200, height=150)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(InputError, match=f"a{suffix}"):
        read_header(path)
