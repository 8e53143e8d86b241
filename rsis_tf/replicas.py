"""Sums over the replicas of a `tf.distribute` strategy. Only this module knows whether a batch is divided.

A train step runs on every replica with its share of the batch. A sum or a mean over the batch must then be summed over
replicas. With one replica, or another backend than TensorFlow, all functions here return what they are given.
"""

from typing import Any, TypeVar

import keras
from keras import ops

Tensor = Any
Tensors = TypeVar("Tensors")


def _context() -> Any:
    """Returns TensorFlow's replica context, or None where no batch is divided."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def in_replica() -> bool:
    """Returns whether the calling code runs on a share of a batch."""
    return _context() is not None


def all_reduce(share: Tensors) -> Tensors:
    """Returns the sum over replicas, the same on all of them. Its gradient is summed over replicas too.

    Args:
        share: a tensor of any shape, or a list of tensors, which are then sent together.
    """
    context = _context()
    return share if context is None else context.all_reduce("SUM", share)


def replica_loss(share: Tensor, batch_loss: Tensor) -> Tensor:
    """Returns the loss that Keras expects of a replica: the gradient of `share`, and the value `batch_loss` / replicas.

    Keras sums gradients over replicas, so they must be those of the share. It reports the value times the number of
    replicas, as a mean over the images, which is the loss of the batch however the images are divided.

    Args:
        share: scalar, what the replica's images add to the loss.
        batch_loss: scalar, the loss of the whole batch.
    """
    context = _context()
    if context is None:
        return share
    return share + ops.stop_gradient(batch_loss / context.num_replicas_in_sync - share)


def at_least_one(batch: Tensor) -> Tensor:
    """Returns the batch, or one entry of zeros if it is empty."""
    blank = ops.zeros((1, *ops.shape(batch)[1:]), dtype=batch.dtype)
    return ops.concatenate([batch, blank])[: ops.maximum(ops.shape(batch)[0], 1)]
