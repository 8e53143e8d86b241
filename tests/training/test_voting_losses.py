"""The losses of the voting head: zero for perfect votes, high for pointing at an object that has been found."""

import numpy as np
import pytest
from keras import ops
from tiny import tiny_model

from rsis_tf.config import DataConfig, TrainConfig
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.models.mask_heads.voting import UNIT
from rsis_tf.training import compile_model
from rsis_tf.training.losses.voting import fit_discs, nearest_pixels, pointing_loss, sample, voting_loss


def two_squares():
    masks = np.zeros((1, 3, 32, 32), np.float32)  # the third mask is empty
    masks[0, 0, 2:13, 2:13] = 1
    masks[0, 1, 16:27, 18:29] = 1
    return masks


def test_centre_and_radius_of_a_square():
    _, centres, radii = map(ops.convert_to_numpy, fit_discs(ops.convert_to_tensor(two_squares())))
    np.testing.assert_allclose(centres[0] * UNIT, [[7, 7], [21, 23], [0, 0]], atol=1e-5)
    np.testing.assert_allclose(radii[0] * UNIT, [np.sqrt(121 / np.pi)] * 2 + [0], atol=1e-5)


def perfect_outputs(masks, size=16):
    small = ops.convert_to_numpy(sample(ops.convert_to_tensor(masks), (size, size)))[0]
    votes, log_radius = np.zeros((1, size, size, 2), np.float32), np.zeros((1, size, size, 1), np.float32)
    for object_mask, centre in zip(small, [(7, 7), (21, 23), (0, 0)], strict=True):
        votes[0][object_mask > 0] = np.array(centre) / UNIT
        log_radius[0][object_mask > 0] = np.log(np.sqrt(121 / np.pi) / UNIT)
    foreground = np.where(small.any(0), 20.0, -20.0)[None, ..., None].astype(np.float32)
    return {"foreground_logits": foreground, "votes": votes, "log_radius": log_radius}


def loss_of(outputs, ignored=None):
    outputs = {name: ops.convert_to_tensor(value, "float32") for name, value in outputs.items()}
    ignored = None if ignored is None else ops.convert_to_tensor(ignored)
    discs = fit_discs(ops.convert_to_tensor(two_squares()))
    return float(voting_loss(discs, ops.convert_to_tensor([2], "int32"), outputs, ignored))


def test_perfect_votes_cost_nothing_and_votes_one_radius_off_cost_one():
    outputs = perfect_outputs(two_squares())
    assert loss_of(outputs) == pytest.approx(0, abs=0.011)  # √1e-4, which keeps the gradient finite
    radius = np.sqrt(121 / np.pi) / UNIT
    assert loss_of({**outputs, "votes": outputs["votes"] + [0, radius]}) == pytest.approx(1, abs=0.01)
    assert loss_of({**outputs, "log_radius": outputs["log_radius"] + 0.5}) == pytest.approx(0.51, abs=0.011)


def test_ignored_pixels_cost_nothing():
    outputs = perfect_outputs(two_squares())
    outputs["foreground_logits"][:, 13:, :4] = 20  # an unlabelled object in the lower left corner
    ignored = np.zeros((1, 32, 32), np.float32)
    assert loss_of(outputs, ignored) > 0.5
    ignored[:, 24:, :10] = 1
    assert loss_of(outputs, ignored) == pytest.approx(0, abs=0.011)
    assert loss_of(outputs, np.ones_like(ignored)) == pytest.approx(0, abs=0.011)


def test_the_criterion_passes_ignored_pixels_on():
    data = DataConfig(image_size=(32, 32), batch_size=2, max_objects=2)
    scenes = SyntheticDataset(size=(32, 32), length=2, seed=3, max_objects=3)
    model = tiny_model(neck_channels=8, mask_head="voting", decoder_stages=4)
    compile_model(model, TrainConfig(num_steps=2))
    images, targets = next(plain_batches(scenes, data, training=False))
    outputs = model(images, training=False)
    losses = [
        float(
            model.objective.criterion({**targets, "ignored": np.full((2, 32, 32), value, np.uint8)}, outputs)[
                "voting_loss"
            ]
        )
        for value in (0, 1)
    ]
    foreground = ops.convert_to_numpy(outputs["foreground_logits"])[..., 0]
    inside = ops.convert_to_numpy(ops.max(sample(ops.cast(targets["masks"], "float32"), foreground.shape[1:]), axis=1))
    expected = np.mean(np.logaddexp(0, foreground) - inside * foreground)
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("objects", [0, 2])
def test_a_traced_step_takes_images_of_any_size_and_number_of_objects(objects):
    import tensorflow as tf

    model = tiny_model(neck_channels=8, mask_head="voting", decoder_stages=4)
    compile_model(model, TrainConfig(num_steps=2))
    masks = two_squares()[:, :objects, :, :30].astype(np.uint8)
    targets = {"masks": masks, "classes": np.ones((1, objects), np.int32), "valid": np.ones((1, objects), np.int32)}
    outputs = model(np.full((1, 32, 30, 3), 90, np.uint8), training=False)
    outputs = {name: ops.convert_to_tensor(value) for name, value in outputs.items()}
    targets = {name: tf.constant(value) for name, value in targets.items()}
    keeps = {"pointing_logits": (3,), "mask_logits": (1,)}  # axes that the model always knows: steps, classes, channels
    specs = [{name: tf.TensorSpec([None] * len(v.shape), v.dtype) for name, v in targets.items()}, {}]
    for name, value in outputs.items():
        known = keeps.get(name, (len(value.shape) - 1, 1) if len(value.shape) < 4 else (3,))
        shape = [side if axis in known else None for axis, side in enumerate(value.shape)]
        specs[1][name] = tf.TensorSpec(shape, value.dtype)
    traced = tf.function(model.objective.criterion, input_signature=specs)(targets, outputs)
    for name, value in model.objective.criterion(targets, outputs).items():
        assert np.isfinite(float(value))
        assert float(traced[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("count", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("length", [1, 8, 13, 64, 97])
def test_the_nearest_pixels_are_the_same_for_sizes_that_are_not_known(count, length):
    known = ops.convert_to_numpy(nearest_pixels(count, length))
    unknown = ops.convert_to_numpy(nearest_pixels(ops.convert_to_tensor(count), ops.convert_to_tensor(length)))
    np.testing.assert_array_equal(unknown, known)


@pytest.mark.parametrize(("places", "cheap"), [([(3, 3), (10, 11)], True), ([(3, 3), (3, 3)], False)])
def test_pointing_is_cheap_only_at_objects_that_are_left(places, cheap):
    logits = np.zeros((1, 16, 16, 3), np.float32)
    for step, (row, column) in enumerate(places):
        logits[0, row, column, step] = 30
    pairs = np.zeros((1, 3, 3), np.float32)
    pairs[0, 0, 0] = pairs[0, 1, 1] = 1
    loss = pointing_loss(fit_discs(two_squares()), *(ops.convert_to_tensor(x) for x in (pairs, np.int32([2]), logits)))
    assert (float(loss) < 0.2) == cheap


def test_objects_found_before_the_first_step_are_not_expected():
    logits = np.zeros((1, 16, 16, 1), np.float32)
    logits[0, 3, 3] = 30
    pairs = np.zeros((1, 3, 1), np.float32)
    pairs[0, 0, 0] = 1
    few = pointing_loss(fit_discs(two_squares()), *(ops.convert_to_tensor(x) for x in (pairs, np.int32([1]), logits)))
    none = pointing_loss(
        fit_discs(two_squares()), *(ops.convert_to_tensor(x) for x in (0 * pairs, np.int32([0]), logits))
    )
    assert float(few) < 0.2
    assert float(none) == 0


def test_the_sequence_length_shortens_training_only():
    data = DataConfig(image_size=(32, 32), batch_size=2, max_objects=3, partial_sequences=1.0)
    scenes = SyntheticDataset(size=(32, 32), length=2, seed=3, max_objects=3)
    model = tiny_model(neck_channels=8, mask_head="voting", decoder_stages=4)
    compile_model(model, TrainConfig(num_steps=4, sequence_length=2))
    x, _ = next(plain_batches(scenes, data, training=True))
    assert model(x, training=True)["stop_logits"].shape == (2, 2)
    assert model(x["images"], training=False)["stop_logits"].shape == (2, 4)
    assert model(x, num_steps=3, training=True)["stop_logits"].shape == (2, 3)


def test_it_memorises_two_images():
    data = DataConfig(image_size=(64, 64), batch_size=2, max_objects=3, partial_sequences=0.5)
    scenes = SyntheticDataset(size=(64, 64), length=2, seed=3, max_objects=3)
    model = tiny_model(neck_channels=16, mask_head="voting", decoder_stages=4, min_channels=8)
    compile_model(model, TrainConfig(num_steps=3, learning_rate=3e-3, encoder_learning_rate=3e-3))
    losses = []
    for epoch in range(90):
        for batch in plain_batches(scenes, data, training=True, epoch=epoch):
            losses.append(model.train_on_batch(*batch, return_dict=True))
            model.reset_metrics()
    assert set(losses[0]) == {"loss", "mask_loss", "class_loss", "stop_loss", "voting_loss", "pointing_loss"}
    for name in ("loss", "mask_loss", "voting_loss", "pointing_loss"):
        before, after = (np.mean([float(step[name]) for step in part]) for part in (losses[:3], losses[-3:]))
        assert after < 0.25 * before, name
