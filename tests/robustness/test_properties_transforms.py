"""Transforms of training samples: warps, resizing, letterbox, reduced samples, partial sequences."""

import dataclasses
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from strategies import check_message, images, label_maps, sizes

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import STILL, Augmentation, jitter_colour, random_matrix
from rsis_tf.data.labels import reduced_labels, relabel
from rsis_tf.data.partial_sequences import draw_partial_sequence
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.prepare import prepare
from rsis_tf.data.reduced_samples import reduced
from rsis_tf.data.sample import PADDING, VOID, Sample
from rsis_tf.data.warp import quarter_turn_matrix, resize_matrix, warp_image, warp_labels
from rsis_tf.runtime import InputError, as_image, letterbox, resize_image

_SEEDS = st.integers(0, 2**32 - 1)
_BORDERS = st.sampled_from(["black", "replicate"])


@st.composite
def _samples(draw: st.DrawFn, most: int = 16, *, marked: bool = False) -> Sample:
    """Draws a sample; if `marked`, the first channel of the image has the class of each pixel's object, 9 for void."""
    size = draw(sizes(most))
    label_map, classes = draw(label_maps(size))
    image = draw(images(size))
    if marked:
        image[..., 0] = np.append(np.concatenate([[0], classes]), 9)[label_map]
    return Sample(image=image, label_map=label_map, classes=classes, image_id="drawn")


_RANGES = st.builds(
    Augmentation,
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    rotation=st.floats(0, 180),
    translation=st.floats(0, 1),
    shear=st.floats(0, 1),
    zoom=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)).map(lambda pair: (min(pair), max(pair))),
    border=_BORDERS,
    quarter_turns=st.booleans(),
    colour=st.floats(0, 0.9),
)


@given(_samples(), sizes(16), _RANGES, _SEEDS)
def test_a_warp_keeps_types_and_brings_no_new_label(
    sample: Sample, size: tuple[int, int], ranges: Augmentation, seed: int
) -> None:
    source = sample.label_map.shape
    matrix = random_matrix(source, ranges, np.random.default_rng(seed)) @ resize_matrix(source, size)
    image = warp_image(sample.image, matrix, size, ranges.border)
    labels = warp_labels(sample.label_map, matrix, size, ranges.border)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.int32)
    known = set(np.unique(sample.label_map).tolist())
    assert set(np.unique(labels).tolist()) <= (known if ranges.border == "replicate" else known | {0})


@given(_samples(), _BORDERS, _SEEDS)
def test_still_ranges_change_nothing(sample: Sample, border: str, seed: int) -> None:
    size = sample.label_map.shape
    still = dataclasses.replace(STILL, border=border)
    rng = np.random.default_rng(seed)
    matrix = random_matrix(size, still, rng)
    np.testing.assert_array_equal(warp_image(sample.image, matrix, size, border), sample.image)
    np.testing.assert_array_equal(warp_labels(sample.label_map, matrix, size, border), sample.label_map)
    assert jitter_colour(sample.image, still, rng) is sample.image


@given(_samples(), _SEEDS)
def test_a_flip_is_a_mirror_and_its_own_inverse(sample: Sample, seed: int) -> None:
    size = sample.label_map.shape
    matrix = random_matrix(size, dataclasses.replace(STILL, flip=1.0), np.random.default_rng(seed))
    image, labels = warp_image(sample.image, matrix, size), warp_labels(sample.label_map, matrix, size)
    np.testing.assert_array_equal(image, sample.image[:, ::-1])
    np.testing.assert_array_equal(labels, sample.label_map[:, ::-1])
    np.testing.assert_array_equal(warp_image(image, matrix, size), sample.image)
    np.testing.assert_array_equal(warp_labels(labels, matrix, size), sample.label_map)


@given(_samples(), st.integers(0, 3))
def test_a_quarter_turn_is_a_rotation_of_the_pixels(sample: Sample, turns: int) -> None:
    size = sample.label_map.shape
    turned = size[::-1] if turns % 2 else size
    matrix = quarter_turn_matrix(size, turns)
    image, labels = warp_image(sample.image, matrix, turned), warp_labels(sample.label_map, matrix, turned)
    directions = [np.rot90(sample.label_map, way * turns) for way in (1, -1)]
    assert any(np.array_equal(labels, expected) for expected in directions)
    way = 1 if np.array_equal(labels, directions[0]) else -1
    # A symmetric label map does not tell the direction.
    assert any(np.array_equal(image, np.rot90(sample.image, w * turns)) for w in {way, -way})
    back = quarter_turn_matrix(turned, (4 - turns) % 4)
    np.testing.assert_array_equal(warp_image(image, back, size), sample.image)
    np.testing.assert_array_equal(warp_labels(labels, back, size), sample.label_map)


@st.composite
def _configs(draw: st.DrawFn) -> DataConfig:
    return DataConfig(
        image_size=draw(sizes(16)),
        aspect=draw(st.sampled_from(["stretch", "keep"])),
        max_objects=draw(st.integers(1, 4)),
        crop=draw(st.booleans()),
        augment=draw(st.booleans()),
        partial_sequences=draw(st.sampled_from([0.0, 0.5, 1.0])),
        batch_size=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 99)),
    )


@given(_samples(marked=True), _configs(), _RANGES, _SEEDS, st.booleans())
def test_prepared_samples_keep_objects_and_classes_together(
    sample: Sample, config: DataConfig, ranges: Augmentation, seed: int, plain: bool
) -> None:
    # The image shows the class of each pixel: the same warp without interpolation shows it afterwards.
    shown = Sample(
        image=sample.image, label_map=sample.image[..., 0].astype(np.int32), classes=np.arange(1, 10), image_id="shown"
    )
    rngs = (None, None) if plain else (np.random.default_rng(seed), np.random.default_rng(seed))
    image, labels, classes, valid = prepare(sample, config, rngs[0], ranges)
    _, by_class, kinds, _ = prepare(shown, config.changed(max_objects=9), rngs[1], ranges)
    assert (image.shape, image.dtype) == ((*config.image_size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (config.image_size, np.int32)
    assert (classes.dtype, valid.dtype) == (np.int32, np.uint8)
    assert classes.shape == valid.shape == (config.max_objects,)
    count = int(valid.sum())
    assert valid.tolist() == [1] * count + [0] * (config.max_objects - count)
    assert not classes[count:].any()
    areas = [int((labels == number).sum()) for number in range(1, count + 1)]
    assert areas == sorted(areas, reverse=True)
    assert all(areas)
    assert set(np.unique(labels).tolist()) <= {PADDING, VOID, 0, *range(1, count + 1)}
    class_of_pixel = np.append(np.concatenate([[0], kinds]), [-2, -1])[by_class]
    for number, kind in enumerate(classes[:count], start=1):
        assert set(class_of_pixel[labels == number].tolist()) == {kind}
    if (labels == PADDING).any():
        assert config.aspect == "keep"
        assert not image[labels == PADDING].any()
    np.testing.assert_array_equal(labels == PADDING, by_class == PADDING)


@given(st.lists(_samples(), min_size=1, max_size=3), _configs(), st.booleans())
def test_masks_of_a_batch_are_disjoint(samples: list[Sample], config: DataConfig, training: bool) -> None:
    class Drawn:
        class_names = ("background", "a", "b", "c")

        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: int) -> Sample:
            return samples[index]

    seen = 0
    for inputs, targets in plain_batches(Drawn(), config, training=training):
        partial = isinstance(inputs, dict)
        assert partial == bool(training and config.partial_sequences)
        pixels = inputs["images"] if partial else inputs
        batch, seen = len(pixels), seen + len(pixels)
        assert pixels.shape == (batch, *config.image_size, 3)
        masks, ignored = targets["masks"], targets["ignored"]
        assert masks.shape == (batch, config.max_objects, *config.image_size)
        assert set(np.unique(masks)) <= {0, 1}
        assert (masks.sum(axis=1) + ignored).max() <= 1
        np.testing.assert_array_equal(masks.any(axis=(2, 3)), targets["valid"] > 0)
        np.testing.assert_array_equal(targets["classes"] > 0, targets["valid"] > 0)
        if config.aspect == "keep":
            assert (targets["padding"] <= ignored).all()
        if partial:
            left = np.arange(config.max_objects)[None] < targets["remaining"][:, None]  # (B, N)
            found = (masks * ~left[:, :, None, None]).sum(axis=1)  # (B, H, W)
            np.testing.assert_array_equal(inputs["found"], found)
            assert (targets["remaining"] <= targets["valid"].sum(axis=1)).all()
    if not training:
        assert seen == len(samples)


@given(sizes(40).flatmap(label_maps), st.integers(0, 3), _SEEDS)
def test_partial_sequences_renumber_the_objects(drawn: tuple[np.ndarray, np.ndarray], more: int, seed: int) -> None:
    label_map, classes = drawn
    count = len(classes)
    padded = np.append(classes, np.zeros(more, np.int32))
    label_map[:, :1] = np.where(label_map[:, :1] == 0, PADDING, label_map[:, :1])
    labels, shuffled, remaining = draw_partial_sequence(label_map, padded, count, np.random.default_rng(seed))
    assert 0 <= remaining <= count
    np.testing.assert_array_equal(np.where(label_map < 1, label_map, 1), np.where(labels < 1, labels, 1))
    before = sorted((int(c), (label_map == i).tobytes()) for i, c in enumerate(classes, start=1))
    after = sorted((int(c), (labels == i).tobytes()) for i, c in enumerate(shuffled[:count], start=1))
    assert before == after
    assert shuffled.shape == padded.shape
    assert not shuffled[count:].any()


@given(
    sizes(10).flatmap(label_maps), st.booleans(), st.one_of(st.none(), st.integers(0, 5)), st.sampled_from([0, VOID])
)
def test_relabelled_objects_keep_pixels_and_classes(
    drawn: tuple[np.ndarray, np.ndarray], by_area: bool, keep: int | None, rest: int
) -> None:
    label_map, classes = drawn
    labels, kept = relabel(label_map, classes, by_area=by_area, keep=keep, rest=rest)
    before = [(int(c), (label_map == i).tobytes()) for i, c in enumerate(classes, start=1)]
    after = [(int(c), (labels == i).tobytes()) for i, c in enumerate(kept, start=1)]
    if by_area:
        before.sort(key=lambda entry: -sum(entry[1]))  # stable
    assert after == before[:keep]
    np.testing.assert_array_equal(
        labels == VOID, (label_map == VOID) | ((rest == VOID) & (label_map > 0) & (labels < 1))
    )


@given(_samples(40), sizes(16))
def test_reduced_samples_are_large_enough_and_keep_labels(sample: Sample, at_least: tuple[int, int]) -> None:
    small = reduced(sample, at_least)
    height, width = sample.label_map.shape
    assert small.image.shape[:2] == small.label_map.shape
    assert (small.image.dtype, small.label_map.dtype) == (np.uint8, np.int32)
    for side, before, least in zip(small.label_map.shape, (height, width), at_least, strict=True):
        assert side >= min(before, least)
    assert min(side / least for side, least in zip(small.label_map.shape, at_least, strict=True)) < 3 or (
        small.label_map.shape == (height, width)
    )
    assert set(np.unique(small.label_map)) - {0, VOID} == set(range(1, len(small.classes) + 1))


@given(sizes(20).flatmap(label_maps), st.integers(1, 8))
def test_each_reduced_label_is_that_of_a_pixel_of_its_block(drawn: tuple[np.ndarray, np.ndarray], factor: int) -> None:
    label_map, classes = drawn
    labels, kept = reduced_labels(label_map, classes, factor)
    assert labels.shape == tuple(math.ceil(side / factor) for side in label_map.shape)
    class_before, class_after = (np.append(np.concatenate([[0], c]), -1) for c in (classes, kept))
    for (y, x), label in np.ndenumerate(labels):
        block = label_map[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert class_after[label] in class_before[block]


@given(st.integers(1, 5000), st.integers(1, 5000), sizes(600))
@example(1, 5000, (1, 1))
def test_a_letterbox_fits_is_centred_and_touches_two_sides(height: int, width: int, size: tuple[int, int]) -> None:
    top, left, inner_height, inner_width = letterbox((height, width), size)
    assert 1 <= inner_height <= size[0]
    assert 1 <= inner_width <= size[1]
    assert inner_height == size[0] or inner_width == size[1]
    assert 0 <= size[0] - inner_height - 2 * top <= 1
    assert 0 <= size[1] - inner_width - 2 * left <= 1
    scale = min(size[0] / height, size[1] / width)
    assert abs(inner_height - max(height * scale, 1)) <= 0.5 + 1e-9
    assert abs(inner_width - max(width * scale, 1)) <= 0.5 + 1e-9


@given(sizes(16).flatmap(images), sizes(16), st.sampled_from(["stretch", "keep"]))
def test_resized_images_have_the_size_and_no_new_extremes(
    image: np.ndarray, size: tuple[int, int], aspect: str
) -> None:
    resized = resize_image(image, size, aspect)
    assert (resized.shape, resized.dtype) == ((*size, 3), np.uint8)
    top, left, height, width = letterbox(image.shape[:2], size) if aspect == "keep" else (0, 0, *size)
    inside = resized[top : top + height, left : left + width]
    assert image.min() <= inside.min() <= inside.max() <= image.max()
    outside = resized.copy()
    outside[top : top + height, left : left + width] = 0
    assert not outside.any()
    assert resize_image(image, image.shape[:2], aspect) is image


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.bool_, np.float16, np.float32, np.float64, np.int32]),
        st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple),
    )
)
def test_any_array_becomes_an_image_or_is_refused(array: np.ndarray) -> None:
    try:
        image = as_image(array)
    except InputError as error:
        check_message(error)
        return
    assert array.dtype != np.int32
    assert (image.shape, image.dtype) == ((*array.shape[:2], 3), np.uint8)
    assert as_image(image) is image
    if array.dtype.kind in "fu":
        # Brighter pixels stay brighter.
        channels = array[..., None] if array.ndim == 2 else array[..., :3]
        order = np.argsort(np.broadcast_to(channels, image.shape), axis=None)
        assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()
