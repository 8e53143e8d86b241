"""The voting head: the mask is the object pointed at, found objects are not pointed at again, outputs and files."""

import keras
import numpy as np
import pytest
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.errors import InputError
from rsis_tf.models import build_model
from rsis_tf.models.mask_heads.voting import UNIT, VotingHead, pixel_positions
from rsis_tf.training.building import build_for_training

VOTING = {"encoder": "compact", "hidden_size": 16, "num_classes": 2, "neck_channels": 8, "mask_head": "voting"}


def images(batch=2, height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build_model(ModelConfig(**VOTING, decoder_stages=4, num_steps=3, image_size=(48, 64)))


def two_discs():
    """Votes of two perfect discs of radius 6 on a map of 32×48, and the discs."""
    y, x = np.mgrid[:32, :48]
    centres = [(10, 12), (20, 36)]
    discs = [np.hypot(y - cy, x - cx) < 6 for cy, cx in centres]
    votes = np.stack([y, x], -1).astype(np.float32)
    for disc, centre in zip(discs, centres, strict=True):
        votes[disc] = centre
    foreground = np.where(discs[0] | discs[1], 8.0, -8.0)[..., None]
    log_radius = np.full((32, 48, 1), np.log(6 / UNIT))
    candidates = np.concatenate([votes / UNIT, log_radius, foreground], -1)
    parts = {"foreground_logits": foreground, "votes": votes / UNIT, "candidates": candidates}
    return {name: ops.convert_to_tensor(part[None], "float32") for name, part in parts.items()}, discs


def test_the_mask_is_the_object_pointed_at():
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    votes, discs = two_discs()
    refinement = ops.zeros((1, 32, 48, 1))
    for place, disc in zip([(9, 14), (21, 33)], discs, strict=True):
        pointing = np.zeros((1, 32, 48, 1), np.float32)
        pointing[0, place[0], place[1]] = 1
        chosen = head.choose(ops.convert_to_tensor(pointing), votes)
        mask = ops.convert_to_numpy(head.mask_logits(chosen, refinement, votes))
        np.testing.assert_array_equal(mask[0, ..., 0] > 0, disc)


def test_one_convolution_computes_what_two_layers_do():
    keras.utils.set_random_seed(0)
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    for layer in (head.pointer, head.refinement):
        layer.kernel.assign(keras.random.normal(layer.kernel.shape))
        layer.bias.assign(keras.random.normal(layer.bias.shape))
    hidden = keras.random.normal((2, 6, 7, 4))
    for ours, layer in zip(head.read(hidden), (head.pointer, head.refinement), strict=True):
        np.testing.assert_allclose(ours, layer(hidden), rtol=1e-5, atol=1e-5)


def test_mask_pooling_is_the_mean_under_the_mask():
    head = VotingHead(channels=3, hidden_channels=4, kernel_size=3, keep_appearance=True)
    finest = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    votes, _ = head.prepare([ops.convert_to_tensor(finest)], [(8, 9)], (16, 18))
    logits = np.full((2, 8, 9, 1), -50.0, np.float32)
    logits[0, 2:4, 3:8], logits[1, 5, 5] = 50, 50
    pooled = ops.convert_to_numpy(head.pool_under_mask(ops.convert_to_tensor(logits), votes))
    np.testing.assert_allclose(pooled, [finest[0, 2:4, 3:8].mean((0, 1)), finest[1, 5, 5]], rtol=2e-3)
    nothing = ops.convert_to_numpy(head.pool_under_mask(ops.full((2, 8, 9, 1), -200.0), votes))
    np.testing.assert_allclose(nothing, 0, atol=1e-6)


def test_class_features_from_under_the_mask(tmp_path):
    keras.utils.set_random_seed(0)
    config = ModelConfig(**{**VOTING, "num_classes": 4}, class_features="mask", decoder_stages=4, image_size=(48, 64))
    model = build_model(config)
    assert model.decoder.class_head.kernel.shape[0] == sum((16, 8, 4, 2)) + 1 + 8
    out = model(images(), num_steps=2, training=False)
    # The rows of the class layer that read the neck's map.
    model.decoder.class_head.kernel.assign(
        ops.concatenate([model.decoder.class_head.kernel[:-8], 50 * model.decoder.class_head.kernel[-8:]])
    )
    other = model(images(), num_steps=2, training=False)
    np.testing.assert_array_equal(out["mask_logits"], other["mask_logits"])
    assert np.abs(np.asarray(out["class_probs"]) - other["class_probs"]).max() > 0.01
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")(images(), num_steps=2, training=False)
    np.testing.assert_allclose(again["class_probs"], other["class_probs"], atol=1e-6, equal_nan=False)
    with pytest.raises(InputError, match="Received: class_features='mask'"):
        ModelConfig(class_features="mask")


def test_found_objects_are_not_pointed_at_again():
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    votes, discs = two_discs()
    evidence = ops.zeros((1, 32, 48, 1))
    for found, other in (discs, discs[::-1]):
        covered = ops.convert_to_tensor(found[None, ..., None].astype(np.float32))
        pointing = ops.convert_to_numpy(head.point(evidence, votes, covered))[0, ..., 0]
        assert other.ravel()[pointing.argmax()]


def test_a_background_pixel_that_votes_for_an_object_counts_as_found_with_it():
    """Otherwise it could be pointed at again in every later step."""
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    votes, discs = two_discs()
    candidates = ops.convert_to_numpy(votes["candidates"]).copy()
    place = (4, 4)  # outside both discs
    candidates[0, *place, :3] = candidates[0, 10, 12, :3]
    votes["candidates"] = ops.convert_to_tensor(candidates)
    pointing = np.zeros((1, 32, 48, 1), np.float32)
    pointing[0, *place] = 1
    chosen = head.choose(ops.convert_to_tensor(pointing), votes)
    agreement = ops.convert_to_numpy(head.agreement(votes["candidates"][..., :2], chosen))[0, ..., 0]
    assert agreement[place] > 0
    assert (agreement[discs[0]] > 0).all()
    assert not (agreement[discs[1]] > 0).any()


def test_the_step_state_covers_the_pixels_pointed_at(model):
    context = model.decoder.prepare(model.project(images(), training=False), (48, 64))
    state = model.decoder.start(context)
    for _ in range(3):
        step = model.decoder.step(context, state)
        pointing = ops.convert_to_numpy(step.outputs["pointing_logits"])
        found = ops.convert_to_numpy(step.state.head["found"])
        for points, covered in zip(pointing, found, strict=True):
            assert covered.ravel()[points.argmax()] > 0.9
        assert (found >= ops.convert_to_numpy(state.head["found"])).all()
        state = step.state


def test_positions_align_corners():
    positions = ops.convert_to_numpy(pixel_positions((3, 5), (33, 65)))[0]
    np.testing.assert_allclose(positions[0, 0], [0, 0])
    np.testing.assert_allclose(positions[2, 4], [32 / UNIT, 64 / UNIT])
    np.testing.assert_allclose(positions[1, 1], [16 / UNIT, 16 / UNIT])


def test_shapes_of_the_outputs(model):
    outputs = model(images(), num_steps=3, training=False)
    assert outputs["mask_logits"].shape == (2, 3, 48, 64)
    assert outputs["class_probs"].shape == (2, 3, 2)
    assert outputs["stop_logits"].shape == (2, 3)
    assert outputs["pointing_logits"].shape == (2, 12, 16, 3)
    assert outputs["votes"].shape == (2, 24, 32, 2)


def test_found_objects_lower_the_pointing_logits(model):
    given = images()
    plain = model(given, training=False)["pointing_logits"]
    nothing = model({"images": given, "found": np.zeros((2, 48, 64), np.uint8)}, training=False)["pointing_logits"]
    np.testing.assert_allclose(plain, nothing, atol=1e-6, equal_nan=False)
    found = np.zeros((2, 48, 64), np.uint8)
    found[:, :24] = 1
    lowered = model({"images": given, "found": found}, training=False)["pointing_logits"]
    first = ops.convert_to_numpy(lowered - plain)[..., 0]
    assert first[:, :5].max() < -5  # the inhibition of 8, and what the cells make of it
    assert np.abs(first[:, 8:]).max() < 2


def test_a_saved_model_gives_the_same_outputs(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    given = images()
    for name, value in model(given, training=False).items():
        np.testing.assert_array_equal(value, again(given, training=False)[name])


@pytest.mark.parametrize(
    "fields",
    [
        {"neck_channels": 0},
        {"neck_channels": -1, "mask_head": "convolution"},
        {"skip_mode": "none"},
        {"neck_channels": 8, "skip_mode": "mul", "mask_head": "convolution"},
        {"mask_head": "dots"},
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields):
    name, value = next(iter(fields.items()))
    with pytest.raises(InputError, match=f"Received: {name}={value!r}"):
        ModelConfig(**{**VOTING, **fields})


def test_votes_stay_float32_in_mixed_precision():
    model = build_for_training(ModelConfig(**VOTING), precision="mixed_bfloat16")
    outputs = model(images(), num_steps=2, training=True)
    assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in outputs.values())
    # In bfloat16, positions beyond 128 pixels would be off by half a pixel or more.
    start = ops.convert_to_numpy(pixel_positions((24, 32), (48, 64)))
    assert model.decoder.voting.dense_head.compute_dtype == "bfloat16"
    assert np.abs(ops.convert_to_numpy(outputs["votes"]) - start).max() < 5


def test_the_convolution_head_works_with_a_neck():
    config = ModelConfig(**{**VOTING, "mask_head": "convolution"})
    outputs = build_model(config)(images(), num_steps=2, training=False)
    assert sorted(outputs) == ["class_probs", "mask_logits", "stop_logits"]


def test_found_points_are_covered_as_a_step_that_points_there_covers():
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    votes, discs = two_discs()
    points = np.full((1, 4, 2), -1, np.int32)
    image_size = (63, 95)  # every second pixel of the image is one of the map
    points[0, 1], points[0, 3] = (2 * 9, 2 * 14), (2 * 21, 2 * 33)
    covered = head.covered_by_votes(votes["candidates"], ops.convert_to_tensor(points), image_size)
    expected = np.zeros((32, 48, 1), np.float32)
    for place in [(9, 14), (21, 33)]:
        pointing = np.zeros((1, 32, 48, 1), np.float32)
        pointing[0, place[0], place[1]] = 1
        chosen = head.choose(ops.convert_to_tensor(pointing), votes)
        agreement = ops.sigmoid(head.agreement(votes["candidates"][..., :2], chosen))
        expected = np.maximum(expected, ops.convert_to_numpy(agreement)[0])
    np.testing.assert_allclose(ops.convert_to_numpy(covered)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(expected[..., 0] > 0.5, discs[0] | discs[1])
    nothing = head.covered_by_votes(votes["candidates"], ops.full((1, 4, 2), -1, "int32"), image_size)
    assert not ops.convert_to_numpy(nothing).any()


def test_a_point_outside_of_all_found_objects_changes_nothing_but_its_own_image(model):
    batch = {"images": images(), "found": np.zeros((2, 48, 64), np.uint8)}
    points = np.full((2, 5, 2), -1, np.int32)
    plain = model(batch, num_steps=2)
    none = model(batch | {"found_points": points}, num_steps=2)
    points[1, 0] = 20, 30
    one = model(batch | {"found_points": points}, num_steps=2)
    for name in plain:
        first, second, third = (ops.convert_to_numpy(outputs[name]) for outputs in (plain, none, one))
        np.testing.assert_allclose(first, second, atol=1e-6)
        np.testing.assert_allclose(first[0], third[0], atol=1e-5)
    assert np.abs(ops.convert_to_numpy(one["pointing_logits"] - plain["pointing_logits"])[1]).max() > 0.1
