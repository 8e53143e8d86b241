"""The criterion: what the predictions of a batch cost, given its objects (paper, section 3.3)."""

from typing import Any

from keras import ops

from rsis_tf.config import MASK_HEADS, TrainConfig
from rsis_tf.ops import pairwise_product, pairwise_soft_iou
from rsis_tf.replicas import divided, reported, total
from rsis_tf.training.losses.voting import place, pointing_loss, voting_loss
from rsis_tf.training.matcher import match_in_graph

Tensor = Any


_SURELY_NOT = -1e4
"""A mask logit whose sigmoid and softplus are 0."""


class Criterion:
    """Matches objects to predictions and returns mask, class and stop loss with their weighted sum.

    Objects and predictions meet in one (B, N, T) matrix of 1 − soft IoU. The matcher reads it on the host, and the
    mask loss is read out of the same matrix, so a mask is never copied per pair nor permuted.

    Args:
        config: `losses` holds the weights.
        use_class_loss, use_stop_loss: whether the loss is part of the sum now; None for whether the curriculum ever
            switches it on.
    """

    def __init__(
        self, config: TrainConfig, *, use_class_loss: bool | None = None, use_stop_loss: bool | None = None
    ) -> None:
        self.weights = config.losses
        self.head_weights = {term: w for head in MASK_HEADS.values() for term, w in head.loss_weights.items()}
        self.head_weights |= config.losses.head_loss_weights
        plan = config.curriculum
        self.use_class_loss = plan.class_loss_after != -1 if use_class_loss is None else use_class_loss
        self.use_stop_loss = plan.stop_loss_after != -1 if use_stop_loss is None else use_stop_loss

    def __call__(self, targets: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Computes the losses.

        Args:
            targets: `masks` (B, N, H, W) of 0 and 1, `classes` (B, N) integer, `valid` (B, N) of 0 and 1; the valid
                objects of an image come first. `remaining` (B,) integer if not all are to be found: the first so many
                are. `ignored` (B, H, W), 1 where it is not known whether there is an object, is read by the loss of
                votes. `padding` (B, H, W), 1 beside images that keep their shape: masks cost nothing there.
            outputs: of the model.

        Returns:
            Scalars `loss`, `mask_loss`, `class_loss`, `stop_loss`, and of a model that votes `voting_loss` and
            `pointing_loss`; all but the first unweighted. On a replica that has a
            share of the batch they are those of the whole batch, except `loss`, which is what Keras expects there
            (`rsis_tf.replicas.reported`).
        """
        config = self.weights
        masks = ops.cast(targets["masks"], "float32")
        mask_logits = outputs["mask_logits"]
        if "padding" in targets:  # as sure of no object as it takes to have no cost and no gradient
            mask_logits = ops.where(ops.cast(targets["padding"], "bool")[:, None], _SURELY_NOT, mask_logits)
        cost = 1 - pairwise_soft_iou(masks, ops.sigmoid(mask_logits))  # (B, N, T)
        objects = ops.sum(ops.cast(targets["valid"], "int32"), axis=1)  # (B,)
        count = ops.cast(targets["remaining"], "int32") if "remaining" in targets else objects
        assignment, weight = match_in_graph(cost, count)  # (B, T), (B, T)
        pairs = ops.one_hot(assignment, cost.shape[1], axis=1, dtype="float32") * weight[:, None]  # (B, N, T)
        if config.mask_cross_entropy:
            cost = cost + config.mask_cross_entropy * pairwise_cross_entropy(masks, mask_logits)
        mask_loss = ops.sum(pairs * cost) / number_of(weight)
        class_ids = ops.take_along_axis(ops.cast(targets["classes"], "int32"), assignment, axis=1)  # (B, T)
        class_loss = mean_negative_log_likelihood(outputs["class_probs"], class_ids, weight)
        stop_loss = balanced_stop_loss(outputs["stop_logits"], count, balance=config.stop_balance)
        loss = config.mask_weight * mask_loss
        if self.use_class_loss:
            loss = loss + config.class_weight * class_loss
        if self.use_stop_loss:
            loss = loss + config.stop_weight * stop_loss
        losses = {"loss": loss, "mask_loss": mask_loss, "class_loss": class_loss, "stop_loss": stop_loss}
        if "votes" in outputs:
            placed = place(masks)
            ignored = ops.cast(targets["ignored"], "float32") if "ignored" in targets else None
            losses["voting_loss"] = voting_loss(placed, objects, outputs, ignored)
            losses["pointing_loss"] = pointing_loss(placed, pairs, count, outputs["pointing_logits"])
            losses["loss"] += self.head_weights["voting_loss"] * losses["voting_loss"]
            losses["loss"] += self.head_weights["pointing_loss"] * losses["pointing_loss"]
        if divided():
            # Every mean above has the whole batch's number below and the share's sum above.
            whole = dict(zip(losses, ops.unstack(total(ops.stack(list(losses.values())))), strict=True))
            losses = {**whole, "loss": reported(losses["loss"], whole["loss"])}
        return losses


def pairwise_cross_entropy(masks: Tensor, mask_logits: Tensor) -> Tensor:
    """Mean cross-entropy per pixel of every prediction against every true mask.

    Σ (softplus(x) − y·x) needs no more than one product of masks and logits.

    Args:
        masks: (B, N, H, W) of 0 and 1.
        mask_logits: (B, T, H, W).

    Returns:
        (B, N, T).
    """
    total = ops.sum(ops.softplus(mask_logits), axis=(2, 3))[:, None] - pairwise_product(masks, mask_logits)
    pixels = ops.cast(ops.shape(masks)[2] * ops.shape(masks)[3], "float32")
    return total / pixels


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
    """Mean cross-entropy of "there is an object" over the first n + 1 steps, its two sides weighed as in the original.

    Args:
        stop_logits: (B, T).
        count: (B,) integer, the objects n.
        balance: b; the first n steps weigh 1 − b, the step after them weighs b.
    """
    step = ops.arange(stop_logits.shape[1])[None]  # (1, T)
    count = ops.cast(count, step.dtype)[:, None]  # (B, 1)
    weight = ops.cast(step <= count, "float32")
    side = ops.where(step < count, 1 - balance, balance)
    # −log σ(x) where there is an object, −log σ(−x) where not; exact for large logits, unlike softplus(x) − target·x.
    cross_entropy = ops.softplus(ops.where(step < count, -stop_logits, stop_logits))
    return ops.sum(weight * side * cross_entropy) / number_of(weight)


def number_of(weight: Tensor) -> Tensor:
    """Returns the sum of 0/1 weights over the batch, at least 1, so that a batch without objects costs nothing."""
    return ops.maximum(total(ops.sum(weight)), 1.0)
