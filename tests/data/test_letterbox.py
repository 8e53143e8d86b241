"""Images that keep their shape: padded to the network's input size, and masks scaled back."""

import dataclasses
import itertools

import numpy as np
import pytest
from dataset_files import noise, sample_of
from PIL import Image, ImageDraw

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import STILL
from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.data.prepare import prepare
from rsis_tf.data.sample import PADDING, VOID
from rsis_tf.runtime import decode, letterbox, resize_image

SIZES = [(480, 640), (481, 641), (300, 97), (97, 300), (1080, 1920), (333, 333), (257, 255)]
FRAMES = [(64, 64), (128, 96), (61, 127)]


def drawn_disc(height: int, width: int) -> np.ndarray:
    """Returns (height, width) bool: a disc beside the centre, drawn by Pillow."""
    canvas = Image.new("1", (width, height))
    radius = 0.35 * min(height, width)
    x, y = 0.4 * width, 0.55 * height
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.array(canvas)


def keeping(frame: tuple[int, int], **changes) -> DataConfig:
    return DataConfig(image_size=frame, aspect="keep", max_objects=3, batch_size=2, **changes)


@pytest.mark.parametrize(
    ("source", "frame", "expected"),
    [
        ((100, 200), (64, 64), (16, 0, 32, 64)),
        ((200, 100), (64, 64), (0, 16, 64, 32)),
        ((64, 64), (64, 64), (0, 0, 64, 64)),
        ((50, 50), (32, 64), (0, 16, 32, 32)),
        ((3, 4), (10, 10), (1, 0, 8, 10)),  # 7.5 rows are rounded to 8; one of the two other rows is above
        ((1000, 1), (16, 16), (0, 7, 16, 1)),  # at least one pixel
    ],
)
def test_position_and_size_in_the_frame(source, frame, expected):
    assert letterbox(source, frame) == expected


def test_the_image_is_inside_the_frame_and_undistorted_to_half_a_pixel():
    for source in itertools.product((1, 2, 7, 33, 64, 101), repeat=2):
        for frame in itertools.product((1, 5, 32, 47), repeat=2):
            top, left, height, width = letterbox(source, frame)
            assert top >= 0 <= left
            assert top + height <= frame[0]
            assert left + width <= frame[1]
            assert height == frame[0] or width == frame[1]
            scale = min(frame[0] / source[0], frame[1] / source[1])
            assert abs(height - max(source[0] * scale, 0.5)) <= 0.5 + 1e-9
            assert abs(width - max(source[1] * scale, 0.5)) <= 0.5 + 1e-9
            assert abs(frame[0] - height - 2 * top) <= 1 >= abs(frame[1] - width - 2 * left)


@pytest.mark.parametrize("frame", [(256, 256), (320, 384), (257, 255)])
@pytest.mark.parametrize("size", SIZES)
def test_a_mask_is_restored_at_the_size_of_the_image(size, frame):
    disc = drawn_disc(*size)
    image, label_map, _, valid = prepare(sample_of(disc, [1], noise(*size)), keeping(frame), None)
    np.testing.assert_array_equal(image, resize_image(noise(*size), frame, "keep"))  # as the predictor resizes it
    assert valid.tolist() == [1, 0, 0]
    (found,) = decode(
        (label_map == 1)[None].astype(np.float32), np.array([[0.0, 1.0]]), np.ones(1), size=size, class_names=(),
        aspect="keep",
    )  # fmt: skip
    assert found.mask.shape == size
    assert (found.mask & disc).sum() / (found.mask | disc).sum() >= 0.98


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_disc_stays_round_and_the_rest_is_padding(size, frame):
    image, label_map, _, _ = prepare(sample_of(drawn_disc(*size), [1], noise(*size) | 1), keeping(frame), None)
    top, left, height, width = letterbox(size, frame)
    inside = np.zeros(frame, bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(label_map == PADDING, ~inside)
    assert not image[~inside].any()
    assert image[inside].all()
    rows, columns = np.nonzero(label_map == 1)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1


def test_the_stretched_disc_is_not_round():
    _, label_map, _, _ = prepare(sample_of(drawn_disc(100, 300), [1]), DataConfig(image_size=(64, 64)), None)
    rows, columns = np.nonzero(label_map == 1)
    assert np.ptp(rows) > 2 * np.ptp(columns)


@pytest.mark.parametrize("batches", [plain_batches, tf_batches])
@pytest.mark.parametrize("partial_sequences", [0.0, 1.0])
def test_padding_is_ignored_and_distinct_from_void(batches, partial_sequences):
    label_map = np.zeros((20, 40), np.int32)
    label_map[:, :10], label_map[:, 30:] = 1, VOID
    config = keeping((40, 40), partial_sequences=partial_sequences)
    inputs, targets = next(iter(batches([sample_of(label_map, [1])], config, training=True)))
    padding = np.ones((40, 40), bool)
    padding[10:30] = False
    void = np.zeros((40, 40), bool)
    void[10:30, 30:] = True
    for row in range(2):
        np.testing.assert_array_equal(targets["padding"][row], padding)
        np.testing.assert_array_equal(targets["ignored"][row], padding | void)
        assert np.asarray(targets["masks"])[row].sum() == 200
        assert not np.asarray(targets["masks"])[row][:, padding].any()
        if partial_sequences:
            assert not np.asarray(inputs["found"])[row][padding].any()


def test_stretched_batches_have_no_padding():
    _, targets = next(plain_batches([sample_of(np.ones((8, 8)), [1])], DataConfig(image_size=(8, 8)), training=False))
    assert "padding" not in targets


@pytest.mark.parametrize("augmentation", ["paper", "strong"])
@pytest.mark.parametrize("frame", [(48, 48), (32, 64), (47, 33)])
def test_augmented_images_have_the_same_padding(augmentation, frame):
    size = (40, 90)
    config = keeping(frame, augmentation=augmentation)
    places = {letterbox(size, frame)}
    if augmentation == "strong" and frame[0] == frame[1]:
        places.add(letterbox(size[::-1], frame))  # turned by 90 degrees
    seen = set()
    for seed in range(12):
        image, label_map, _, _ = prepare(
            sample_of(np.ones(size), [1], noise(*size)), config, np.random.default_rng(seed)
        )
        assert image.shape == (*frame, 3)
        rows, columns = np.nonzero(label_map != PADDING)
        seen.add((rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1))
        assert not image[label_map == PADDING].any()
        if augmentation == "paper":  # "strong" changes the colours, of what the warp uncovers too
            np.testing.assert_array_equal(image.any(axis=-1), label_map == 1)
    assert seen == places


def test_image_and_labels_are_turned_together():
    # Four corners of four brightnesses; in any turn, the labels turn with the image.
    labels = np.zeros((20, 40), np.int32)
    labels[:10, :20], labels[:10, 20:], labels[10:, :20], labels[10:, 20:] = 1, 2, 3, 4
    image = np.repeat((labels * 50).astype(np.uint8)[..., None], 3, -1)
    config = dataclasses.replace(keeping((40, 40)), max_objects=4)
    turning = dataclasses.replace(STILL, quarter_turns=True)
    shapes = set()
    for seed in range(8):
        warped, label_map, classes, _ = prepare(
            sample_of(labels, [1, 2, 3, 4], image), config, np.random.default_rng(seed), turning
        )
        for number in range(1, 5):
            assert (warped[label_map == number] == 50 * classes[number - 1]).mean() > 0.99
        # Clockwise from 1, the corners are 1, 2, 4, 3 after every turn.
        corners = warped[[15, 15, 25, 25], [15, 25, 25, 15], 0] // 50
        start = corners.tolist().index(1)
        assert np.roll(corners, -start).tolist() == [1, 2, 4, 3]
        shapes.add((label_map[:, 20] == PADDING).any())
    assert shapes == {True, False}
