"""Images of every usual kind become the same 8-bit RGB; everything else is refused in one line."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from rsis_tf.images import read_image
from rsis_tf.runtime import InputError, Predictor, as_image


class Tensor:
    """An object of another library that numpy converts by itself."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_uint8_rgb_is_returned_unchanged(rgb):
    assert as_image(rgb) is rgb
    np.testing.assert_array_equal(as_image(Tensor(rgb)), rgb)


def test_grey_becomes_three_equal_channels_and_alpha_is_dropped(rgb):
    grey = rgb[..., 0]
    for image in (grey, grey[..., None]):
        np.testing.assert_array_equal(as_image(image), rgb[..., [0, 0, 0]])
    rgba = np.concatenate([rgb, np.full((5, 7, 1), 3, np.uint8)], axis=2)
    np.testing.assert_array_equal(as_image(rgba), rgb)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_both_ranges(rgb, dtype):
    rgb[0, 0] = 255
    for image in (rgb.astype(dtype), (rgb / 255).astype(dtype)):
        assert np.abs(as_image(image).astype(int) - rgb).max() <= (dtype == np.float16)  # which has 11 bits
    assert as_image(np.full((2, 2), 1.0, dtype)).max() == 255  # 1 is the top of the range 0..1
    assert as_image(np.full((2, 2), 1.25, dtype)).max() == 1  # above 1, so the range is 0..255
    assert as_image(np.zeros((2, 2), dtype)).max() == 0


@pytest.mark.parametrize("top", [1, 255])
def test_floats_that_rounding_moved_out_of_their_range(top):
    """`torch.nn.functional.interpolate` and `tf.image.resize` return 1.0000002 for white."""
    beyond = np.array([[-1e-6, 0.5, 1.0000002]], np.float32) * np.float32(top)
    assert as_image(beyond)[..., 0].tolist() == [[0, 128, 255]]
    for wrong in ([-0.01, 0.5], [0, 1.01 * 255]):
        with pytest.raises(InputError, match=r"must lie in 0\.\.1 or in 0\.\.255"):
            as_image(np.array([wrong]))


def test_uint16_covers_its_whole_range():
    values = np.array([[0, 257, 65535, 128]], np.uint16)
    assert as_image(values)[..., 0].tolist() == [[0, 1, 255, 0]]
    assert as_image(values.astype(">u2"))[..., 0].tolist() == [[0, 1, 255, 0]]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_files_of_more_than_eight_bits_are_refused_because_their_range_is_unknown(tmp_path, name):
    twelve_bits = np.array([[4095, 0]], np.uint16)
    Image.fromarray(twelve_bits).save(tmp_path / name)
    with pytest.raises(InputError, match=rf"8 bits per channel .*Received: (16|32)-bit channels in .*{name}$"):
        as_image(tmp_path / name)


def test_bool_is_black_and_white():
    assert as_image(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


def test_pillow_images(rgb):
    np.testing.assert_array_equal(as_image(Image.fromarray(rgb)), rgb)
    np.testing.assert_array_equal(as_image(Image.fromarray(rgb).convert("RGBA")), rgb)
    np.testing.assert_array_equal(as_image(Image.fromarray(rgb[..., 0])), rgb[..., [0, 0, 0]])
    assert as_image(Image.fromarray(np.array([[65535, 0]], np.uint16)))[..., 0].tolist() == [[255, 0]]
    assert as_image(Image.fromarray(np.array([[1, 0.5]], np.float32)))[..., 0].tolist() == [[255, 128]]
    assert as_image(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).tolist() == [[[255, 0, 0]]]


def test_the_exif_orientation_is_applied_to_files_and_pillow_images(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(rgb, k=-1)
    for path in (tmp_path / "turned.png", str(tmp_path / "turned.png")):
        np.testing.assert_array_equal(as_image(path), upright)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(as_image(opened), upright)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        (np.zeros((8, 8, 2), np.uint8), "shape (8, 8, 2), dtype uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), "shape (1, 8, 8, 3), dtype uint8"),
        (np.zeros((0, 8, 3), np.uint8), "shape (0, 8, 3), dtype uint8"),
        (np.zeros((8, 8, 3), np.int64), "shape (8, 8, 3), dtype int64"),
        (np.zeros((8, 8, 3), complex), "shape (8, 8, 3), dtype complex128"),
        (np.full((2, 2), np.nan), "nan … nan"),
        (np.array([[0, np.nan]]), "nan … nan"),
        (np.array([[-0.1, 1]]), "-0.1 … 1"),
        (np.array([[0, 256.0]]), "0 … 256"),
        (np.array([[0, np.inf]]), "0 … inf"),
        (Tensor("no pixels"), "Tensor"),
        ([[0, 0]], "list"),
        (None, "NoneType"),
        (b"photo.png", "bytes"),
    ],
)
def test_anything_else_is_refused_in_one_line(image, received):
    with pytest.raises(InputError) as caught:
        as_image(image)
    assert ". Received: " in str(caught.value)
    assert received in str(caught.value).split(". Received: ")[1]
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-100])
    for path in (tmp_path / "missing.png", tmp_path / "text.png", tmp_path / "cut.jpg", tmp_path):
        with pytest.raises(InputError, match=f"Received: {path} ") as caught:
            as_image(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_orientation_is_a_damaged_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "whole.jpg", exif=exif)
    whole = (tmp_path / "whole.jpg").read_bytes()
    start = whole.index(b"Exif") + 6
    errors = []
    for place in range(start, start + 60):
        for value in (0, 255):
            (tmp_path / "damaged.jpg").write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                as_image(tmp_path / "damaged.jpg")
            except InputError as error:
                errors.append(str(error))
    assert errors
    assert not any("\n" in error for error in errors)


def test_a_predictor_finds_the_same_in_every_kind_of_image(toy_model, tmp_path):
    predictor = Predictor(toy_model(), batch_size=2)
    image = np.zeros((12, 16, 3), np.uint8)
    for channel, columns in enumerate((4, 6, 8)):
        image[:, :columns, channel] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    kinds = [image, image / 255, Tensor(image), Image.fromarray(image), str(tmp_path / "image.png")]
    wanted = predictor(image)
    assert len(wanted) == 3
    for found in (*map(predictor, kinds), *predictor.batch(kinds), *predictor.stream(iter(kinds))):
        np.testing.assert_array_equal(found.masks, wanted.masks)
    paths = np.array([str(tmp_path / "image.png")] * 3)
    assert [len(found) for found in predictor.batch(paths)] == [3, 3, 3]
    assert [len(found) for found in predictor.batch(np.stack([image] * 3))] == [3, 3, 3]


def test_one_image_in_place_of_several_is_refused(toy_model, tmp_path):
    predictor = Predictor(toy_model())
    for images in (Image.new("RGB", (8, 8)), "photo.png", pathlib.Path("photo.png"), np.zeros((8, 8), np.uint8)):
        with pytest.raises(InputError, match=r"^images must be a sequence of images, .*\. Received: "):
            predictor.batch(images)


@pytest.mark.parametrize("name", ["drawing.eps", "drawing.png"])
def test_postscript_is_refused_whatever_its_name(tmp_path, name):
    """Pillow would run it with Ghostscript."""
    Image.new("RGB", (8, 8)).save(tmp_path / name, "EPS")
    for read in (as_image, read_image):
        with pytest.raises(InputError, match=r"not PostScript\. Received"):
            read(tmp_path / name)
