"""Batch normalisation that updates its statistics as PyTorch does."""

from typing import Any

import keras
from keras import ops

from rsis_tf.replicas import all_reduce, in_replica


@keras.saving.register_keras_serializable(package="rsis_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose moving variance follows the unbiased batch variance.

    Keras stores the biased variance; PyTorch multiplies it by n/(n − 1), n the values a channel has in the batch. In a
    deep level of a small image (n = 8, say) that is a difference of more than ten per cent. Momentum (0.9, PyTorch's
    0.1) and epsilon (1e-5) are PyTorch's too. Where a batch is divided over replicas, the statistics are those of the
    whole batch.
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        if keras.backend.backend() == "tensorflow" and not in_replica():
            return self._fused(inputs)
        before = ops.copy(ops.convert_to_tensor(self.moving_variance))
        outputs = super().call(inputs, training=training, mask=mask)
        count = all_reduce(ops.cast(ops.size(inputs) / inputs.shape[-1], before.dtype))
        new_part = self.moving_variance - self.momentum * before
        self.moving_variance.assign(self.moving_variance + new_part / ops.maximum(count - 1, 1))
        return outputs

    def _fused(self, inputs: Any) -> Any:
        """Returns the normalised inputs (B, h, w, C): TensorFlow's one operation for statistics and normalisation.

        Its variance is the unbiased one already. Ten elementwise operations, forward and backward, become two.
        """
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.cast(batch, moving.dtype) * (1.0 - self.momentum))
        return outputs

    def _moments(self, inputs: Any, mask: Any) -> Any:
        """Returns mean and variance (C,) of (…, C); Keras' `synchronized` takes E(x²) − E(x)², which loses digits."""
        if not in_replica():
            return super()._moments(inputs, mask)
        axes = self._reduction_axes
        count = all_reduce(ops.cast(ops.size(inputs) / inputs.shape[-1], inputs.dtype))
        mean = all_reduce(ops.sum(inputs, axis=axes)) / count
        return mean, all_reduce(ops.sum(ops.square(inputs - mean), axis=axes)) / count
