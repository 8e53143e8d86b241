"""The losses of pixel votes and of pointing, for `rsis_tf.models.mask_heads.voting`."""

import math
from typing import Any, NamedTuple

from keras import ops

from rsis_tf.models.mask_heads.voting import LOG_RADII, UNIT, pixel_positions
from rsis_tf.ops import spatial_size
from rsis_tf.training.losses.criterion import Assignment, Tensor, number_of


class Discs(NamedTuple):
    """The true objects of a batch, with the centre and radius that pixels should vote for.

    Attributes:
        masks: (B, N, H, W) float, 0 or 1; all objects of the images, found or not.
        centres: (B, N, 2), centres of mass (y, x) in units of `UNIT` pixels; zeros for an empty mask.
        radii: (B, N), radii of discs of the same area in the same unit; zeros for an empty mask.
    """

    masks: Tensor
    centres: Tensor
    radii: Tensor


def voting_losses(targets: dict[str, Tensor], outputs: dict[str, Tensor], assignment: Assignment) -> dict[str, Tensor]:
    """Returns `voting_loss` and `pointing_loss`, unweighted scalars.

    Args:
        targets: of the criterion; `ignored` (B, H, W) is 1 where it is unknown whether there is an object.
        outputs: of a model with the voting head.
        assignment: of objects to steps.
    """
    discs = fit_discs(assignment.masks)
    ignored = ops.cast(targets["ignored"], "float32") if "ignored" in targets else None
    return {
        "voting_loss": voting_loss(discs, assignment.objects, outputs, ignored),
        "pointing_loss": pointing_loss(discs, assignment.pairs, assignment.count, outputs["pointing_logits"]),
    }


def fit_discs(masks: Tensor) -> Discs:
    """Computes centre and radius of every object.

    Args:
        masks: (B, N, H, W) float, 0 or 1.
    """
    rows, columns = ops.sum(masks, axis=3), ops.sum(masks, axis=2)  # (B, N, H), (B, N, W)
    area = ops.sum(rows, axis=2)  # (B, N)
    y = ops.sum(rows * ops.arange(ops.shape(rows)[2], dtype="float32"), axis=2)
    x = ops.sum(columns * ops.arange(ops.shape(columns)[2], dtype="float32"), axis=2)
    centres = ops.stack([y, x], axis=-1) / (ops.maximum(area, 1.0)[..., None] * UNIT)
    return Discs(masks, centres, ops.sqrt(area / math.pi) / UNIT)


def voting_loss(discs: Discs, count: Tensor, outputs: dict[str, Tensor], ignored: Tensor | None = None) -> Tensor:
    """Cross-entropy of the foreground, plus the error of votes and radii.

    The error of a vote is its distance from the true centre in radii of the object. It is averaged over the pixels of
    each object first, so that small objects have the same weight as large ones.

    Args:
        discs: the objects of the batch.
        count: (B,) int32, the number of objects of each image.
        outputs: of the model; `foreground_logits` (B, h, w, 1), `votes` (B, h, w, 2) and `log_radius` (B, h, w, 1).
        ignored: (B, H, W) float, 1 where it is unknown whether there is an object; None for nowhere.
    """
    logits = outputs["foreground_logits"][..., 0]  # (B, h, w)
    small = sample(discs.masks, spatial_size(logits))  # (B, N, h, w)
    inside = ops.max(small, axis=1, initial=0.0)  # (B, h, w)
    known = ops.ones_like(logits) if ignored is None else 1 - sample(ignored[:, None], spatial_size(logits))[:, 0]
    foreground = ops.sum(known * (ops.softplus(logits) - inside * logits)) / number_of(known)
    pixels = ops.reshape(small, (*ops.shape(small)[:2], -1))  # (B, N, P)
    share = pixels / ops.maximum(ops.sum(pixels, axis=2, keepdims=True), 1.0)
    # Objects do not overlap, so a pixel belongs to one at most, and the product selects its centre and radius.
    target = ops.concatenate([discs.centres, discs.radii[..., None]], axis=-1)  # (B, N, 3)
    target = ops.matmul(ops.transpose(pixels, (0, 2, 1)), target)  # (B, P, 3)
    weight = ops.sum(share, axis=1)  # (B, P)
    radius = ops.where(weight > 0, target[..., 2], 1.0)
    batch = ops.shape(logits)[0]
    votes = ops.reshape(outputs["votes"], (batch, -1, 2))  # (B, P, 2)
    offset = (votes - target[..., :2]) / radius[..., None]
    distance = ops.sqrt(ops.sum(ops.square(offset), axis=-1) + 1e-4)
    log_radius = ops.clip(ops.log(radius), *LOG_RADII)  # the model's range
    error = distance + ops.abs(ops.reshape(outputs["log_radius"], (batch, -1)) - log_radius)
    return foreground + ops.sum(weight * error) / number_of(ops.cast(count, "float32"))


def pointing_loss(discs: Discs, pairs: Tensor, count: Tensor, pointing_logits: Tensor) -> Tensor:
    """Mean −log of the probability that a step points at the middle of any object that is left.

    Any of them will do: the objects have no prescribed order, and the model need not guess one.

    Args:
        discs: the objects of the batch.
        pairs: (B, N, T), 1 where object n is assigned to step t.
        count: (B,) int32, the number of objects that are left to find, which are the first ones.
        pointing_logits: (B, h, w, T).
    """
    batch, height, width, steps = ops.shape(pointing_logits)
    objects = ops.shape(discs.masks)[1]
    small = ops.reshape(sample(discs.masks, (height, width)), (batch, objects, -1))  # (B, N, P)
    position = ops.reshape(pixel_positions((height, width), ops.shape(discs.masks)[2:]), (1, 1, -1, 2))
    radii = ops.maximum(discs.radii, 1e-3)
    offset = (position - discs.centres[:, :, None]) / radii[:, :, None, None]  # (B, N, P, 2)
    # Pixels near the centre count more: their votes are more reliable than those at the rim.
    quality = small * ops.exp(-ops.sum(ops.square(offset), axis=-1))
    earlier = ops.cumsum(pairs, axis=2) - pairs  # (B, N, T), found at an earlier step
    to_find = ops.cast(ops.arange(objects)[None] < count[:, None], "float32")  # (B, N)
    left = to_find[:, :, None] * (1 - earlier)  # (B, N, T)
    target = ops.matmul(ops.transpose(quality, (0, 2, 1)), left)  # (B, P, T)
    log_probs = ops.log_softmax(ops.reshape(pointing_logits, (batch, -1, steps)), axis=1)
    probability = ops.sum(ops.exp(log_probs) * target, axis=1)  # (B, T)
    counted = ops.cast(ops.arange(steps)[None] < count[:, None], "float32")
    counted = counted * ops.cast(ops.max(target, axis=1) > 0, "float32")
    return -ops.sum(counted * ops.log(probability + 1e-6)) / number_of(counted)


def sample(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns (B, N, h, w), the value at the pixel nearest to each pixel of a smaller map, corners aligned.

    Args:
        masks: (B, N, H, W).
        size: (h, w).
    """
    for n in size:
        nearest = nearest_pixels(n, ops.shape(masks)[2])
        # Whole rows are copied much faster than every second value, so columns become rows first.
        masks = ops.swapaxes(ops.take(masks, nearest, axis=2), 2, 3)
    return masks


def nearest_pixels(count: Any, length: Any) -> Tensor:
    """Returns (count,) int32, the pixel of a row of `length` that is nearest to each of `count` aligned ones.

    Args:
        count, length: integers, or scalar integer tensors where a size is not known when the step is traced.
    """
    if isinstance(count, int) and isinstance(length, int):
        nearest = [round(i * (length - 1) / max(count - 1, 1)) for i in range(count)]
        return ops.convert_to_tensor(nearest, "int32")
    last = ops.cast(ops.maximum(count - 1, 1), "float32")
    places = ops.cast(ops.arange(count), "float32") * ops.cast(length - 1, "float32") / last
    return ops.cast(ops.round(places), "int32")
