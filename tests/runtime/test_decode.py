"""Decoding: from probabilities to instances."""

import numpy as np
import pytest

from rsis_tf.runtime import InputError, Instances, decode, resize_image

NAMES = ("background", "leaf", "stone")


def _steps(*objectness: float) -> dict:
    """Masks of one pixel each: step t fills pixel t of the first row of a 4x4 mask."""
    masks = np.zeros((len(objectness), 4, 4), np.float32)
    masks[np.arange(len(objectness)), 0, np.arange(len(objectness))] = 1
    classes = np.tile(np.array([0.6, 0.1, 0.3], np.float32), (len(objectness), 1))
    return {"masks": masks, "classes": classes, "stop": np.array(objectness, np.float32)}


def _decode(outputs: dict, **options) -> Instances:
    return decode(**{"size": (4, 4), "class_names": NAMES, **outputs, **options})


def test_sequence_ends_at_the_first_step_below_the_threshold():
    outputs = _steps(0.9, 0.5, 0.49, 0.8)
    assert [instance.step for instance in _decode(outputs)] == [0, 1]
    assert [instance.step for instance in _decode(outputs, stop_mode="each")] == [0, 1, 3]
    assert [instance.step for instance in _decode(outputs, stop_threshold=0.85)] == [0]
    assert [instance.step for instance in _decode(outputs, stop_threshold=0.0)] == [0, 1, 2, 3]


def test_instance_holds_the_best_object_class_and_its_score():
    (instance,) = _decode(_steps(0.8))  # background is more likely, but the step holds an object
    assert (instance.class_id, instance.class_name) == (2, "stone")
    assert instance.score == pytest.approx(0.3 * 0.8, rel=1e-6)
    assert instance.objectness == pytest.approx(0.8, rel=1e-6)
    assert instance.class_probs.dtype == np.float32
    np.testing.assert_allclose(instance.class_probs, [0.6, 0.1, 0.3], rtol=1e-6)
    assert instance.mask.dtype == bool
    assert np.argwhere(instance.mask).tolist() == [[0, 0]]


def test_score_falls_with_the_certainty_of_the_mask():
    outputs = _steps(0.8, 0.8)
    outputs["masks"][0, 0, :2] = 0.9, 0.6
    sharp, blurred = _decode(outputs)[1], _decode(outputs)[0]
    assert sharp.mask_score == 1
    assert blurred.mask_score == pytest.approx((0.9**2 + 0.6**2) / (0.9 + 0.6))
    assert blurred.score == pytest.approx(sharp.score * blurred.mask_score)
    assert blurred.objectness == sharp.objectness
    # The certainty is that of the network's mask: neither the size of the image nor the threshold changes it.
    for changed in ({"size": (9, 5)}, {"mask_threshold": 0.3}):
        assert _decode(outputs, **changed)[0].mask_score == blurred.mask_score
    half = _decode(outputs | {"masks": outputs["masks"].astype(np.float16)})[0]
    assert half.mask_score == pytest.approx(blurred.mask_score, rel=1e-3)


def test_padding_does_not_change_the_certainty():
    outputs = _steps(0.8)
    outputs["masks"][0] = [[0.5] * 4, [0.9] * 4, [0.9] * 4, [0.5] * 4]
    (found,) = _decode(outputs, size=(4, 8), aspect="keep")
    assert found.mask_score == pytest.approx(0.9)


def test_class_without_a_name_is_numbered():
    (instance,) = _decode(_steps(0.8), class_names=())
    assert instance.class_name == "class 2"


def test_masks_have_the_size_of_the_image():
    outputs = _steps(0.9)
    outputs["masks"][:] = 0
    outputs["masks"][0, :, :2] = 1  # left half
    (wide,) = _decode(outputs, size=(6, 40))
    assert wide.mask.shape == (6, 40)
    assert wide.mask[:, :20].all()
    assert not wide.mask[:, 20:].any()
    (small,) = _decode(outputs, size=(2, 2))
    assert small.mask.tolist() == [[True, False], [True, False]]
    (dot,) = _decode(outputs, size=(1, 1))  # mean 0.5; the threshold itself counts as object
    assert dot.mask.tolist() == [[True]]


def test_a_pixel_at_the_mask_threshold_belongs_to_the_object():
    outputs = _steps(0.9)
    outputs["masks"][0, 1, 1] = 0.25
    (instance,) = _decode(outputs, mask_threshold=0.25)
    assert instance.mask.sum() == 2


def test_empty_mask_is_dropped_and_the_sequence_continues():
    outputs = _steps(0.9, 0.9, 0.9)
    outputs["masks"][1] = 0.4
    assert [instance.step for instance in _decode(outputs)] == [0, 2]


@pytest.mark.parametrize("stop_mode", ["first", "each"])
def test_nan_objectness_is_no_object(stop_mode: str):
    assert [instance.step for instance in _decode(_steps(0.9, np.nan), stop_mode=stop_mode)] == [0]


def test_half_precision_decodes_as_float32():
    outputs = {name: value.astype(np.float16) for name, value in _steps(0.9).items()}
    (instance,) = _decode(outputs, size=(9, 9))
    assert instance.class_probs.dtype == np.float32
    assert instance.mask.shape == (9, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop": np.ones(3)}, "(1, 4, 4), (1, 3) and (3,)"),
        ({"masks": np.ones((4, 4))}, "(4, 4), (1, 3) and (1,)"),
        ({"class_names": ("background", "leaf")}, "2 names, 3 classes"),
        ({"stop_mode": "never"}, "Received: 'never'"),
    ],
)
def test_shapes_that_do_not_match_are_refused(change: dict, message: str):
    with pytest.raises(InputError) as error:
        _decode({**_steps(0.9), **change})
    assert message in str(error.value)


def test_resizing_is_antialiased_and_keeps_the_same_size_untouched():
    stripes = np.zeros((4, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_allclose(resize_image(stripes, (4, 40)), 100, atol=3)  # sampling alone would give 0 or 200
    assert resize_image(stripes, (4, 400)) is stripes
    assert resize_image(np.full((1, 1, 3), 7, np.uint8), (3, 5)).tolist() == np.full((3, 5, 3), 7).tolist()
