"""The statistics of batch normalisation, computed again as means over many batches.

The moving averages of a training follow the last ten batches or so, of weights that still change, and a few images are
a small sample of a varied dataset. Means over many batches fit better (Wu and Johnson, arXiv 2105.07576, section 3).
Two options use them:

- `frozen_batch_norm` before the last epochs, which are then trained with these statistics in place of each batch's (the
  same, section 4). Training and prediction compute the same function there.
- `batch_norm_batches` after the training, for the averaged weights of `best.keras`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from rsis_tf.models import RSIS

Batch = tuple[Any, Any]
"""(images, targets) as in `rsis_tf.data.pipeline`."""


def passes(batches: Callable[[int], Iterable[Batch]], *, first: int = 0) -> Iterator[Batch]:
    """Returns the batches of one epoch after the other, without an end.

    Args:
        batches: epoch → its batches.
        first: epoch to begin with.
    """
    return itertools.chain.from_iterable(map(batches, itertools.count(first)))


def recompute_batch_statistics(model: RSIS, batches: Iterable[Batch], *, limit: int) -> int:
    """Replaces the moving means and variances by the means over batches; other weights stay.

    Args:
        model: with the weights that are kept. An encoder without `encoder_batch_statistics` keeps its statistics.
        batches: of training.
        limit: number of batches that are read.

    Returns:
        The number of batches that were read.
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    count, follows = 0, model.batch_statistics
    model.batch_statistics = True  # off in epochs with kept statistics
    try:
        for inputs, _ in itertools.islice(batches, limit):
            for layer in layers:
                # The new value then counts as much as each of those before.
                layer.momentum = count / (count + 1)
            model.project(inputs["images"] if isinstance(inputs, dict) else inputs, training=True)
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.batch_statistics = follows
    return count
