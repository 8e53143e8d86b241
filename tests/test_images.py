"""Images that 8-bit RGB can show are read; everything else is refused in one line that names the file."""

import base64
import functools
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from rsis_tf.errors import InputError
from rsis_tf.images import list_images, read_header, read_image, read_label_image, read_reduced, synthetic_image
from rsis_tf.runtime import as_image


def png_of(header: tuple[int, ...], data: bytes) -> bytes:
    """A PNG file of the given header (width, height, depth, colour type, 0, 0, interlace) and data of its rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    palette = chunk(b"PLTE", bytes(range(48)))
    packed = zlib.compress(data)
    parts = [chunk(b"IDAT", packed[start : start + 30]) for start in range(0, len(packed), 30)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return b"\x89PNG\r\n\x1a\n" + head + (palette if header[3] == 3 else b"") + b"".join(parts) + chunk(b"IEND", b"")


def write_png(path, colour_type: int, channels: int, depth: int) -> None:
    """A 2x2 PNG of any kind; Pillow itself writes no 16-bit colour."""
    rows = (b"\0" + b"\x12" * (2 * channels * depth // 8)) * 2
    path.write_bytes(png_of((2, 2, depth, colour_type, 0, 0, 0), rows))


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def assert_refused(read, path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), "expected", "Received", *words):
        assert word in message


def test_rgb_is_read_unchanged(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, rgb)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_greyscale_becomes_three_equal_channels(tmp_path, rgb, ending):
    Image.fromarray(rgb[..., 0]).save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_image(str(tmp_path / f"a.{ending}")), rgb[..., [0, 0, 0]])


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[255] * 3, [0] * 3]])


def test_transparency_is_dropped_not_blended(tmp_path, rgb):
    alpha = np.full((5, 7, 1), 3, np.uint8)
    Image.fromarray(np.concatenate([rgb, alpha], -1)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)
    Image.fromarray(np.concatenate([rgb[..., :1], alpha], -1), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), rgb[..., [0, 0, 0]])


def test_palette_gives_its_colours(tmp_path):
    stored = Image.fromarray(np.array([[0, 1]], np.uint8))
    stored.putpalette([10, 20, 30, 40, 50, 60])
    stored.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[10, 20, 30], [40, 50, 60]]])


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.full((3, 4, 3), (255, 0, 0)))


def test_the_exif_orientation_turns_the_image(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(rgb, k=-1))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_refused(tmp_path, colour_type, channels):
    write_png(tmp_path / "eight.png", colour_type, channels, 8)
    assert read_image(tmp_path / "eight.png").shape == (2, 2, 3)
    write_png(tmp_path / "sixteen.png", colour_type, channels, 16)
    assert_refused(read_image, tmp_path / "sixteen.png", "16-bit")


def test_a_bmp_of_16_bits_per_pixel_is_read(tmp_path):
    """BITMAPINFOHEADER with BI_BITFIELDS: 5 bits of red, 6 of green and 5 of blue, as embedded cameras write them."""
    red, green, blue = 0xF800, 0x07E0, 0x001F
    pixels = struct.pack("<4H", red, green, blue, 0)  # rows from the bottom
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<III", red, green, blue)
    start = 14 + len(header)
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels)
    expected = [[[0, 0, 255], [0, 0, 0]], [[255, 0, 0], [0, 255, 0]]]
    assert read_image(path).tolist() == expected
    assert as_image(path).tolist() == expected


@pytest.mark.parametrize(("largest", "refused"), [(15, False), (255, False), (1023, True), (65535, True)])
def test_a_colour_ppm_of_more_than_eight_bits_is_refused(tmp_path, largest, refused):
    data = bytes(range(12)) if largest < 256 else bytes(24)
    (tmp_path / "a.ppm").write_bytes(b"P6\n2 2\n%d\n" % largest + data)
    if refused:
        assert_refused(read_image, tmp_path / "a.ppm", "16-bit")
    else:
        assert read_image(tmp_path / "a.ppm").shape == (2, 2, 3)


_DEEP_JP2 = """
AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAAgAAAAIAAw8HAAAAAAAPY29scgEAAAAAABAAAACTanAyY/9P
/1EALwAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAAw8BAQ8BAQ8BAf9SAAwAAAABAQAEBAAB/1wABECA/2QAJQABQ3JlYXRlZCBieSBP
cGVuSlBFRyB2ZXJzaW9uIDIuNS40/5AACgAAAAAAGwAB/5Pf+JA4B4FXXHf8l4CA/9k=
"""
"""2×2 pixels of colour with 12-bit values in 16 bits, written by OpenJPEG 2.5.4; Pillow reads 4095 as 16 of 255."""


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
def test_a_colour_jpeg_2000_file_of_16_bits_is_refused(tmp_path, name):
    content = base64.b64decode(_DEEP_JP2)
    path = tmp_path / name
    path.write_bytes(content if name == "a.jp2" else content[content.index(b"\xff\x4f") :])
    for read in (read_image, as_image, read_header):
        assert_refused(read, path, "16-bit")


def test_a_jpeg_2000_file_may_have_boxes_around_its_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jp2")
    content = (tmp_path / "a.jp2").read_bytes()

    def box(size: int) -> bytes:
        return struct.pack(">I", size + 8) + b"free" + b"\xff\xd9" * (size // 2)

    start = content.index(b"jp2c") - 4
    (tmp_path / "boxes.jp2").write_bytes(content[:start] + box(100) + content[start:] + box(9000))
    np.testing.assert_array_equal(read_image(tmp_path / "boxes.jp2"), read_image(tmp_path / "a.jp2"))
    (tmp_path / "cut.jp2").write_bytes(content[:start] + box(100) + content[start:-200])
    assert_refused(read_image, tmp_path / "cut.jp2")


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    assert_refused(read_image, tmp_path / "a.tif", "32-bit")


@pytest.mark.parametrize("read", [read_image, read_label_image])
def test_files_that_are_not_images_are_refused(tmp_path, read):
    assert_refused(read, tmp_path / "missing.png", "no such file")
    assert_refused(read, tmp_path)
    (tmp_path / "empty.png").touch()
    assert_refused(read, tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not an image")
    assert_refused(read, tmp_path / "text.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp", "gif"])
def test_truncated_files_are_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = tmp_path / f"whole.{ending}"
    Image.fromarray(noise).save(whole)
    assert read_image(whole).shape == (64, 64, 3)
    for share in (0.1, 0.5, 0.9):
        cut = tmp_path / f"cut.{ending}"
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        assert_refused(read_image, cut)


def pages(number):
    return [Image.fromarray(np.full((4, 6, 3), 40 * (page + 1), np.uint8)) for page in range(number)]


@pytest.mark.parametrize("read", [read_image, as_image, functools.partial(read_image, as_stored=True)])
@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png"])
def test_of_several_pages_the_first_is_read_with_a_warning(tmp_path, read, ending):
    first, *others = pages(3)
    options = {"lossless": True} if ending == "webp" else {}
    first.save(tmp_path / f"stack.{ending}", save_all=True, append_images=others, **options)
    with pytest.warns(UserWarning, match=rf"only the first of the 3 pages of .*stack\.{ending} is read"):
        image = read(tmp_path / f"stack.{ending}")
    assert np.abs(image.astype(int) - 40).max() <= 4  # a GIF chooses its colours


@pytest.mark.parametrize("read", [read_image, as_image])
def test_smaller_versions_and_the_further_images_of_a_phone_are_no_pages(tmp_path, read):
    first, second = pages(2)
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "pyramid.tif"), True) as file:
        first.save(file, format="TIFF")
        file.newFrame()
        second.resize((3, 2)).save(file, format="TIFF", tiffinfo={254: 1})
    with Image.open(tmp_path / "pyramid.tif") as image:
        assert image.n_frames == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("phone.jpg", "pyramid.tif"):
            assert np.abs(read(tmp_path / name).astype(int) - 40).max() <= 1


def test_label_images_give_indices_and_sixteen_bits(tmp_path):
    ids = np.array([[0, 1], [7, 255]], np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_label_image(tmp_path / "palette.png"), ids)
    wide = np.array([[0, 24000], [33012, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    labels = read_label_image(tmp_path / "wide.png")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, wide)


def tiff_of(rows: list[bytes], *, width: int, bits: int, photometric: int) -> bytes:
    """A TIFF file as ImageJ's `TiffEncoder` writes it: big-endian, one strip; photometric 0 shows 0 as white."""
    data = b"".join(rows)
    tags = {254: 0, 256: width, 257: len(rows), 258: bits, 259: 1, 262: photometric, 277: 1, 278: len(rows)}
    tags |= {273: 8, 279: len(data)}
    start = 8 + len(data) + len(data) % 2
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"MM\0*" + struct.pack(">I", start) + data.ljust(start - 8, b"\0")
    return head + struct.pack(">H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    ("bits", "rows", "ids"),
    [
        (8, [b"\0\1\2\7", b"\xff\0\0\5"], [[0, 1, 2, 7], [255, 0, 0, 5]]),
        (4, [b"\x01\x27", b"\xf0\x05"], [[0, 1, 2, 7], [15, 0, 0, 5]]),
        (2, [b"\x1b", b"\xc1"], [[0, 1, 2, 3], [3, 0, 0, 1]]),
        (1, [b"\x50", b"\x80"], [[0, 1, 0, 1], [1, 0, 0, 0]]),
    ],
)
def test_label_tiffs_give_the_stored_values_even_if_zero_is_shown_as_white(tmp_path, photometric, bits, rows, ids):
    (tmp_path / "a.tif").write_bytes(tiff_of(rows, width=4, bits=bits, photometric=photometric))
    assert read_label_image(tmp_path / "a.tif").tolist() == ids


@pytest.mark.parametrize("photometric", [0, 1])
def test_in_a_mask_with_fax_compression_white_is_one(tmp_path, photometric):
    mask = np.array([[True, False, False]])
    Image.fromarray(mask).save(tmp_path / "a.tif", compression="group4", tiffinfo={262: photometric})
    assert read_label_image(tmp_path / "a.tif").tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("bits", "row", "ids"), [(1, b"\x50", [0, 1, 0, 1]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x2f", [0, 1, 2, 15])]
)
@pytest.mark.parametrize("colour_type", [0, 3])
def test_label_pngs_of_few_bits_give_the_stored_values(tmp_path, bits, row, ids, colour_type):
    # OpenCV, ImageMagick and optipng store a label map of few ids with as few bits.
    (tmp_path / "a.png").write_bytes(png_of((4, 1, bits, colour_type, 0, 0, 0), b"\0" + row))
    assert read_label_image(tmp_path / "a.png").tolist() == [ids]


def test_of_a_label_stack_the_first_page_is_read_with_a_warning(tmp_path):
    first, *others = (Image.fromarray(np.full((4, 6), number, np.uint8)) for number in (1, 2, 3))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    with pytest.warns(UserWarning, match=r"only the first of the 3 pages of .*stack\.tif is read"):
        ids = read_label_image(tmp_path / "stack.tif")
    assert (ids == 1).all()


def test_label_images_with_colours_or_huge_ids_are_refused(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    assert_refused(read_label_image, tmp_path / "rgb.png", "mode RGB")
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "huge.tif")
    assert_refused(read_label_image, tmp_path / "huge.tif", "70000")


def test_images_of_a_folder_are_listed_by_suffix_without_hidden_files(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.PNG", "a.jpeg", "notes.txt", ".hidden.png", "below/c.tif"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.jpeg", "b.PNG", "c.tif"]


def test_linked_folders_are_listed_once_and_circles_of_links_end(tmp_path):
    for name in ("set/z/a.png", "set/.hidden.png", "elsewhere/deep/b.png", "elsewhere/.c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set/again").symlink_to(tmp_path / "set/z", target_is_directory=True)
    (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set/lost").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path / "set", recursive=True)]
    assert found == ["set/linked/deep/b.png", "set/z/a.png"]
    (tmp_path / "whole").symlink_to(tmp_path / "set", target_is_directory=True)
    assert len(list_images(tmp_path / "whole", recursive=True)) == 2


def test_a_synthetic_image_depends_on_size_and_seed_alone():
    image = synthetic_image((20, 30), 1)
    assert (image.shape, image.dtype) == ((20, 30, 3), np.uint8)
    np.testing.assert_array_equal(image, synthetic_image((20, 30), 1))
    assert (image != synthetic_image((20, 30), 2)).any()
    assert image.std() > 10


def test_a_small_png_that_announces_thousands_of_rows_is_refused(tmp_path):
    """Its compressed data ends properly after 3 of 13,000 rows; Pillow returns black for the others."""
    path = tmp_path / "a.png"
    path.write_bytes(png_of((100, 13_000, 8, 2, 0, 0, 0), (b"\0" + b"\x7f" * 300) * 3))
    assert path.stat().st_size < 150
    for read in (read_image, read_header, lambda path: read_reduced(path, None)):
        assert_refused(read, path, "rows of pixels are missing")
    path.write_bytes(png_of((100, 13_000, 8, 0, 0, 0, 0), (b"\0" + b"\x01" * 100) * 3))
    assert_refused(read_label_image, path, "rows of pixels are missing")


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 17), (3, 2), (1200, 1100)])
@pytest.mark.parametrize(("colour_type", "bits"), [(0, 1), (0, 8), (3, 4), (2, 24), (6, 32)])
@pytest.mark.parametrize("interlace", [0, 1])
def test_a_black_png_is_whole_and_refused_if_one_byte_is_missing(tmp_path, size, colour_type, bits, interlace):
    width, height = size
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for x, y, right, down in passes if interlace else [(0, 0, 1, 1)]:
        columns, rows = len(range(x, width, right)), len(range(y, height, down))
        data += bytes(1 + (columns * bits + 7) // 8) * rows if columns else b""
    depth = {1: 1, 4: 4}.get(bits, 8)
    path = tmp_path / "a.png"
    path.write_bytes(png_of((width, height, depth, colour_type, 0, 0, interlace), data))
    assert read_image(path).shape == (height, width, 3)
    path.write_bytes(png_of((width, height, depth, colour_type, 0, 0, interlace), data[:-1]))
    assert_refused(read_image, path)


def test_postscript_is_not_run(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    assert_refused(read_image, path, "PostScript")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0.png", "\ud800.png", "\x1b[31m.png"])
def test_names_that_no_file_has_are_refused_in_one_printable_line(tmp_path, name):
    with pytest.raises(InputError, match="no such file") as caught:
        read_image(tmp_path / name)
    assert str(caught.value).isprintable()
