"""Losses and matching."""

import itertools

import numpy as np
import pytest
from golden_weights import GOLDEN
from keras import ops

from rsis_tf.config import LossConfig
from rsis_tf.ops import pairwise_soft_iou, resize
from rsis_tf.training.losses.criterion import (
    Criterion,
    balanced_stop_loss,
    mean_negative_log_likelihood,
    pairwise_cross_entropy,
)
from rsis_tf.training.matcher import match, match_in_graph


@pytest.mark.parametrize("file", ["matching0", "matching1"])
def test_matching_equals_the_original(file):
    golden = np.load(GOLDEN / f"{file}.npz")
    assignment, weight = match(golden["cost"], golden["objects"])
    for b, objects in enumerate(golden["objects"]):
        np.testing.assert_array_equal(assignment[b, :objects], golden["assignment"][b, :objects])
        assert weight[b].tolist() == [1.0] * objects + [0.0] * (weight.shape[1] - objects)


@pytest.mark.parametrize(("objects", "steps"), [(0, 3), (1, 3), (3, 3), (2, 4), (5, 3), (4, 1)])
def test_matching_is_the_cheapest_of_all(objects, steps):
    cost = np.random.default_rng(objects * 10 + steps).random((3, 6, steps))
    assignment, weight = match(cost, np.full(3, objects))
    used = min(objects, steps)
    assert (weight == ([1] * used + [0] * (steps - used))).all()
    for b in range(3):
        chosen = assignment[b, :used]
        assert len(set(chosen.tolist())) == used
        total = cost[b, chosen, np.arange(used)].sum()
        every = (cost[b, list(rows), np.arange(used)].sum() for rows in itertools.permutations(range(objects), used))
        assert total == pytest.approx(min(every))


def test_matching_takes_nan_for_a_cost_of_one():
    cost = np.array([[[np.nan, 0.5, np.nan], [0.2, np.nan, 2.0]]])
    assignment, weight = match(cost, np.array([2]))
    np.testing.assert_array_equal(assignment, [[1, 0, 0]])
    np.testing.assert_array_equal(weight, [[1, 1, 0]])
    assignment, weight = match(np.full((1, 2, 3), np.nan), np.array([2]))
    assert sorted(assignment[weight == 1].tolist()) == [0, 1]


def test_matching_refuses_a_wrong_count():
    with pytest.raises(ValueError, match=r"count must lie in 0..2 \(N\). Received: count\[0\]=3"):
        match(np.zeros((1, 2, 3)), np.array([3]))


def test_matching_in_the_graph_is_the_same():
    cost, count = np.random.default_rng(0).random((2, 4, 3)).astype("float32"), np.array([4, 2], "int32")
    for inside, outside in zip(match_in_graph(ops.convert_to_tensor(cost), count), match(cost, count), strict=True):
        np.testing.assert_array_equal(inside, outside)


def test_row_losses_equal_the_original():
    golden = np.load(GOLDEN / "losses.npz")
    mask = golden["mask_target"].astype("float32")[:, None, None]  # (40, 1, 1, 300)
    probs = ops.sigmoid(golden["mask_logits"].astype("float32")[:, None, None])
    np.testing.assert_allclose(1 - pairwise_soft_iou(mask, probs)[:, 0, 0], golden["soft_iou"], atol=1e-6)
    for row, (p, target) in enumerate(zip(golden["class_probs"], golden["class_target"], strict=True)):
        loss = mean_negative_log_likelihood(p[None, None], target[None].astype("int32"), np.ones((1, 1), "float32"))
        assert float(loss) == pytest.approx(float(golden["nll"][row]), rel=1e-5)
    for row, (x, target) in enumerate(zip(golden["stop_logits"], golden["stop_target"], strict=True)):
        count = np.array([int(target[0])], "int32")
        loss = balanced_stop_loss(ops.convert_to_tensor(x[None].astype("float32")), count, balance=0.5)
        assert float(loss) == pytest.approx(float(golden["stop_bce_balanced_half"].ravel()[row]), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("balance", [0.0, 0.2, 1.0])
def test_both_sides_of_the_stop_loss_are_weighted_as_in_the_original(balance):
    """Steps with an object have the weight 1 − b, the one after them b; the original's numbers are for b = 0.5."""
    golden = np.load(GOLDEN / "losses.npz")
    halves, targets = golden["stop_bce_balanced_half"].ravel(), golden["stop_target"].ravel()
    expected = np.where(targets == 1, 1 - balance, balance) / 0.5 * halves
    assert set(targets.tolist()) == {0.0, 1.0}
    for row, logit in enumerate(golden["stop_logits"].ravel().astype("float32")):
        count = np.array([int(targets[row])], "int32")
        loss = balanced_stop_loss(ops.convert_to_tensor(logit[None, None]), count, balance=balance)
        assert float(loss) == pytest.approx(float(expected[row]), rel=1e-5, abs=1e-7)


def test_the_mask_weight_scales_the_mask_loss_and_leaves_the_matching():
    targets, outputs = batch([4, 2])
    one, three = (Criterion(LossConfig(mask_weight=weight))(targets, outputs) for weight in (1.0, 3.0))
    for name in ("mask_loss", "class_loss", "stop_loss"):
        assert float(three[name]) == float(one[name])
    assert float(three["loss"]) == pytest.approx(float(one["loss"]) + 2 * float(one["mask_loss"]), rel=1e-5)


def test_pairwise_cross_entropy_is_the_mean_over_pixels():
    rng = np.random.default_rng(0)
    masks, logits = (rng.random((2, 3, 4, 5)) > 0.5).astype("float32"), rng.normal(size=(2, 4, 4, 5)).astype("float32")
    p = 1 / (1 + np.exp(-logits))
    y, q = masks[:, :, None], p[:, None]
    expected = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean((-1, -2))
    np.testing.assert_allclose(pairwise_cross_entropy(masks, logits), expected, rtol=1e-4)


def batch(counts, *, objects=4, steps=5, size=12, seed=0):
    rng = np.random.default_rng(seed)
    masks = (rng.random((len(counts), objects, size, size)) > 0.6).astype("uint8")
    valid = (np.arange(objects) < np.array(counts)[:, None]).astype("uint8")
    classes = rng.integers(1, 3, (len(counts), objects)).astype("int32")
    probs = rng.random((len(counts), steps, 3)).astype("float32")
    outputs = {
        "mask_logits": ops.convert_to_tensor(rng.normal(size=(len(counts), steps, size, size)).astype("float32")),
        "class_probs": ops.convert_to_tensor(probs / probs.sum(-1, keepdims=True)),
        "stop_logits": ops.convert_to_tensor(rng.normal(size=(len(counts), steps)).astype("float32")),
    }
    return {"masks": masks, "classes": classes, "valid": valid}, outputs


def test_order_of_the_objects_does_not_matter():
    targets, outputs = batch([4, 4])
    turned = {key: value[:, ::-1] for key, value in targets.items()}
    for key, value in Criterion(LossConfig())(targets, outputs).items():
        assert float(Criterion(LossConfig())(turned, outputs)[key]) == pytest.approx(float(value), rel=1e-5), key


def test_a_batch_without_objects_costs_only_the_stop():
    losses = Criterion(LossConfig())(*batch([0, 0]))
    assert float(losses["mask_loss"]) == float(losses["class_loss"]) == 0
    assert float(losses["loss"]) == pytest.approx(0.5 * float(losses["stop_loss"]))


def test_a_batch_may_have_no_place_for_objects():
    targets, outputs = batch([0, 0])
    expected = Criterion(LossConfig())(targets, outputs)
    none = {key: value[:, :0] for key, value in targets.items()}  # N = 0
    for key, value in Criterion(LossConfig(mask_cross_entropy=1.0))(none, outputs).items():
        assert float(value) == pytest.approx(float(expected[key])), key


def test_the_classes_of_unused_places_are_not_read():
    targets, outputs = batch([2, 0])
    expected = Criterion(LossConfig())(targets, outputs)
    unused = {**targets, "classes": np.where(targets["valid"], targets["classes"], -1).astype("int32")}
    for key, value in Criterion(LossConfig())(unused, outputs).items():
        assert float(value) == pytest.approx(float(expected[key])), key


def test_a_traced_step_takes_batches_of_any_number_of_objects():
    """`tf.data.Dataset.padded_batch` pads to the most objects of a batch, so N is unknown when the step is traced."""
    import tensorflow as tf

    shapes = {"masks": (None, None, 12, 12), "classes": (None, None), "valid": (None, None)}
    specs = {key: tf.TensorSpec(shape, tf.int32) for key, shape in shapes.items()}
    outputs = batch([0, 0])[1]
    traced = tf.function(lambda targets: Criterion(LossConfig())(targets, outputs), input_signature=[specs])
    for objects in (0, 1, 4):
        targets = {key: value.astype("int32") for key, value in batch([min(objects, 3), 0], objects=objects)[0].items()}
        losses = traced({key: tf.constant(value) for key, value in targets.items()})
        for key, value in Criterion(LossConfig())(targets, outputs).items():
            assert float(losses[key]) == pytest.approx(float(value), rel=1e-5), key


def test_perfect_masks_cost_nothing_without_the_other_losses():
    targets, outputs = batch([3], steps=3)
    outputs["mask_logits"] = ops.convert_to_tensor((targets["masks"][:, :3] * 200.0 - 100).astype("float32"))
    criterion = Criterion(LossConfig(mask_cross_entropy=1.0), use_class_loss=False, use_stop_loss=False)
    losses = criterion(targets, outputs)
    assert float(losses["loss"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["class_loss"]) > 0


def test_resize_aligns_corners():
    x = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    np.testing.assert_allclose(np.ravel(resize(x, (1, 7))), np.arange(7) / 2, atol=1e-6)
    rng = np.random.default_rng(0)
    x = rng.random((2, 5, 3, 2)).astype("float32")
    large = np.asarray(resize(x, (9, 7)))
    np.testing.assert_allclose(large[:, ::8, ::6], x[:, ::4, ::2], atol=1e-6)  # corners
    np.testing.assert_allclose(large[:, ::2, ::3], x, atol=1e-6)  # (n - 1) is a divisor: every input pixel is hit


@pytest.mark.parametrize("cross_entropy", [0.0, 2.0])
def test_padding_costs_nothing_and_background_does(cross_entropy):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    masks = np.zeros((2, 3, 8, 8), np.uint8)
    masks[:, 0, 2:4, 1:5], masks[:, 1, 4:6, 3:7] = 1, 1
    padding = np.zeros((2, 8, 8), np.uint8)
    padding[:, :2], padding[:, 6:] = 1, 1
    targets = {"masks": masks, "classes": np.ones((2, 3), np.int32), "valid": np.array([[1, 1, 0]] * 2, np.uint8)}
    shown = rng.normal(size=(2, 3, 8, 8)).astype("float32")
    hidden = np.where(padding[:, None], 50.0, shown).astype("float32")  # confident of an object beside the image
    rest = {"class_probs": np.full((2, 3, 2), 0.5, "float32"), "stop_logits": np.zeros((2, 3), "float32")}
    criterion = Criterion(LossConfig(mask_cross_entropy=cross_entropy))

    def loss(logits, padded):
        given = targets | ({"padding": padding} if padded else {})
        return float(criterion(given, {"mask_logits": ops.convert_to_tensor(logits), **rest})["mask_loss"])

    assert loss(shown, True) == pytest.approx(loss(hidden, True), rel=1e-6)
    assert loss(hidden, False) > loss(shown, False) + 0.02
    # The loss is the one of the image alone (the cross-entropy is a mean over the frame's 64 pixels, not over 32).
    inner = targets | {"masks": masks[:, :, 2:6]}
    alone = Criterion(LossConfig(mask_cross_entropy=cross_entropy / 2))
    cut = {"mask_logits": ops.convert_to_tensor(shown[:, :, 2:6]), **rest}
    assert float(alone(inner, cut)["mask_loss"]) == pytest.approx(loss(shown, True), rel=1e-5)

    logits = tf.Variable(hidden)
    with tf.GradientTape() as tape:
        value = criterion(targets | {"padding": padding}, {"mask_logits": logits + 0, **rest})["loss"]
    gradient = tape.gradient(value, logits).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[np.broadcast_to(padding[:, None] == 1, gradient.shape)].any()
    assert gradient.any()
