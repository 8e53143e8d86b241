"""Decoding of any probabilities into instances, and the masks of the evaluation protocols."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from strategies import masks, sizes

from rsis_tf.evaluation.protocol_masks import draw, largest_component
from rsis_tf.evaluation.protocols import MASK_RESIZES, PROTOCOLS
from rsis_tf.runtime import InputError, Instances, decode, letterbox, to_label_map

_SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)
_THRESHOLDS = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outputs:
    """Probabilities of one image, and its size."""

    masks: np.ndarray
    classes: np.ndarray
    stop: np.ndarray
    size: tuple[int, int]
    aspect: str

    def decode(self, **options: object) -> Instances:
        return decode(
            self.masks, self.classes, self.stop, size=self.size, aspect=self.aspect, **{"class_names": (), **options}
        )


@st.composite
def _outputs(draw: st.DrawFn, *, broken: bool = False) -> _Outputs:
    steps, classes, frame = draw(st.integers(0, 5)), draw(st.integers(2, 4)), draw(sizes(6))
    values = _SHARES | st.just(float("nan")) if broken else _SHARES
    dtype = draw(st.sampled_from([np.float32, np.float16, np.float64]))
    return _Outputs(
        masks=draw(arrays.arrays(dtype, (steps, *frame), elements=_SHARES.map(dtype))),
        classes=draw(arrays.arrays(np.float32, (steps, classes), elements=_SHARES)),
        stop=draw(arrays.arrays(np.float32, (steps,), elements=values)),
        size=draw(st.just(frame) | sizes(9)),
        aspect=draw(st.sampled_from(["stretch", "keep"])),
    )


@given(_outputs(broken=True), _THRESHOLDS, _THRESHOLDS, st.sampled_from(["first", "each"]))
def test_instances_are_in_order_in_range_and_not_empty(
    outputs: _Outputs, stop_threshold: float, mask_threshold: float, stop_mode: str
) -> None:
    options = {"stop_threshold": stop_threshold, "mask_threshold": mask_threshold, "stop_mode": stop_mode}
    found = outputs.decode(**options)
    steps = [one.step for one in found]
    assert steps == sorted(set(steps))
    assert len(found) <= len(outputs.stop)
    present = outputs.stop >= stop_threshold  # NaN is not
    if stop_mode == "first":
        present = np.logical_and.accumulate(present)
    assert all(present[step] for step in steps)
    for one in found:
        assert (one.mask.shape, one.mask.dtype) == (outputs.size, bool)
        assert one.mask.any()
        probs = outputs.classes[one.step]
        assert 1 <= one.class_id < len(probs)
        assert probs[one.class_id] == probs[1:].max()
        assert one.class_name == f"class {one.class_id}"
        assert 0 <= one.score <= one.objectness <= 1
        certain = float(probs[one.class_id]) * float(outputs.stop[one.step])
        assert one.score == pytest.approx(certain * one.mask_score)
        assert 0 <= one.mask_score <= 1
    # Steps do not depend on each other: each one that is present is decoded as it is alone.
    for step in np.flatnonzero(present).tolist():
        alone = dataclasses.replace(
            outputs, **{name: getattr(outputs, name)[step : step + 1] for name in ("masks", "classes", "stop")}
        ).decode(**options)
        assert [one.mask.tolist() for one in alone] == [one.mask.tolist() for one in found if one.step == step]


@given(_outputs(), st.tuples(_THRESHOLDS, _THRESHOLDS), st.sampled_from(["first", "each"]))
def test_a_higher_threshold_never_adds_anything(
    outputs: _Outputs, thresholds: tuple[float, float], stop_mode: str
) -> None:
    low, high = sorted(thresholds)
    more, fewer = (outputs.decode(stop_threshold=value, stop_mode=stop_mode) for value in (low, high))
    assert {one.step for one in fewer} <= {one.step for one in more}
    first, each = (outputs.decode(stop_threshold=low, stop_mode=mode) for mode in ("first", "each"))
    assert [one.step for one in first] == [one.step for one in each][: len(first)]
    large, small = (outputs.decode(mask_threshold=value, stop_mode=stop_mode) for value in (low, high))
    by_step = {one.step: one.mask for one in large}
    for one in small:
        assert not (one.mask & ~by_step[one.step]).any()


@given(_outputs())
@example(
    _Outputs(
        masks=np.ones((1, 2, 2), np.float32),
        classes=np.ones((1, 2), np.float32),
        stop=np.ones(1, np.float32),
        size=(1, 9),
        aspect="keep",
    )
)
def test_threshold_zero_fills_the_image_and_one_map_holds_every_pixel_once(outputs: _Outputs) -> None:
    found = outputs.decode(mask_threshold=0.0, stop_threshold=0.0, stop_mode="each")
    assert len(found) == len(outputs.stop)
    assert all(one.mask.all() for one in found)
    assert set(np.unique(to_label_map(found, outputs.size)).tolist()) == {min(1, len(found))}
    instances = outputs.decode()
    labels = instances.to_label_map()
    np.testing.assert_array_equal(labels > 0, np.any([np.zeros(outputs.size, bool), *instances.masks], axis=0))
    for number, one in enumerate(instances, start=1):
        assert one.mask[labels == number].all()


@given(_outputs())
def test_at_the_size_of_the_network_a_mask_is_its_probabilities_above_the_threshold(outputs: _Outputs) -> None:
    same = dataclasses.replace(outputs, size=outputs.masks.shape[1:])
    found = {one.step: one.mask for one in same.decode(stop_threshold=0.0)}
    for step, probabilities in enumerate(outputs.masks):
        expected = probabilities.astype(np.float32) >= 0.5
        np.testing.assert_array_equal(found.get(step, np.zeros(same.size, bool)), expected)


@given(_outputs(), st.integers(1, 3))
def test_padding_has_no_influence(outputs: _Outputs, seed: int) -> None:
    kept = dataclasses.replace(outputs, aspect="keep")
    frame = outputs.masks.shape[1:]
    top, left, height, width = letterbox(outputs.size, frame)
    noise = np.random.default_rng(seed).uniform(size=outputs.masks.shape).astype(outputs.masks.dtype)
    noise[:, top : top + height, left : left + width] = outputs.masks[:, top : top + height, left : left + width]
    changed = dataclasses.replace(kept, masks=noise)
    np.testing.assert_array_equal(kept.decode().masks, changed.decode().masks)


@given(_outputs(), st.floats())
def test_a_threshold_out_of_range_is_refused(outputs: _Outputs, value: float) -> None:
    for name in ("stop_threshold", "mask_threshold"):
        if 0 <= value <= 1:
            outputs.decode(**{name: value})
        else:
            with pytest.raises(InputError, match=rf"{name}.*Received: "):
                outputs.decode(**{name: value})


@given(masks())
def test_the_largest_part_is_connected_and_as_large_as_any(mask: np.ndarray) -> None:
    kept = largest_component(mask)
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(parts.ravel())[1:]
    assert not (kept & ~mask).any()
    assert kept.sum() == areas.max(initial=0)
    if count:
        np.testing.assert_array_equal(kept, parts == 1 + int(np.argmax(areas)))
    np.testing.assert_array_equal(largest_component(kept), kept)


@given(sizes(6).flatmap(lambda s: arrays.arrays(np.float32, s, elements=_SHARES)), sizes(9), _THRESHOLDS)
def test_masks_of_every_protocol_have_the_size_and_shrink_with_the_threshold(
    probabilities: np.ndarray, size: tuple[int, int], threshold: float
) -> None:
    for resize in MASK_RESIZES:
        protocol = dataclasses.replace(PROTOCOLS["plain"], mask_resize=resize)
        mask = draw(probabilities, size, threshold, protocol=protocol)
        assert (mask.shape, mask.dtype) == (size, bool)
        higher = draw(probabilities, size, min(threshold + 0.3, 1.0), protocol=protocol)
        assert not (higher & ~mask).any()
