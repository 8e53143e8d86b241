"""Recurrence in time for a trained network, after RVOS (Ventura et al., CVPR 2019), and its loss.

In the network of the paper, a ConvLSTM reads its own hidden state of the step before. Here it also reads its hidden
state of the same step in the frame before, so that a step can find the same object in each frame. As in RVOS, only the
hidden state passes from frame to frame, and one convolution reads it; the cell state passes from step to step alone.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.optimize import linear_sum_assignment

from rsis_tf.config import LossConfig
from rsis_tf.models import RSIS
from rsis_tf.models.conv_lstm import CellContext
from rsis_tf.models.decoder import stage_channels
from rsis_tf.ops import pairwise_soft_iou, resize
from rsis_tf.training.losses.criterion import number_of, pairwise_cross_entropy
from rsis_tf.training.losses.voting import fit_discs, pointing_loss, voting_loss

Tensor = Any
Carried = list[list[Tensor]]
"""Hidden state of each step and stage, (B, h, w, D) each: `carried[step][stage]`."""


class RecurrenceInTime(layers.Layer):
    """A network whose decoder also reads the hidden states of the frame before.

    The kernels of the frame before begin at zero. The outputs are then those of the network on each frame alone.

    Args:
        model: with the mask head "voting".
    """

    def __init__(self, model: RSIS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        size = model.config.kernel_size
        self.kernels = [
            self.add_weight(name=f"stage_{stage}", shape=(size, size, channels, 4 * channels), initializer="zeros")
            for stage, channels in enumerate(stage_channels(model.config))
        ]
        self.built = True

    def call(
        self, images: Tensor, carried: Carried | None = None, training: bool | None = None
    ) -> tuple[dict[str, Tensor], Carried]:
        """Predicts clips.

        Args:
            images: (B, F, H, W, 3), uint8 or float, RGB in 0..255.
            carried: hidden states of the frame before the first one; None for none.
            training: whether batch statistics are used and followed.

        Returns:
            The outputs of the network, each (B, F, …), without `class_probs`, and the hidden states of the last frame.
        """
        shape = ops.shape(images)
        flat = ops.reshape(images, (-1, *shape[2:]))  # (B·F, H, W, 3)
        maps = [
            ops.reshape(part, (-1, shape[1], *part.shape[1:]))  # (B, F, h, w, C)
            for part in self.model.project(flat, training=training)
        ]
        outputs = []
        for frame in range(shape[1]):
            of_frame, carried = self._frame([part[:, frame] for part in maps], shape[2:4], carried, training)
            outputs.append(of_frame)
        return {name: ops.stack([one[name] for one in outputs], axis=1) for name in outputs[0]}, carried

    def _frame(
        self, maps: list[Tensor], image_size: tuple[int, int], carried: Carried | None, training: bool | None
    ) -> tuple[dict[str, Tensor], Carried]:
        """Predicts one frame from its projections (B, h, w, C); returns its outputs and hidden states."""
        decoder = self.model.decoder
        context = decoder.prepare(maps, image_size)
        state, steps, hidden = decoder.start(context), [], []
        for number in range(self.model.config.num_steps):
            stages = context.stages
            if carried is not None:
                stages = [
                    stage._replace(cell=_reading(stage.cell, hidden_before, kernel))
                    for stage, hidden_before, kernel in zip(stages, carried[number], self.kernels, strict=True)
                ]
            steps.append(decoder.step(context._replace(stages=stages), state, training=training))
            state = steps[-1].state
            hidden.append([h for h, _ in state.stages])
        masks = resize(ops.concatenate([step.mask_logits for step in steps], axis=-1), image_size)  # (B, H, W, T)
        _, stop = decoder.heads(ops.stack([step.features for step in steps], axis=1), training=training)
        outputs = {"mask_logits": ops.transpose(masks, (0, 3, 1, 2)), "stop_logits": stop, **context.outputs}
        for name in steps[0].outputs:
            outputs[name] = ops.concatenate([step.outputs[name] for step in steps], axis=-1)  # (B, h, w, T)
        return outputs, hidden


def _reading(cell: CellContext, hidden: Tensor, kernel: Tensor) -> CellContext:
    """Adds what the hidden state of the frame before contributes to the gates; a convolution is linear."""
    return cell._replace(gates=cell.gates + ops.conv(hidden, kernel, strides=1, padding="same"))


def assign_steps(cost: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Assigns each object of a clip to one step, in the first frame in which it is visible.

    The n objects that appear in a frame are assigned among the first n free steps with the smallest total cost. The
    assignment then holds for the rest of the clip. RVOS assigns all objects in the first frame; later ones take free
    steps here, as new objects take free queries in MOTR (Zeng et al., 2022).

    Args:
        cost: (B, F, N, T) of object n at step t.
        visible: (B, F, N), 1 where the object is visible.

    Returns:
        (B, F, N, T) float32, 1 where an object is visible and assigned to the step.
    """
    pairs = np.zeros(cost.shape, np.float32)
    for b, frames in enumerate(np.asarray(visible, bool)):
        step_of: dict[int, int] = {}
        for f, seen in enumerate(frames):
            new = [n for n in np.flatnonzero(seen) if n not in step_of]
            free = [t for t in range(cost.shape[3]) if t not in step_of.values()][: len(new)]
            for row, column in zip(*linear_sum_assignment(cost[b, f][np.ix_(new, free)]), strict=True):
                step_of[new[row]] = free[column]
            for n in np.flatnonzero(seen):
                if n in step_of:
                    pairs[b, f, n, step_of[n]] = 1
    return pairs


def clip_loss(masks: Tensor, outputs: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Returns the loss of clips, a scalar.

    Its terms are those of the criterion with two differences: the stop logit of a step says whether the object of the
    step is visible in the frame, and a step has to point at its own object, not at any that is left.

    Args:
        masks: (B, F, N, H, W) of 0 and 1; an object that is not visible has an empty mask.
        outputs: of `RecurrenceInTime`.
        config: weights of the losses.
    """
    clips, frames = masks.shape[:2]
    masks = _joined(ops.cast(masks, "float32"))  # (B·F, N, H, W)
    outputs = {name: _joined(output) for name, output in outputs.items()}
    logits, stop = outputs["mask_logits"], outputs["stop_logits"]  # (B·F, T, H, W), (B·F, T)
    shape = masks.shape[1], logits.shape[1]
    cost = 1 - pairwise_soft_iou(masks, ops.sigmoid(logits))  # (B·F, N, T)
    visible = ops.any(masks > 0, axis=(2, 3))  # (B·F, N)
    clip_cost = ops.reshape(cost, (clips, frames, *shape))  # (B, F, N, T)
    pairs = tf.numpy_function(
        assign_steps, [clip_cost, ops.reshape(visible, (clips, frames, -1))], tf.float32, stateful=False
    )
    pairs = ops.stop_gradient(ops.reshape(pairs, cost.shape))  # (B·F, N, T)
    cost = cost + config.mask_cross_entropy * pairwise_cross_entropy(masks, logits)
    present = ops.sum(pairs, axis=1)  # (B·F, T)
    seen = ops.sum(ops.cast(visible, "int32"), axis=1)  # (B·F,)
    # Each step of each frame is an image with one object, the one of the step.
    own = ops.einsum("bnt,bnhw->bthw", pairs, masks)
    own = ops.reshape(own, (-1, 1, *masks.shape[2:]))  # (B·F·T, 1, H, W)
    pointing = ops.transpose(outputs["pointing_logits"], (0, 3, 1, 2))  # (B·F, T, h, w)
    pointing = ops.reshape(pointing, (-1, *pointing.shape[2:], 1))  # (B·F·T, h, w, 1)
    alone = ops.zeros((own.shape[0], 1, 1))
    terms = {
        "voting_loss": voting_loss(fit_discs(masks), seen, outputs),
        "pointing_loss": pointing_loss(fit_discs(own), alone, ops.cast(ops.reshape(present, (-1,)), "int32"), pointing),
    }
    weights = config.of_head("voting")
    return (
        config.mask_weight * ops.sum(pairs * cost) / number_of(pairs)
        + config.stop_weight * ops.mean(ops.softplus(ops.where(present > 0, -stop, stop)))
        + sum(weights[name] * term for name, term in terms.items())
    )


def _joined(x: Tensor) -> Tensor:
    """Returns (B·F, …) from (B, F, …)."""
    return ops.reshape(x, (-1, *x.shape[2:]))
