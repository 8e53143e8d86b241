"""What votes and the choice of an object cost, for masks that are voted for (`rsis_tf.models.mask_heads.voting`)."""

import math
from typing import Any, NamedTuple

from keras import ops

from rsis_tf.models.mask_heads.voting import LOG_RADII, UNIT, pixel_positions
from rsis_tf.ops import spatial_size
from rsis_tf.replicas import total

Tensor = Any


class Objects(NamedTuple):
    """The true objects of a batch and where they are.

    Attributes:
        masks: (B, N, H, W) float, 0 or 1; all objects of the picture, found or not.
        centres: (B, N, 2) centres of mass (y, x), in units of `UNIT` pixels.
        radii: (B, N) radii of discs of the same area, in the same unit. An empty mask has zeros.
    """

    masks: Tensor
    centres: Tensor
    radii: Tensor


def place(masks: Tensor) -> Objects:
    """Finds the objects' centres and radii.

    Args:
        masks: (B, N, H, W) float, 0 or 1.
    """
    rows, columns = ops.sum(masks, axis=3), ops.sum(masks, axis=2)  # (B, N, H), (B, N, W)
    area = ops.sum(rows, axis=2)  # (B, N)
    y = ops.sum(rows * ops.arange(ops.shape(rows)[2], dtype="float32"), axis=2)
    x = ops.sum(columns * ops.arange(ops.shape(columns)[2], dtype="float32"), axis=2)
    centres = ops.stack([y, x], axis=-1) / (ops.maximum(area, 1.0)[..., None] * UNIT)
    return Objects(masks, centres, ops.sqrt(area / math.pi) / UNIT)


def voting_loss(objects: Objects, count: Tensor, outputs: dict[str, Tensor], ignored: Tensor | None = None) -> Tensor:
    """Cross-entropy of the foreground, and per object the distance of its pixels' votes and radii from the truth.

    Distances are counted in radii of the object and averaged over its pixels first, so that small objects weigh as
    much as large ones.

    Args:
        objects: of the batch.
        count: (B,) int32, the objects n of each picture.
        outputs: of the model; `foreground_logits` (B, h, w, 1), `votes` (B, h, w, 2) and `log_radius` (B, h, w, 1).
        ignored: (B, H, W) float, 1 where nobody says whether there is an object; None for nowhere.
    """
    logits = outputs["foreground_logits"][..., 0]  # (B, h, w)
    small = sample(objects.masks, spatial_size(logits))  # (B, N, h, w)
    inside = ops.max(small, axis=1)  # (B, h, w)
    known = ops.ones_like(logits) if ignored is None else 1 - sample(ignored[:, None], spatial_size(logits))[:, 0]
    foreground = ops.sum(known * (ops.softplus(logits) - inside * logits))
    foreground = foreground / ops.maximum(total(ops.sum(known)), 1.0)
    pixels = ops.reshape(small, (*ops.shape(small)[:2], -1))  # (B, N, P)
    share = pixels / ops.maximum(ops.sum(pixels, axis=2, keepdims=True), 1.0)
    # Objects do not overlap, so each pixel has one centre at most and the product picks it.
    target = ops.concatenate([objects.centres, objects.radii[..., None]], axis=-1)  # (B, N, 3)
    target = ops.matmul(ops.transpose(pixels, (0, 2, 1)), target)  # (B, P, 3)
    weight = ops.sum(share, axis=1)  # (B, P)
    radius = ops.where(weight > 0, target[..., 2], 1.0)
    batch = ops.shape(logits)[0]
    votes = ops.reshape(outputs["votes"], (batch, -1, 2))  # (B, P, 2)
    offset = (votes - target[..., :2]) / radius[..., None]
    distance = ops.sqrt(ops.sum(ops.square(offset), axis=-1) + 1e-4)
    log_radius = ops.clip(ops.log(radius), *LOG_RADII)  # what the model can say
    error = distance + ops.abs(ops.reshape(outputs["log_radius"], (batch, -1)) - log_radius)
    number = ops.maximum(total(ops.sum(ops.cast(count, "float32"))), 1.0)
    return foreground + ops.sum(weight * error) / number


def pointing_loss(objects: Objects, pairs: Tensor, count: Tensor, pointing_logits: Tensor) -> Tensor:
    """Mean −log of the probability to point well into any object that is left.

    Any will do: no order of the objects is prescribed, and none has to be guessed.

    Args:
        objects: of the batch.
        pairs: (B, N, T), 1 where object n is assigned to step t.
        count: (B,) int32: the first so many objects are to be found.
        pointing_logits: (B, h, w, T).
    """
    batch, height, width, steps = ops.shape(pointing_logits)
    number = ops.shape(objects.masks)[1]
    small = ops.reshape(sample(objects.masks, (height, width)), (batch, number, -1))  # (B, N, P)
    position = ops.reshape(pixel_positions((height, width), ops.shape(objects.masks)[2:]), (1, 1, -1, 2))
    radii = ops.maximum(objects.radii, 1e-3)
    offset = (position - objects.centres[:, :, None]) / radii[:, :, None, None]  # (B, N, P, 2)
    # A pixel at the rim is a poor spokesman of its object.
    goodness = small * ops.exp(-ops.sum(ops.square(offset), axis=-1))
    earlier = ops.cumsum(pairs, axis=2) - pairs  # (B, N, T), found at an earlier step
    to_find = ops.cast(ops.arange(number)[None] < count[:, None], "float32")  # (B, N)
    left = to_find[:, :, None] * (1 - earlier)  # (B, N, T)
    target = ops.matmul(ops.transpose(goodness, (0, 2, 1)), left)  # (B, P, T)
    log_probs = ops.log_softmax(ops.reshape(pointing_logits, (batch, -1, steps)), axis=1)
    probability = ops.sum(ops.exp(log_probs) * target, axis=1)  # (B, T)
    counted = ops.cast(ops.arange(steps)[None] < count[:, None], "float32")
    counted = counted * ops.cast(ops.max(target, axis=1) > 0, "float32")
    return -ops.sum(counted * ops.log(probability + 1e-6)) / ops.maximum(total(ops.sum(counted)), 1.0)


def sample(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns (B, N, h, w): the mask at the pixel nearest to each pixel of a smaller map, corners on corners."""
    for axis, n in zip((2, 3), size, strict=True):
        length = masks.shape[axis]
        nearest = [round(i * (length - 1) / max(n - 1, 1)) for i in range(n)]
        masks = ops.take(masks, ops.convert_to_tensor(nearest, "int32"), axis=axis)
    return masks
