"""The criterion: the losses of a batch of predictions, given its objects (paper, section 3.3)."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from rsis_tf.config import LossConfig
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.ops import pairwise_product, pairwise_soft_iou
from rsis_tf.replicas import all_reduce, in_replica, replica_loss
from rsis_tf.training.matcher import match_in_graph

Tensor = Any

PAPER_LOSSES = ("mask_loss", "class_loss", "stop_loss")

_ABSENT = -1e4
"""A mask logit whose sigmoid and softplus are 0."""


class Assignment(NamedTuple):
    """Which objects the steps of a batch are assigned to.

    Attributes:
        masks: (B, N, H, W) float, 0 or 1, all objects of the images.
        objects: (B,) int32, the objects of each image.
        count: (B,) int32, the objects that are left to find; the first ones.
        pairs: (B, N, T), 1 where object n is assigned to step t.
    """

    masks: Tensor
    objects: Tensor
    count: Tensor
    pairs: Tensor


HeadLosses = Callable[[dict[str, Tensor], dict[str, Tensor], Assignment], dict[str, Tensor]]
"""The further losses of a mask head: (targets, outputs, assignment) → loss term → scalar, unweighted.

Each term divides a sum over the images by a number of the whole batch (`number_of`, `all_reduce`).
"""


class Criterion:
    """Matches objects to predictions and returns mask, class and stop loss with their weighted sum.

    One (B, N, T) matrix holds 1 − soft IoU of every object and prediction. The matcher reads it on the host, and the
    mask loss is taken from the same matrix, so no mask is copied per pair or permuted.

    Args:
        config: weights of the losses.
        mask_head: of the model; its row in `MASK_HEADS` names further losses.
        use_class_loss, use_stop_loss: whether the loss takes part in the sum; it is computed in any case.
    """

    def __init__(
        self,
        config: LossConfig,
        *,
        mask_head: str = "convolution",
        use_class_loss: bool = True,
        use_stop_loss: bool = True,
    ) -> None:
        self.config = config
        spec = MASK_HEADS[mask_head]
        self.head_losses: HeadLosses | None = None
        if spec.losses is not None:
            module, _, function = spec.losses.partition(":")
            self.head_losses = getattr(importlib.import_module(module), function)
        self.weights: dict[str, float] = {"mask_loss": config.mask_weight}
        if use_class_loss:
            self.weights["class_loss"] = config.class_weight
        if use_stop_loss:
            self.weights["stop_loss"] = config.stop_weight
        self.weights |= config.of_head(mask_head)

    def __call__(self, targets: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Computes the losses.

        Args:
            targets: `masks` (B, N, H, W) of 0 and 1, `classes` (B, N) integer, `valid` (B, N) of 0 and 1; the valid
                objects of an image come first. N may be 0, and a traced step takes batches of any N. Optional:
                `remaining` (B,) integer, the number of objects that are left to find, which are the first ones;
                `padding` (B, H, W), 1 beside images that keep their shape, where masks cost nothing; `ignored`
                (B, H, W), 1 where it is unknown whether there is an object, which only the losses of some mask heads
                read.
            outputs: of the model.

        Returns:
            Scalars: the sum `loss`, and unweighted `mask_loss`, `class_loss`, `stop_loss` and the terms of the mask
            head. On a replica with a share of the batch they are those of the whole batch, except `loss`, which is what
            Keras expects there (`rsis_tf.replicas.replica_loss`).
        """
        masks = ops.cast(targets["masks"], "float32")
        mask_logits = outputs["mask_logits"]
        if "padding" in targets:  # logits so low that they have no cost and no gradient
            mask_logits = ops.where(ops.cast(targets["padding"], "bool")[:, None], _ABSENT, mask_logits)
        cost = 1 - pairwise_soft_iou(masks, ops.sigmoid(mask_logits))  # (B, N, T)
        objects = ops.sum(ops.cast(targets["valid"], "int32"), axis=1)  # (B,)
        count = ops.cast(targets["remaining"], "int32") if "remaining" in targets else objects
        assignment, weight = match_in_graph(cost, count)  # (B, T), (B, T)
        # Not `one_hot`, which must know N: a pipeline may pad each batch to as many objects as it has.
        numbers = ops.arange(ops.shape(cost)[1], dtype="int32")[None, :, None]  # (1, N, 1)
        pairs = ops.cast(assignment[:, None] == numbers, "float32") * weight[:, None]  # (B, N, T)
        if self.config.mask_cross_entropy:
            cost = cost + self.config.mask_cross_entropy * pairwise_cross_entropy(masks, mask_logits)
        # A sum over the pairs also holds for N = 0, where there is nothing to take.
        class_ids = ops.sum(ops.cast(pairs, "int32") * ops.cast(targets["classes"], "int32")[:, :, None], axis=1)
        terms = {
            "mask_loss": ops.sum(pairs * cost) / number_of(weight),
            "class_loss": mean_negative_log_likelihood(outputs["class_probs"], class_ids, weight),
            "stop_loss": balanced_stop_loss(outputs["stop_logits"], count, balance=self.config.stop_balance),
        }
        if self.head_losses is not None:
            terms |= self.head_losses(targets, outputs, Assignment(masks, objects, count, pairs))
        loss = sum(weight * terms[name] for name, weight in self.weights.items())
        losses = {"loss": loss, **terms}
        if in_replica():
            # Every mean above divides a sum over the share by a number of the whole batch.
            whole = dict(zip(losses, ops.unstack(all_reduce(ops.stack(list(losses.values())))), strict=True))
            losses = {**whole, "loss": replica_loss(loss, whole["loss"])}
        return losses


def pairwise_cross_entropy(masks: Tensor, mask_logits: Tensor) -> Tensor:
    """Mean cross-entropy per pixel of every prediction against every true mask.

    Σ (softplus(x) − y·x) needs only one product of masks and logits.

    Args:
        masks: (B, N, H, W) of 0 and 1.
        mask_logits: (B, T, H, W).

    Returns:
        (B, N, T).
    """
    pixel_sum = ops.sum(ops.softplus(mask_logits), axis=(2, 3))[:, None] - pairwise_product(masks, mask_logits)
    return pixel_sum / ops.cast(ops.shape(masks)[2] * ops.shape(masks)[3], "float32")


def mean_negative_log_likelihood(class_probs: Tensor, class_ids: Tensor, weight: Tensor) -> Tensor:
    """Mean −log p of the true class over the steps that have an object.

    Args:
        class_probs: (B, T, K).
        class_ids: (B, T) integer.
        weight: (B, T), 1 where a step has an object.
    """
    likelihood = ops.take_along_axis(class_probs, class_ids[..., None], axis=2)[..., 0]
    # 1e-12 is far below what float32 softmax resolves around a likely class, and keeps the log finite.
    return -ops.sum(weight * ops.log(ops.maximum(likelihood, 1e-12))) / number_of(weight)


def balanced_stop_loss(stop_logits: Tensor, count: Tensor, *, balance: float) -> Tensor:
    """Mean cross-entropy of "there is an object" over the first n + 1 steps, both sides weighted as in the original.

    Args:
        stop_logits: (B, T).
        count: (B,) integer, the number n of objects.
        balance: b; the first n steps have the weight 1 − b, the step after them has b.
    """
    step = ops.arange(stop_logits.shape[1])[None]  # (1, T)
    count = ops.cast(count, step.dtype)[:, None]  # (B, 1)
    weight = ops.cast(step <= count, "float32")
    side = ops.where(step < count, 1 - balance, balance)
    # −log σ(x) with an object, −log σ(−x) without; exact for large logits, unlike softplus(x) − target·x.
    cross_entropy = ops.softplus(ops.where(step < count, -stop_logits, stop_logits))
    return ops.sum(weight * side * cross_entropy) / number_of(weight)


def number_of(weight: Tensor) -> Tensor:
    """Returns the sum of 0/1 weights over the whole batch, at least 1: a batch without objects then costs nothing."""
    return ops.maximum(all_reduce(ops.sum(weight)), 1.0)
