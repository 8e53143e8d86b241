"""Masks by voting: what is pointed at is drawn, what is found is left alone, and the model keeps its promises."""

import keras
import numpy as np
import pytest
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.errors import InputError
from rsis_tf.models import build_model
from rsis_tf.models.mask_heads.voting import UNIT, Ballot, VotingHead, pixel_positions
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
    parts = [foreground, votes / UNIT, log_radius, candidates]
    return Ballot(*(ops.convert_to_tensor(part[None], "float32") for part in parts)), discs


def test_the_mask_is_the_object_pointed_at():
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    ballot, discs = two_discs()
    hidden = ops.zeros((1, 32, 48, 4))
    for place, disc in zip([(9, 14), (21, 33)], discs, strict=True):
        pointing = np.zeros((1, 32, 48, 1), np.float32)
        pointing[0, place[0], place[1]] = 1
        chosen = head.choose(ops.convert_to_tensor(pointing), ballot)
        mask = ops.convert_to_numpy(head.mask_logits(chosen, hidden, ballot))
        np.testing.assert_array_equal(mask[0, ..., 0] > 0, disc)


def test_what_lies_under_a_mask():
    head = VotingHead(channels=3, hidden_channels=4, kernel_size=3, keep_appearance=True)
    finest = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    ballot = head.prepare(ops.convert_to_tensor(finest), (16, 18), (8, 9))
    logits = np.full((2, 8, 9, 1), -50.0, np.float32)
    logits[0, 2:4, 3:8], logits[1, 5, 5] = 50, 50
    seen = ops.convert_to_numpy(head.look(ops.convert_to_tensor(logits), ballot))
    np.testing.assert_allclose(seen, [finest[0, 2:4, 3:8].mean((0, 1)), finest[1, 5, 5]], rtol=2e-3)
    nothing = ops.convert_to_numpy(head.look(ops.full((2, 8, 9, 1), -200.0), ballot))
    np.testing.assert_allclose(nothing, 0, atol=1e-6)


def test_classes_may_be_told_by_what_masks_cover(tmp_path):
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
    np.testing.assert_allclose(again["class_probs"], other["class_probs"], atol=1e-6)
    with pytest.raises(InputError, match="Received: class_features='mask'"):
        ModelConfig(class_features="mask")


def test_what_is_found_is_not_pointed_at_again():
    head = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    ballot, discs = two_discs()
    hidden = ops.zeros((1, 32, 48, 4))
    for found, other in (discs, discs[::-1]):
        covered = ops.convert_to_tensor(found[None, ..., None].astype(np.float32))
        pointing = ops.convert_to_numpy(head.point(hidden, ballot, covered))[0, ..., 0]
        assert other.ravel()[pointing.argmax()]


def test_what_is_pointed_at_counts_as_found_even_beside_its_object():
    """A pixel of the ground that votes for an object would otherwise be pointed at for ever."""
    voting = VotingHead(channels=8, hidden_channels=4, kernel_size=3)
    ballot, discs = two_discs()
    candidates = ops.convert_to_numpy(ballot.candidates).copy()
    place = (4, 4)  # no disc is there
    candidates[0, *place, :3] = candidates[0, 10, 12, :3]
    ballot = ballot._replace(candidates=ops.convert_to_tensor(candidates))
    pointing = np.zeros((1, 32, 48, 1), np.float32)
    pointing[0, *place] = 1
    chosen = voting.choose(ops.convert_to_tensor(pointing), ballot)
    agreement = ops.convert_to_numpy(voting.agreement(ballot.candidates[..., :2], chosen))[0, ..., 0]
    assert agreement[place] > 0
    assert (agreement[discs[0]] > 0).all()
    assert not (agreement[discs[1]] > 0).any()


def test_the_memory_covers_where_a_step_pointed(model):
    pictures = images()
    reading = model.decoder.prepare(model.project(pictures, training=False), (48, 64))
    memory = model.decoder.start(reading)
    for _ in range(3):
        step = model.decoder.step(reading, memory)
        pointing, found = (ops.convert_to_numpy(x) for x in (step.pointing_logits, step.memory.found))
        for points, covered in zip(pointing, found, strict=True):
            assert covered.ravel()[points.argmax()] > 0.9
        assert (found >= ops.convert_to_numpy(memory.found)).all()
        memory = step.memory


def test_positions_have_their_corners_on_corners():
    positions = ops.convert_to_numpy(pixel_positions((3, 5), (33, 65)))[0]
    np.testing.assert_allclose(positions[0, 0], [0, 0])
    np.testing.assert_allclose(positions[2, 4], [32 / UNIT, 64 / UNIT])
    np.testing.assert_allclose(positions[1, 1], [16 / UNIT, 16 / UNIT])


def test_outputs_have_the_promised_shapes(model):
    outputs = model(images(), num_steps=3, training=False)
    assert outputs["mask_logits"].shape == (2, 3, 48, 64)
    assert outputs["class_probs"].shape == (2, 3, 2)
    assert outputs["stop_logits"].shape == (2, 3)
    assert outputs["pointing_logits"].shape == (2, 12, 16, 3)
    assert outputs["votes"].shape == (2, 24, 32, 2)


def test_found_objects_change_what_comes_next_and_none_change_nothing(model):
    pictures = images()
    plain = model(pictures, training=False)["pointing_logits"]
    nothing = model({"images": pictures, "found": np.zeros((2, 48, 64), np.uint8)}, training=False)["pointing_logits"]
    np.testing.assert_allclose(plain, nothing, atol=1e-6)
    found = np.zeros((2, 48, 64), np.uint8)
    found[:, :24] = 1
    held_down = model({"images": pictures, "found": found}, training=False)["pointing_logits"]
    first = ops.convert_to_numpy(held_down - plain)[..., 0]
    assert first[:, :5].max() < -5  # the inhibition, but for what the cells make of it
    assert np.abs(first[:, 8:]).max() < 2


def test_a_saved_model_answers_alike(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    pictures = images()
    for name, value in model(pictures, training=False).items():
        np.testing.assert_array_equal(value, again(pictures, training=False)[name])


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
def test_what_does_not_fit_together_is_refused(fields):
    name, value = next(iter(fields.items()))
    with pytest.raises(InputError, match=f"Received: {name}={value!r}"):
        ModelConfig(**{**VOTING, **fields})


def test_votes_stay_float32_in_mixed_precision():
    model = build_for_training(ModelConfig(**VOTING), precision="mixed_bfloat16")
    outputs = model(images(), num_steps=2, training=True)
    assert all(keras.backend.standardize_dtype(value.dtype) == "float32" for value in outputs.values())
    # 16 bits of bfloat16 would put positions beyond 128 pixels off by half a pixel and more.
    start = ops.convert_to_numpy(pixel_positions((24, 32), (48, 64)))
    assert model.decoder.voting.dense_head.compute_dtype == "bfloat16"
    assert np.abs(ops.convert_to_numpy(outputs["votes"]) - start).max() < 5


def test_a_neck_alone_serves_the_convolution_head():
    config = ModelConfig(**{**VOTING, "mask_head": "convolution"})
    outputs = build_model(config)(images(), num_steps=2, training=False)
    assert sorted(outputs) == ["class_probs", "mask_logits", "stop_logits"]
