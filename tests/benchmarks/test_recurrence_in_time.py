"""Recurrence in time: the decoder that reads the frame before, the assignment of steps, the clips, and the command."""

import pathlib
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import recurrence_in_time  # noqa: E402
from moving_clips import LEAST, MOST, Clip, batch, clip  # noqa: E402
from moving_shapes import instance  # noqa: E402
from temporal_decoder import RecurrenceInTime, assign_steps, clip_loss  # noqa: E402

from rsis_tf.config import LossConfig  # noqa: E402
from rsis_tf.models import build_model  # noqa: E402
from rsis_tf.runtime import Instances  # noqa: E402
from rsis_tf.training.losses.criterion import Criterion  # noqa: E402


@pytest.fixture(scope="module")
def frames():
    images, _ = batch([clip(3, 1.0, np.random.default_rng(seed)) for seed in range(2)])
    return images


def test_kernels_of_zero_give_the_outputs_of_each_frame_alone(frames):
    network = build_model(recurrence_in_time.SETTINGS.model)
    model, carried = RecurrenceInTime(network), None
    for frame in range(3):
        outputs, carried = model(frames[:, frame : frame + 1], carried)
        alone = network(frames[:, frame])
        for name in ("mask_logits", "stop_logits"):
            np.testing.assert_array_equal(outputs[name][:, 0], alone[name])


def test_a_frame_reads_the_one_before_and_not_the_one_after(frames):
    model = RecurrenceInTime(build_model(recurrence_in_time.SETTINGS.model))
    for kernel in model.kernels:
        kernel.assign(np.random.default_rng(0).normal(0, 0.1, kernel.shape))
    whole = model(frames)[0]["pointing_logits"].numpy()  # (B, F, h, w, T)
    other = frames.copy()
    other[:, 1] = 255 - other[:, 1]
    changed = np.abs(model(other)[0]["pointing_logits"].numpy() - whole).max(axis=(0, 2, 3, 4))  # (F,)
    assert changed[0] < 1e-4 < 1e-3 < changed[1:].min()
    # Step t reads step t of the frame before.
    _, carried = model(frames[:, :1])
    exchanged = [carried[t] for t in (0, 2, 1, 3)]
    here, there = (model(frames[:, 1:2], states)[0]["pointing_logits"] for states in (carried, exchanged))
    np.testing.assert_allclose(here[:, 0], whole[:, 1], atol=1e-4)
    np.testing.assert_array_equal(here[..., 0], there[..., 0])
    assert np.abs(there - here)[..., 1].max() > 1e-3


def test_the_loss_of_one_frame_is_that_of_the_criterion_without_pointing_and_stop():
    images, masks = batch([clip(1, 1.0, np.random.default_rng(seed)) for seed in range(3)])
    outputs, _ = RecurrenceInTime(build_model(recurrence_in_time.SETTINGS.model))(images)
    config = LossConfig(stop_weight=0, mask_cross_entropy=1, head_loss_weights={"pointing_loss": 0})
    ordered, visible = recurrence_in_time.visible_first(masks)
    targets = {"masks": ordered, "classes": np.ones_like(visible, np.int32), "valid": visible}
    flat = {name: output[:, 0] for name, output in outputs.items()} | {"class_probs": np.full((3, MOST, 2), 0.5, "f")}
    criterion = Criterion(config, mask_head="voting", use_class_loss=False)
    assert float(clip_loss(masks, outputs, config)) == pytest.approx(float(criterion(targets, flat)["loss"]), abs=1e-5)


def test_kernels_of_zero_learn(frames):
    _, masks = batch([clip(3, 1.0, np.random.default_rng(seed)) for seed in range(2)])
    model = RecurrenceInTime(build_model(recurrence_in_time.SETTINGS.model))
    with tf.GradientTape() as tape:
        loss = clip_loss(masks, model(frames, training=True)[0], recurrence_in_time.SETTINGS.train.losses)
    gradients = tape.gradient(loss, [kernel.value for kernel in model.kernels])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_an_object_keeps_its_step_and_a_later_one_takes_a_free_step():
    visible = np.array([[[1, 1, 0], [1, 0, 1], [1, 1, 1]]])  # (B, F, N): object 1 is hidden once, object 2 is late
    cost = np.ones((1, 3, 3, 4))
    cost[0, 0, 0, 1] = cost[0, 0, 1, 0] = 0.2  # in the first frame, object 0 fits step 1, and object 1 step 0
    cost[0, 0, 0, 3] = 0.0  # not among the first steps
    cost[0, 1:, 0, 0] = cost[0, 1:, 2, 1] = 0.0  # later, others would fit better
    pairs = assign_steps(cost, visible)
    assert [list(np.flatnonzero(pairs[0, f].any(axis=0))) for f in range(3)] == [[0, 1], [1, 2], [0, 1, 2]]
    assert [tuple(pair) for pair in np.argwhere(pairs[0, 2])] == [(0, 1), (1, 0), (2, 2)]


def test_objects_keep_their_number_and_colour():
    for seed in range(5):
        sequence = clip(8, 1.0, np.random.default_rng(seed))
        masks = batch([sequence])[1][0]  # (F, N, H, W)
        assert masks.shape == (8, MOST, 64, 64)
        for of_object in masks.transpose(1, 0, 2, 3):
            areas = of_object.sum(axis=(1, 2))
            assert all(area == 0 or area >= LEAST for area in areas)
            large = np.flatnonzero(areas >= 60)
            colours = np.array([sequence.images[f][of_object[f] > 0].mean(axis=0) for f in large])
            assert not len(large) or np.ptp(colours, axis=0).max() < 10


def test_scores_of_steps_and_of_the_tracker():
    labels = np.zeros((4, 64, 64), np.uint8)
    for frame in range(4):
        labels[frame, 8:20, 4 + 2 * frame : 16 + 2 * frame] = 1
        labels[frame, 40:52, 30:42] = 2
    sequence = Clip(np.zeros((4, 64, 64, 3), np.uint8), labels)
    # The steps exchange the two objects in the last frame; the tracker does not read steps.
    found = [
        Instances([instance(labels[f] == n, step=(n - 1) ^ (f == 3)) for n in (1, 2)], size=(64, 64)) for f in range(4)
    ]
    step = recurrence_in_time.evaluate([sequence], [found], tracked=False)
    assert step == (1.0, 0.75, 2, 0.0, 2, 2)
    assert recurrence_in_time.evaluate([sequence], [found], tracked=True) == (1.0, 1.0, 0, 0.0, 2, 2)
    nothing = [Instances([], size=(64, 64))] * 4
    assert recurrence_in_time.evaluate([sequence], [nothing], tracked=False) == (0.0, 0.0, 0, 2.0, 0, 2)


@pytest.mark.slow
def test_the_command_runs(capsys):
    options = "--seeds 0 --updates 1 --clips 1 --frames 2 --sequences 1 --length 2 --speeds 1"
    tf.config.run_functions_eagerly(True)  # one update takes less time than tracing
    try:
        recurrence_in_time.main(options.split())
    finally:
        tf.config.run_functions_eagerly(False)
    lines = capsys.readouterr().out.splitlines()
    assert sum("loss" in line for line in lines) == 2
    assert sum("IDF1" in line for line in lines) == 4
