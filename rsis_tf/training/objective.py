"""What a model is trained for: how many steps it predicts, its losses, and their means over an epoch."""

import keras
from keras import ops

from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.models import RSIS
from rsis_tf.replicas import at_least_one, in_replica
from rsis_tf.training.losses.criterion import PAPER_LOSSES, Criterion, Tensor


class Objective:
    """Attached to a model by `rsis_tf.training.compile_model`; `apply_stage` changes it between epochs.

    Args:
        mask_head: of the model; it decides which loss terms there are.

    Attributes:
        criterion: (targets, outputs) → loss terms.
        num_steps: T, steps predicted when a call does not say how many.
        sequence_length: the same in training; None for `num_steps`.
        means: loss term → its mean over the batches so far, weighted by their images.
    """

    criterion: Criterion
    num_steps: int
    sequence_length: int | None = None

    def __init__(self, mask_head: str) -> None:
        terms = (*PAPER_LOSSES, *MASK_HEADS[mask_head].loss_weights)
        self.means = {name: keras.metrics.Mean(name=name) for name in terms}

    def call(
        self, model: RSIS, images: Tensor | dict[str, Tensor], num_steps: int | None, training: bool | None
    ) -> dict[str, Tensor]:
        """Returns the outputs of `RSIS.predict_sequence`, with the number of steps that is in force.

        Args:
            model: the network.
            images: (B, H, W, 3), or a dictionary with `images` and `found`.
            num_steps: T; None for the number of steps of the stage.
            training: as in the call of the model.
        """
        if num_steps is None:
            num_steps = (training and self.sequence_length) or self.num_steps
        first = keras.tree.flatten(images)[0]
        if not in_replica() or first.shape[0] is not None:
            return model.predict_sequence(images, num_steps, training=training)
        # A replica may have no image of a smaller last batch, and TensorFlow's convolutions fail without any.
        images, size = keras.tree.map_structure(at_least_one, images), ops.shape(first)[0]
        outputs = model.predict_sequence(images, num_steps, training=training)
        return {name: output[:size] for name, output in outputs.items()}

    def loss(self, targets: dict[str, Tensor], outputs: dict[str, Tensor]) -> Tensor:
        """Returns the weighted sum of the losses, a scalar, and updates the means.

        Args:
            targets: see `Criterion`.
            outputs: of the model.
        """
        losses = self.criterion(targets, outputs)
        # A smaller last batch has a smaller weight, as in the mean that Keras keeps of the sum.
        images = ops.cast(ops.shape(outputs["stop_logits"])[0], "float32")
        for name, mean in self.means.items():
            mean.update_state(losses[name], sample_weight=images)
        return losses["loss"]
