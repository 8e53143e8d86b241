"""Sums over the replicas of a `tf.distribute` strategy: the one place that knows that a batch may be divided.

A train step runs on every replica with its share of the batch. What is a sum or a mean over the batch must then be
summed over replicas; where there is one replica, or another backend than TensorFlow, everything here is the identity.
"""

from typing import Any

import keras
from keras import ops

Tensor = Any


def _context() -> Any:
    """TensorFlow's replica context, or None where nothing is divided."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def divided() -> bool:
    """Returns whether the code that asks runs on a share of a batch."""
    return _context() is not None


def total(share: Any) -> Any:
    """Returns the sum over replicas, the same on all; its gradient is summed over replicas too.

    Args:
        share: of any shape, the same on every replica; or a list of such, which then travel together.
    """
    context = _context()
    return share if context is None else context.all_reduce("SUM", share)


def reported(share: Tensor, whole: Tensor) -> Tensor:
    """Returns what Keras wants as the loss of a replica: the gradient of `share`, the value of `whole` / replicas.

    Keras sums gradients over replicas, so they must be those of the share; its log multiplies the value by the number
    of replicas and means it over the pictures, which gives the loss of the batch whatever the replicas' shares of it.

    Args:
        share: scalar, what the replica's pictures add to the loss.
        whole: scalar, the loss of the batch.
    """
    context = _context()
    if context is None:
        return share
    return share + ops.stop_gradient(whole / context.num_replicas_in_sync - share)
