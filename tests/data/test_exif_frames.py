"""Images with an EXIF orientation: annotations match the image that is read, or are refused."""

import json

import label_tools as tools
import numpy as np
import pytest
from PIL import Image

from rsis_tf.cli.check import main
from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.errors import InputError
from rsis_tf.images import read_header, read_image

STORED = (24, 40)  # height, width as the pixels lie in the file
TURNED = (40, 24)
BOX = (slice(4, 10), slice(6, 18))  # a bright box in the stored frame


def write(root, *, orientation, size, ring, name="a.png", stored=STORED):
    """Writes an image with a bright box, and a polygon in an image of `size` (height, width) as its annotation."""
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


def ring_around(mask):
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
def test_annotations_of_the_stored_or_the_turned_image_lie_on_their_object(tmp_path, orientation):
    config = write(tmp_path / "stored", orientation=orientation, size=STORED, ring=ring_around(stored_mask()))
    dataset = load_dataset(config, "train")
    assert dataset.inspect(0).note == "exif_stored"
    assert_under_the_box(dataset[0])
    assert dataset[0].image.shape[:2] == STORED

    shown = read_image(tmp_path / "stored/train/a.png")[..., 0] == 255
    config = write(tmp_path / "shown", orientation=orientation, size=TURNED, ring=ring_around(shown))
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


def test_the_message_about_a_wrong_size_names_the_orientation(tmp_path):
    config = write(tmp_path, orientation=6, size=(39, 23), ring=[1, 1, 5, 1, 5, 5])
    with pytest.raises(InputError, match=r"23x39.*24x40 in .*a\.png \(its EXIF orientation 6 turns the stored 40x24\)"):
        load_dataset(config, "train")[0]


def test_polygons_of_label_studio_are_scaled_to_the_turned_image(tmp_path):
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
def test_the_check_notes_images_whose_size_does_not_tell_the_orientation(tmp_path, capsys, orientation, stored):
    config = write(tmp_path, orientation=orientation, size=stored, ring=[1, 1, 5, 1, 5, 5], stored=stored)
    assert load_dataset(config, "train").inspect(0).note == "exif_unclear"
    assert main(["--dataset", "coco", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'train' / 'a.png'}: an EXIF orientation does not change the size" in out


def test_label_maps_of_the_stored_image_are_refused(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    tools.write_image(tmp_path / "train/images/a.jpg", width=40, height=24, orientation=6)
    Image.fromarray(np.ones(STORED, np.uint8)).save(tmp_path / "train/labels/a.png")
    dataset = load_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "train")
    with pytest.raises(InputError, match=r"24x40 .*EXIF orientation 6 turns the stored 40x24.*a\.png"):
        dataset.inspect(0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_the_header_agrees_with_the_pixels(tmp_path, suffix):
    tools.write_image(tmp_path / f"plain{suffix}", width=40, height=24)
    plain = read_image(tmp_path / f"plain{suffix}")
    for orientation in range(1, 9) if suffix != ".bmp" else (1,):
        path = tmp_path / f"{orientation}{suffix}"
        tools.write_image(path, width=40, height=24, orientation=orientation)
        header = read_header(path)
        assert header.size == read_image(path).shape[:2]
        assert header.stored_size == (24, 40)
        np.testing.assert_array_equal(read_image(path, as_stored=True), plain)
        assert header.orientation == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_header_of_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    tools.write_image(path, width=200, height=150)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(InputError, match=f"a{suffix}"):
        read_header(path)
