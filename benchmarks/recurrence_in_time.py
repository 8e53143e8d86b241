"""Compares recurrence in time with tracking, on generated clips.

python benchmarks/recurrence_in_time.py

1. Two copies of the model `shapes` of the package are trained further on the same clips: one frame by frame, as
   `rsis train` does, and one that also reads the hidden states of the frame before (`temporal_decoder.py`).
2. Both predict longer sequences at several speeds. Identities are those of `rsis_tf.tracking.Tracker`, or the number of
   the step that found the object.

Columns: IoU, mean over the visible objects of the IoU with the object found for it in the frame, whatever its identity;
IDF1 and switches of identity; count, mean difference between the numbers of objects found and visible in a frame;
distinct, identities found in two or more frames, of the objects that are visible in as many.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from moving_clips import SIDE, Clip, batch, clip

from rsis_tf.config.presets import preset
from rsis_tf.engine import quiet_start
from rsis_tf.runtime import Instances, decode

quiet_start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from moving_shapes import instance  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from temporal_decoder import RecurrenceInTime, clip_loss  # noqa: E402
from tracking_scores import Frame, iou, score  # noqa: E402

from rsis_tf.models import RSIS  # noqa: E402
from rsis_tf.tracking import Tracker  # noqa: E402
from rsis_tf.training.losses.criterion import Criterion  # noqa: E402

Tensor = Any
Loss = Callable[[Tensor, Tensor], Tensor]
"""Images (B, F, H, W, 3) and masks (B, F, N, H, W) → a scalar."""

SETTINGS = preset("shapes", dataset="shapes")
TRAINING_SPEED = 0.2, 1.5
"""Smallest and largest speed of the clips of a training, in radii of the object a frame."""


def visible_first(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the masks (B·F, N, H, W) of single frames, visible objects first, and (B·F, N), which are visible."""
    flat = masks.reshape(-1, *masks.shape[2:])  # (B·F, N, H, W)
    visible = flat.any(axis=(2, 3))
    order = np.argsort(~visible, axis=1, kind="stable")
    return np.take_along_axis(flat, order[:, :, None, None], axis=1), np.take_along_axis(visible, order, axis=1)


def frame_loss(model: RSIS) -> Loss:
    """Returns the loss of frames one by one: the criterion of `rsis train`, without classes."""
    criterion = Criterion(SETTINGS.train.losses, mask_head=model.config.mask_head, use_class_loss=False)

    def loss(images: Tensor, masks: Tensor) -> Tensor:
        outputs = model.unroll(tf.reshape(images, (-1, *images.shape[2:])), training=True)[0]
        ordered, visible = tf.numpy_function(visible_first, [masks], [tf.uint8, tf.bool])
        shape = (images.shape[0] * images.shape[1], *masks.shape[2:])
        targets = {
            "masks": tf.ensure_shape(ordered, shape),
            "classes": tf.ones(shape[:2], tf.int32),
            "valid": tf.ensure_shape(visible, shape[:2]),
        }
        return criterion(targets, outputs)["loss"]

    return loss


def time_loss(model: RecurrenceInTime) -> Loss:
    """Returns the loss of clips."""
    return lambda images, masks: clip_loss(masks, model(images, training=True)[0], SETTINGS.train.losses)


def train(name: str, loss: Loss, variables: list, batches: Iterable[list[Clip]], rates: Sequence[float]) -> None:
    """Trains variables with Adam, one update for each rate.

    Args:
        name: for the screen.
        loss: of a batch.
        variables: to train; those of the class head are left out: classes do not matter here.
        batches: of clips.
        rates: learning rate of each update.
    """
    variables = [variable for variable in variables if "class_head" not in variable.path]
    optimizer = keras.optimizers.Adam(rates[0], global_clipnorm=5.0)
    optimizer.build(variables)

    @tf.function
    def update(images: Tensor, masks: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            value = loss(images, masks)
        optimizer.apply(tape.gradient(value, [variable.value for variable in variables]), variables)
        return value

    start, values = time.process_time(), []
    for number, (rate, clips) in enumerate(zip(rates, batches, strict=False), start=1):
        optimizer.learning_rate = rate
        images, masks = batch(clips)
        values.append(float(update(tf.constant(images), tf.constant(masks))))
        if number % 100 == 0 or number == len(rates):
            seconds = time.process_time() - start
            print(
                f"{name}: update {number}, loss {np.mean(values[-100:]):.3f}, {seconds:.0f} s of CPU time", flush=True
            )


def batches(seed: Sequence[int], clips: int, frames: int) -> Iterable[list[Clip]]:
    """Yields batches of clips without end, the same ones for a seed."""
    generator = np.random.default_rng(seed)
    while True:
        yield [clip(frames, generator.uniform(*TRAINING_SPEED), generator) for _ in range(clips)]


def predict(model: RecurrenceInTime, sequences: list[Clip], *, carry: bool) -> list[list[Instances]]:
    """Returns the objects of each frame of each sequence.

    Args:
        model: the network.
        sequences: B clips of equal length.
        carry: whether the hidden states of the frame before are read. A step that finds nothing then ends nothing,
            because its object may return.
    """
    images, _ = batch(sequences)
    carried, found = None, [[] for _ in sequences]
    classes = np.tile(np.array([0, 1], np.float32), (model.model.config.num_steps, 1))  # (T, K)
    for frame in range(images.shape[1]):
        outputs, hidden = model(images[:, frame : frame + 1], carried, training=False)
        carried = hidden if carry else None
        masks, stop = (tf.sigmoid(outputs[f"{name}_logits"][:, 0]).numpy() for name in ("mask", "stop"))
        for b, objects in enumerate(found):
            mode = "each" if carry else "first"
            options = {"size": (SIDE, SIDE), "class_names": ("background", "object"), "stop_mode": mode}
            objects.append(decode(masks[b], classes, stop[b], **options))
    return found


class Row(NamedTuple):
    """Means and sums over sequences, as in the docstring of this file."""

    iou: float
    idf1: float
    switches: int
    count: float
    distinct: int
    objects: int


def evaluate(sequences: list[Clip], found: list[list[Instances]], *, tracked: bool) -> Row:
    """Scores the objects found; with `tracked`, identities come from the tracker, otherwise from the steps."""
    ious, differences, scores, distinct, objects = [], [], [], 0, 0
    for sequence, frames in zip(sequences, found, strict=True):
        (masks,) = batch([sequence])[1]  # (F, N, H, W)
        truth = [{n: instance(mask > 0) for n, mask in enumerate(of_frame) if mask.any()} for of_frame in masks]
        if tracked:
            stream = Tracker().stream(frames)
            named: list[Frame] = [{i: one for one, i in zip(f or (), ids, strict=True) if i} for f, ids in stream]
        else:
            named = [{one.step: one for one in of_frame} for of_frame in frames]
        for true, guesses in zip(truth, named, strict=True):
            table = np.array([[iou(a, b) for b in guesses.values()] for a in true.values()])
            table = table.reshape(len(true), len(guesses))
            best = table[linear_sum_assignment(-table)]
            ious += [*best, *[0.0] * (len(true) - len(best))]
            differences.append(abs(len(true) - len(guesses)))
        scores.append(score(truth, named))
        distinct, objects = distinct + lasting(named), objects + lasting(truth)
    idf1 = float(np.mean([one.idf1 for one in scores]))
    switches = sum(one.switches for one in scores)
    return Row(float(np.mean(ious)), idf1, switches, float(np.mean(differences)), distinct, objects)


def lasting(frames: Sequence[Frame]) -> int:
    """Returns the number of identities that occur in two or more frames."""
    _, counts = np.unique([identity for frame in frames for identity in frame], return_counts=True)
    return int((counts > 1).sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one experiment each (default: 0 1 2)")
    parser.add_argument("--updates", type=int, default=300, help="of each copy (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at the start (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=4, help="of a batch (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=4, help="of a clip in training (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=32, help="to predict (default: %(default)s)")
    parser.add_argument("--length", type=int, default=24, help="frames of a sequence (default: %(default)s)")
    parser.add_argument("--speeds", type=float, nargs="+", default=[0.3, 1.0, 2.0], help="radii a frame")
    arguments = parser.parse_args(argv)
    for seed in arguments.seeds:
        keras.utils.set_random_seed(seed)
        alone, joined = (RecurrenceInTime(RSIS.from_pretrained("shapes")) for _ in range(2))
        rates = arguments.rate * (1 + np.cos(np.pi * np.arange(arguments.updates) / arguments.updates)) / 2
        for name, loss, variables in (
            ("frame by frame", frame_loss(alone.model), alone.model.trainable_variables),
            ("recurrence in time", time_loss(joined), joined.trainable_variables),
        ):
            train(name, loss, variables, batches((seed, 1), arguments.clips, arguments.frames), rates)
        for speed in arguments.speeds:
            generator = np.random.default_rng((seed, 2))
            sequences = [clip(arguments.length, speed, generator) for _ in range(arguments.sequences)]
            one, other = predict(alone, sequences, carry=False), predict(joined, sequences, carry=True)
            for name, found, tracked in (
                ("frame by frame, step", one, False),
                ("frame by frame, tracker", one, True),
                ("recurrence, step", other, False),
                ("recurrence, tracker", other, True),
            ):
                row = evaluate(sequences, found, tracked=tracked)
                print(
                    f"seed {seed}, speed {speed}, {name:<24} IoU {row.iou:.3f}, IDF1 {row.idf1:.3f}, "
                    f"switches {row.switches}, count {row.count:.3f}, distinct {row.distinct} of {row.objects}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
