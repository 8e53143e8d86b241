"""Random warps and colours of training images."""

import dataclasses
import math

import numpy as np
import pytest
from dataset_files import noise
from scipy import ndimage

from rsis_tf.config import DataConfig
from rsis_tf.config.presets import PRESETS
from rsis_tf.data import augment
from rsis_tf.data.augment import (
    AUGMENTATIONS,
    STILL,
    Augmentation,
    augmentation_of,
    jitter_colour,
    quarter_turns,
    random_matrix,
)
from rsis_tf.data.sample import VOID
from rsis_tf.data.warp import quarter_turn_matrix, resize_matrix, warp_image, warp_labels
from rsis_tf.errors import InputError


def matrix(size=(8, 12), seed=0, **changes) -> np.ndarray:
    return random_matrix(size, dataclasses.replace(STILL, **changes), np.random.default_rng(seed))


def randomly_turned(image: np.ndarray, seed: int) -> bytes:
    size = image.shape[:2]
    turns = quarter_turns(size, np.random.default_rng(seed))
    return warp_image(image, quarter_turn_matrix(size, turns), size).tobytes()


def test_a_seed_gives_the_values_of_earlier_versions():
    drawn = random_matrix((40, 60), AUGMENTATIONS["strong"], np.random.default_rng(7))
    expected = [
        [0.6853793076810449, -0.24479325856225903, 18.817127285568976],
        [0.19508738606806786, 0.7090140909449952, -3.9907809644173433],
        [0.0, 0.0, 1.0],
    ]
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
    changed = jitter_colour(image, AUGMENTATIONS["strong"], np.random.default_rng(7))
    np.testing.assert_allclose(changed[1, :2].astype(int), [[49, 56, 61], [65, 71, 77]], atol=1)


def test_a_warp_added_to_the_table_is_applied_and_leaves_the_other_draws_as_they_are(monkeypatch):
    before = matrix((8, 12), rotation=10, zoom=(0.5, 2))

    def upside_down(size, augmentation, rng):
        rng.uniform()
        return np.diag([1.0, -1.0, 1.0])

    monkeypatch.setattr(augment, "WARPS", (*augment.WARPS, upside_down))
    about_the_centre = np.array([[1, 0, 0], [0, -1, 8], [0, 0, 1]])
    np.testing.assert_allclose(matrix((8, 12), rotation=10, zoom=(0.5, 2)), before @ about_the_centre, atol=1e-12)


def test_without_ranges_nothing_changes():
    image = noise(8, 12)
    np.testing.assert_array_equal(matrix(), np.eye(3))
    np.testing.assert_array_equal(warp_image(image, matrix(), (8, 12)), image)


def test_a_flip_mirrors_image_and_labels():
    image, labels = noise(8, 12), np.arange(96, dtype=np.int32).reshape(8, 12)
    np.testing.assert_array_equal(warp_image(image, matrix(flip=1), (8, 12)), image[:, ::-1])
    np.testing.assert_array_equal(warp_labels(labels, matrix(flip=1), (8, 12)), labels[:, ::-1])


def test_a_shift_by_whole_pixels_moves_image_and_labels_and_leaves_black_background():
    image, labels = noise(8, 12) | 1, np.ones((8, 12), np.int32)
    shift = np.eye(3)
    shift[:2, 2] = (3, -2)  # shows what was 3 to the right and 2 above
    moved, moved_labels = warp_image(image, shift, (8, 12)), warp_labels(labels, shift, (8, 12))
    np.testing.assert_array_equal(moved[2:, :9], image[:-2, 3:])
    np.testing.assert_array_equal(moved_labels[2:, :9], 1)
    assert not moved[:2].any()
    assert not moved[:, 9:].any()
    assert moved_labels.sum() == 6 * 9


def test_zoom_below_one_enlarges():
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    assert warp_labels(labels, matrix((40, 40), zoom=(0.5, 0.5)), (40, 40)).sum() == 40 * 40


def test_draws_stay_in_their_ranges():
    height, width = 100, 200
    angles, shifts, areas = [], [], []
    for seed in range(300):
        turn = matrix((height, width), seed, rotation=10)
        angles.append(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))
        np.testing.assert_allclose(turn @ [100, 50, 1], [100, 50, 1])  # about the centre
        move = matrix((height, width), seed, translation=0.1)
        shifts.append(move[:2, 2] / (width, height))
        areas.append(np.linalg.det(matrix((height, width), seed, zoom=(0.7, 1.0))))
    assert -10 <= min(angles) < -8
    assert 8 < max(angles) <= 10
    assert np.all(np.abs(shifts) <= 0.1)
    assert np.all(np.abs(shifts).max(0) > 0.08)
    assert 0.49 <= min(areas) < 0.6
    assert 0.9 < max(areas) <= 1


def test_labels_are_never_blended_and_void_stays_void():
    labels = np.full((64, 64), VOID, np.int32)
    labels[16:48, 16:48] = 5
    warped = warp_labels(labels, matrix((64, 64), rotation=10, shear=0.1, zoom=(0.7, 1.0)), (48, 48))
    assert set(np.unique(warped)) == {VOID, 5}


def test_shrinking_averages_pixels():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(board.astype(np.uint8)[..., None], 3, -1)
    small = warp_image(image, resize_matrix((64, 64), (16, 16)), (16, 16))
    np.testing.assert_allclose(small, 127.5, atol=1)


def test_enlarging_keeps_the_corners_in_place():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 200
    large = warp_image(image, resize_matrix((4, 4), (16, 16)), (16, 16))
    assert large[1, 1].tolist() == [200] * 3
    assert not large[8:, 8:].any()


def test_colour_jitter():
    image = noise(16, 16)
    rng = np.random.default_rng(0)
    assert jitter_colour(image, Augmentation(), rng) is image
    changed = jitter_colour(image, Augmentation(colour=0.3), rng)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)


@pytest.mark.parametrize(
    ("range_", "changes"),
    [
        ({"channels": 0.3}, "each channel by one factor"),
        ({"gamma": 0.5}, "equal values stay equal"),
        ({"blur": 2.0}, "less contrast"),
        ({"invert": 1.0}, "the negative"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_changes_of_stain_exposure_and_focus(range_, changes):
    image = noise(16, 16)
    results = [jitter_colour(image, Augmentation(**range_), np.random.default_rng(seed)) for seed in range(8)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert any(not np.array_equal(result, image) for result in results)
    for result in results:
        if changes == "each channel by one factor":
            for channel in range(3):
                before, after = image[..., channel].astype(float), result[..., channel].astype(float)
                kept = (before > 100) & (after < 255)
                assert np.ptp(after[kept] / before[kept]) < 0.02
        elif changes == "equal values stay equal":
            table = dict(zip(image.ravel().tolist(), result.ravel().tolist(), strict=True))
            assert [table[value] for value in image.ravel().tolist()] == result.ravel().tolist()
            assert sorted(table.values()) == [table[value] for value in sorted(table)]
        elif changes == "less contrast":
            assert np.array_equal(result, image) or result.std() < image.std()
        else:
            np.testing.assert_array_equal(result, 255 - image)


@pytest.mark.parametrize(
    "bad",
    [
        {"zoom": (0, 1)},
        {"zoom": (1.0, 0.7)},
        {"flip": 2},
        {"colour": 1},
        {"channels": -0.1},
        {"gamma": -1},
        {"blur": -1},
        {"invert": 2},
    ],
)
def test_impossible_ranges_are_refused(bad):
    with pytest.raises(InputError, match="Received"):
        Augmentation(**bad)


def test_a_square_image_is_turned_by_all_quarter_turns():
    image = noise(8, 8)
    turns = {np.rot90(image, k).tobytes() for k in range(4)}
    assert {randomly_turned(image, seed) for seed in range(30)} == turns


def test_an_image_that_is_not_square_is_only_turned_upside_down():
    image = noise(8, 12)
    turns = {image.tobytes(), np.rot90(image, 2).tobytes()}
    assert {randomly_turned(image, seed) for seed in range(20)} == turns


def coordinates(matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the input row and column of each output pixel, with pixel centres at integers as in SciPy."""
    rows, columns = np.indices(size) + 0.5
    x, y = (matrix[axis, 0] * columns + matrix[axis, 1] * rows + matrix[axis, 2] for axis in (0, 1))
    return y - 0.5, x - 0.5


@pytest.mark.parametrize(("source", "size"), [((31, 47), (31, 47)), ((33, 20), (41, 29)), ((7, 5), (16, 11))])
@pytest.mark.parametrize("seed", range(4))
def test_the_replicated_border_equals_scipys_nearest_mode(source, size, seed):
    strong = Augmentation(rotation=40, translation=0.4, shear=0.3, zoom=(1.0, 1.9))
    matrix = random_matrix(source, strong, np.random.default_rng(seed)) @ resize_matrix(source, size)
    image = noise(*source, seed=seed)
    where = coordinates(matrix, size)
    assert min(where[0].min(), where[1].min()) < -1  # some output pixels are outside of the image
    expected = np.stack(
        [ndimage.map_coordinates(image[..., c].astype(float), where, order=1, mode="nearest") for c in range(3)], -1
    )
    np.testing.assert_allclose(warp_image(image, matrix, size, "replicate"), expected, atol=1.01)

    labels = np.random.default_rng(seed).integers(VOID, 4, source).astype(np.int32)
    rows, columns = (np.floor(axis + 0.5).astype(int) for axis in where)
    rows, columns = rows.clip(0, source[0] - 1), columns.clip(0, source[1] - 1)
    warped = warp_labels(labels, matrix, size, "replicate")
    # Pillow uses fixed-point steps, so a centre on the line between two pixels may take either value.
    assert np.mean(warped == labels[rows, columns]) > 0.99


def test_the_replicated_border_equals_the_black_one_inside():
    image, labels = noise(40, 30), np.random.default_rng(0).integers(0, 9, (40, 30)).astype(np.int32)
    closer = matrix((40, 30), rotation=10, zoom=(0.5, 0.6))
    for warp, pixels in ((warp_image, image), (warp_labels, labels)):
        np.testing.assert_array_equal(
            warp(pixels, closer, (24, 24), "replicate"), warp(pixels, closer, (24, 24), "black")
        )


@pytest.mark.parametrize("size", [(512, 512), (500, 389)])
def test_the_replicated_border_of_a_reduced_image_has_the_outermost_pixels(size):
    image, labels = np.full((*size, 3), 200, np.uint8), np.ones(size, np.int32)
    for pixels in (image, labels):
        pixels[:2] = pixels[-2:] = pixels[:, :2] = pixels[:, -2:] = 0
    farther = matrix(size, zoom=(1.5, 1.5)) @ resize_matrix(size, (64, 64))
    assert np.hypot(*farther[:2, 0]) > 2
    warped = warp_image(image, farther, (64, 64), "replicate")
    assert not warp_labels(labels, farther, (64, 64), "replicate")[:10].any()
    rows, columns = coordinates(farther, (64, 64))
    outside = np.maximum(np.abs(rows + 0.5 - size[0] / 2) / size[0], np.abs(columns + 0.5 - size[1] / 2) / size[1])
    assert (outside > 0.55).sum() > 1000
    assert (warped[outside > 0.55] == 0).all()
    assert (warped[outside < 0.45] == 200).all()
    image[np.ix_([0, -1], [0, -1])] = 90
    assert (warp_image(image, farther, (64, 64), "replicate")[np.ix_([0, -1], [0, -1])] == 90).all()


def test_the_named_ranges_have_the_values_of_earlier_versions():
    assert augmentation_of(DataConfig()) == Augmentation(
        flip=0.5, rotation=10.0, translation=0.1, shear=0.1, zoom=(0.7, 1.0), border="black"
    )
    assert augmentation_of(DataConfig(augmentation="strong")) == Augmentation(
        rotation=20.0, zoom=(0.6, 1.1), quarter_turns=True, colour=0.25, border="black"
    )


@pytest.mark.parametrize(("preset", "zoom"), [("voc", (0.7, 1.4)), ("cityscapes", (1.0, 1.0)), ("cvppp", (0.7, 1.0))])
def test_presets_of_the_paper_warp_like_the_original_code(preset, zoom):
    # src/dataloader/{pascal,cityscapes,leaves}.py with the defaults of src/args.py; Shear() takes degrees.
    ranges = augmentation_of(PRESETS[preset]().data)
    assert (ranges.zoom, ranges.border, ranges.rotation, ranges.translation) == (zoom, "replicate", 10, 0.1)
    assert ranges.shear == pytest.approx(math.pi * 0.1 / 180)
    assert not ranges.quarter_turns
    assert ranges.colour == 0


@pytest.mark.parametrize(("low", "high"), [(0.7, 1.4), (1.0, 1.0), (1.2, 1.3)])
def test_zoom_scales_width_and_height_within_its_range(low, high):
    sides = np.array([np.diag(matrix((40, 30), seed, zoom=(low, high)))[:2] for seed in range(200)])
    assert low <= sides.min() <= low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) <= sides.max() <= high
    if low < high:
        assert np.abs(sides[:, 0] - sides[:, 1]).max() > 0.5 * (high - low)  # drawn separately


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"zoom": (1.4, 0.7)}, "zoom must be two numbers"),
        ({"zoom": (0.7,)}, "zoom must be two numbers"),
        ({"zoom": (float("nan"), 1)}, "zoom must be two numbers"),
        ({"rotation": -1}, "rotation must be in 0..180"),
        ({"translation": float("nan")}, "translation must be in 0..1"),
        ({"shear": 90}, "shear must be in 0..80"),
        ({"border": "mirror"}, "border must be one of black, replicate"),
        ({"aspect": "crop"}, "aspect must be one of stretch, keep"),
        ({"cache": ""}, "cache must be memory, a folder, or none"),
    ],
)
def test_impossible_settings_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**bad)


@pytest.mark.parametrize("size", [(768, 1024), (500, 2000), (600, 200)])
def test_a_turned_image_is_reduced_as_much_as_one_that_is_not_turned(size):
    # Bands of six rows: what a reduction along the wrong axis leaves of them depends on the turn.
    image = np.repeat(np.where(np.arange(size[0]) // 6 % 2, 255, 0).astype(np.uint8)[:, None], size[1], 1)
    image = np.repeat(image[..., None], 3, -1)
    upright = warp_image(image, resize_matrix(size, (256, 256)), (256, 256))
    for turns in range(4):
        turned = size[::-1] if turns % 2 else size
        matrix = quarter_turn_matrix(size, turns) @ resize_matrix(turned, (256, 256))
        result = warp_image(image, matrix, (256, 256)).astype(int)
        np.testing.assert_allclose(result, np.rot90(upright, turns).astype(int), atol=1)
