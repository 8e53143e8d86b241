import dataclasses
import warnings

import numpy as np
import pytest
from PIL import Image

from rsis_tf.errors import InputError
from rsis_tf.runtime import CroppedMask, Instance
from rsis_tf.visualization import (
    PALETTE,
    animation,
    colour,
    curves,
    overlay,
    sequence_strip,
    sequences_sheet,
    write_image,
)
from rsis_tf.visualization.curves import read_log
from rsis_tf.visualization.drawing import outline, resize_mask


def disc(size, centre, radius):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def instance(mask, step=0, name="cell"):
    return Instance(
        mask=mask,
        class_id=1,
        class_name=name,
        score=0.87,
        step=step,
        objectness=0.9,
        class_probs=np.array([0.03, 0.97], np.float32),
    )


def scene(size, count):
    rng = np.random.default_rng(0)
    image = np.full((*size, 3), 128, np.uint8)
    return image, [
        instance(disc(size, rng.integers(0, size), max(2, min(size) // 10)), step, f"class {step}")
        for step in range(count)
    ]


def seen_as(colours, matrix):
    """OKLab of colours as seen with a colour vision deficiency (Machado et al., 2009)."""
    values = np.array(colours) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(matrix).T, 0, 1)
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_lms).T) @ np.array(to_lab).T


SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("sight", SIGHT)
def test_twenty_colours_differ_for_every_colour_vision(sight):
    assert len(PALETTE) == 20
    lab = seen_as(PALETTE, SIGHT[sight])
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 9 * np.eye(20)
    assert distance.min() > 0.05  # the eye tells 0.02 apart side by side
    assert distance[np.arange(19), np.arange(1, 20)].min() > 0.09  # one after the other more than any two


def test_colours_repeat_after_twenty():
    assert colour(3) == colour(23) == PALETTE[3]


@pytest.mark.parametrize("size", [(64, 64), (48, 300), (256, 256), (512, 700)])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_overlay_keeps_its_input_and_enlarges_small_images(size, count):
    image, instances = scene(size, count)
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = overlay(image, instances, legend=False, route=True)
        with_legend = overlay(image, instances)
    assert (image == before).all()
    assert plain.dtype == np.uint8
    assert max(plain.shape) >= 512
    assert plain.shape[0] % size[0] == plain.shape[1] % size[1] == 0
    assert with_legend.shape[0] == plain.shape[0]
    assert with_legend.shape[1] > plain.shape[1]


def test_overlay_tints_the_mask_in_the_colour_of_the_step_and_nothing_else():
    image = np.full((600, 600, 3), 100, np.uint8)
    result = overlay(image, [instance(disc((600, 600), (300, 300), 100), step=5)], legend=False, numbers=False)
    expected = np.rint(0.6 * 100 + 0.4 * np.array(PALETTE[5]))
    assert result[300, 300] == pytest.approx(expected, abs=1)
    assert tuple(result[300, 201]) == PALETTE[5]  # the outline
    assert (result[20, 20] == 100).all()


def test_shared_pixels_have_the_tint_of_the_earlier_mask():
    image = np.full((600, 600, 3), 100, np.uint8)
    masks = [disc((600, 600), (300, 250), 100), disc((600, 600), (300, 350), 100)]
    result = overlay(image, [instance(m, s) for s, m in enumerate(masks)], legend=False, numbers=False)
    assert result[300, 300] == pytest.approx(np.rint(60 + 0.4 * np.array(PALETTE[0])), abs=1)


def test_legend_and_route_are_drawn():
    image, instances = scene((600, 600), 3)
    plain = overlay(image, instances, legend=False)
    routed = overlay(image, instances, legend=False, route=True)
    assert (routed != plain).any()
    for object_ in instances:
        assert (overlay(image, instances)[:, 600:] == np.array(colour(object_.step))).all(-1).any()


def test_outline_follows_the_border_of_the_image():
    image = np.zeros((20, 20, 3), np.uint8)
    outline(image, CroppedMask.of(np.ones((20, 20), bool)), (255, 0, 0), 2)
    red = image[..., 0] == 255
    assert red[:2].all()
    assert red[:, -2:].all()
    assert not red[2:-2, 2:-2].any()


def test_an_object_of_one_pixel_survives_any_resizing():
    mask = np.zeros((1024, 2048), bool)
    mask[500, 700] = True
    assert resize_mask(mask, (128, 256)).area
    assert resize_mask(np.eye(8, dtype=bool), (64, 64)).area
    assert not resize_mask(np.zeros((64, 64), bool), (16, 16)).area


def test_strip_has_panels_for_the_image_each_step_all_masks_and_the_truth():
    image, instances = scene((64, 64), 4)
    widths = [sequence_strip(image, instances[:n], columns=99).shape[1] for n in (0, 1, 4)]
    panel = widths[1] - widths[0]
    assert widths[2] - widths[1] == 3 * panel
    with_truth = sequence_strip(image, instances[:4], np.zeros((64, 64), np.int32), columns=99)
    assert with_truth.shape[1] - widths[2] == panel
    assert panel > 190
    wrapped = sequence_strip(image, instances, columns=3)
    assert wrapped.shape[0] > 2 * panel
    assert wrapped.shape[1] < 4 * panel


def test_a_true_object_has_the_colour_of_the_step_that_found_it_or_is_white():
    truth = np.zeros((64, 64), np.int32)
    truth[4:28, 4:60], truth[36:60, 4:60] = 1, 2
    strip = sequence_strip(np.zeros((64, 64, 3), np.uint8), [instance(truth == 2, step=7)], truth, columns=9)
    panel = strip[: strip.shape[0] - 30, -220:]  # the last one, without its caption
    upper, lower = panel[: len(panel) // 2], panel[len(panel) // 2 :]
    assert (lower == np.array(PALETTE[7])).all(-1).any()
    assert not (upper == np.array(PALETTE[7])).all(-1).any()


def test_sheet_stacks_strips_of_different_widths():
    image, instances = scene((64, 64), 3)
    strips = [sequence_strip(image, instances[:n]) for n in (1, 3)]
    sheet = sequences_sheet([("first", strips[0]), ("second", strips[1])])
    assert sheet.shape[1] == strips[1].shape[1]
    assert sheet.shape[0] > strips[0].shape[0] + strips[1].shape[0]
    with pytest.raises(InputError, match="none"):
        sequences_sheet([])


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("size", [(32, 48), (700, 900)])
def test_animation_has_a_frame_for_each_object_between_the_image_and_the_result(tmp_path, suffix, size):
    image, instances = scene(size, 3)
    path = tmp_path / f"sequence{suffix}"
    animation(path, image, instances)
    with Image.open(path) as film:
        assert film.n_frames == 5
        assert 320 <= max(film.size) <= 700
        assert film.info["loop"] == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_of_very_many_objects_a_hundred_steps_are_shown(tmp_path):
    image, instances = scene((32, 48), 1)
    many = [dataclasses.replace(instances[0], step=step) for step in range(250)]
    animation(tmp_path / "many.webp", image, many)
    with Image.open(tmp_path / "many.webp") as film:
        assert film.n_frames <= 102
    tall = sequence_strip(image, many).shape[0]
    assert tall == sequence_strip(image, many[:100]).shape[0]


def test_wrong_names_and_images_are_refused(tmp_path):
    image, instances = scene((32, 32), 1)
    with pytest.raises(InputError, match=r"film\.mp4"):
        animation(tmp_path / "film.mp4", image, instances)
    with pytest.raises(InputError, match=r"image\.xyz"):
        write_image(tmp_path / "image.xyz", image)
    for wrong in (image[..., 0], image.astype(np.float32), image[:0], [[1]]):
        for draw in (overlay, sequence_strip):
            with pytest.raises(InputError, match="Received"):
                draw(wrong, instances)
    assert list(tmp_path.iterdir()) == []


def test_label_maps_keep_their_values(tmp_path):
    labels = np.arange(300, dtype=np.uint16).reshape(10, 30)
    write_image(tmp_path / "labels.png", labels)
    assert (np.asarray(Image.open(tmp_path / "labels.png")) == labels).all()
    with pytest.raises(InputError, match=r"labels\.jpg"):
        write_image(tmp_path / "labels.jpg", labels)


LOG = "epoch,loss,val_loss,val_ap50,note\n1,2.0,2.5,,a\n2,1.0,1.5,0.4,b\n"


def test_curves_have_a_panel_for_each_quantity(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    assert list(read_log(tmp_path / "log.csv")) == ["epoch", "loss", "val_loss", "val_ap50"]
    curves(tmp_path / "log.csv", tmp_path / "curves.png")
    two = Image.open(tmp_path / "curves.png").size
    (tmp_path / "log.csv").write_text("epoch,loss\n1,2.0\n")
    curves(tmp_path / "log.csv", tmp_path / "curves.png")
    assert two[0] == 2 * Image.open(tmp_path / "curves.png").size[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "log.csv"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "epoch,loss\n", None])
def test_files_that_are_not_logs_are_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=r"log\.csv"):
        curves(tmp_path / "log.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_mask_is_enlarged_within_its_box_as_the_whole_image_would_be():
    mask = np.zeros((20, 30), bool)
    mask[0:4, 3:9] = mask[10:19, 20:30] = True
    for part in (mask, mask & (np.arange(30) < 15), mask & (np.arange(30) > 15)):
        whole = Image.fromarray(part.astype(np.uint8) * 255).resize((90, 60), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resize_mask(part, (60, 90)).full(), np.asarray(whole) >= 128)


@pytest.mark.parametrize(("before", "after"), [((47, 61), (20, 24)), ((47, 61), (90, 100)), ((61, 30), (24, 40))])
def test_a_mask_is_resized_within_its_surroundings_as_the_whole_image_would_be(before, after, monkeypatch):
    mask = np.zeros(before, bool)
    mask[0:4, 3:9] = mask[10:19, 20:29] = mask[-6:, -5:] = True
    method = Image.Resampling.BOX if after[0] < before[0] else Image.Resampling.BICUBIC
    columns = np.arange(before[1])
    for part in (mask, mask & (columns < 15), mask & (columns > 15) & (columns < 29)):
        whole = Image.fromarray(part.astype(np.uint8) * 255).resize(after[::-1], method)
        with monkeypatch.context() as patched:
            patched.setattr(CroppedMask, "full", None)  # of thousands of objects of a slide, each would take a while
            resized = resize_mask(part, after)
        np.testing.assert_array_equal(resized.full(), np.asarray(whole) >= 128)
