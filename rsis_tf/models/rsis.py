"""The whole network: an image in, a sequence of objects out."""

import dataclasses
from typing import Any

import keras
from keras import ops

from rsis_tf.config import ModelConfig
from rsis_tf.config.json_file import from_dict
from rsis_tf.models.conv_lstm import State, Tensor
from rsis_tf.models.decoder import Decoder, projection_channels
from rsis_tf.models.encoders import ENCODERS, build_encoder
from rsis_tf.models.neck import TopDownNeck
from rsis_tf.models.normalization import BatchNorm
from rsis_tf.ops import resize, spatial_size
from rsis_tf.replicas import divided

LOSSES = ("mask_loss", "class_loss", "stop_loss")
VOTING_LOSSES = ("pointing_loss", "voting_loss")


@keras.saving.register_keras_serializable(package="rsis_tf")
class RSIS(keras.Model):
    """Recurrent semantic instance segmentation (Salvador et al., arXiv 1712.00617).

    An encoder reads the image once; a chain of ConvLSTMs, fed by skip connections, then emits one object per step.
    Each step gives a mask, class probabilities, and the probability that there was an object left (sigmoid of the
    stop logit); the sequence ends at the first step where the latter falls under the configuration's `stop_threshold`.

    The call takes images (B, H, W, 3), uint8 or float, RGB in 0..255, of any size (normalisation is inside), and
    `num_steps` T, and returns a dictionary:

    | key | shape | |
    |---|---|---|
    | `mask_logits` | (B, T, H, W) | before the sigmoid, at the image's size |
    | `class_probs` | (B, T, K) | after the softmax, class 0 = background |
    | `stop_logits` | (B, T) | before the sigmoid, high = there is an object |

    With `mask_head="voting"` there are four more, which only training reads: `pointing_logits` (B, h', w', T), and
    `foreground_logits` (B, h, w, 1), `votes` (B, h, w, 2) and `log_radius` (B, h, w, 1), see
    `rsis_tf.models.mask_heads.voting`; and the images may come as a dictionary `images` and
    `found` (B, H, W), which is 1 where something counts as found.

    Use `build_model` to make one, `keras.models.load_model` to read one from a `.keras` file, and
    `rsis_tf.training.compile_model` before training.

    Attributes:
        config: the `ModelConfig` it was built from.
        num_steps: T when a call names none.
        train_steps: the same in training, if it is not None.
        update_encoder: whether gradients flow into the encoder.
        encoder_batch_statistics: whether the encoder's batch normalisation follows the batch in training.
        criterion: (targets, outputs) → loss terms; set by `compile_model`.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        kwargs.setdefault("name", "rsis")
        super().__init__(**kwargs)
        self.config = config
        self.num_steps = config.num_steps
        self.train_steps: int | None = None
        self.update_encoder = True
        self.encoder_batch_statistics = True
        self.criterion = None
        self.encoder = build_encoder(config.encoder)
        self.neck = None
        if config.neck_channels:
            widths = tuple(output.shape[-1] for output in self.encoder.outputs)
            self.neck = TopDownNeck(config.neck_channels, widths, name="neck")
        self.skip_convolutions: list[keras.layers.Layer] = []
        self.skip_norms: list[keras.layers.Layer] = []
        for stage, channels in enumerate(() if self.neck else projection_channels(config)):
            convolution = keras.layers.Conv2D(
                channels, config.kernel_size, padding="same", name=f"skip_{stage}_convolution"
            )
            convolution.build(self.encoder.outputs[stage].shape)
            norm = BatchNorm(name=f"skip_{stage}_norm")
            norm.build((None, None, None, channels))
            self.skip_convolutions.append(convolution)
            self.skip_norms.append(norm)
        self.decoder = Decoder(config, name="decoder")
        names = LOSSES + (VOTING_LOSSES if config.mask_head == "voting" else ())
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    def call(
        self, images: Tensor | dict[str, Tensor], num_steps: int | None = None, training: bool | None = None
    ) -> dict[str, Tensor]:
        found = None
        if isinstance(images, dict):
            images, found = images["images"], images["found"]
        size, may_be_empty = ops.shape(images)[0], divided() and images.shape[0] is None
        if may_be_empty:
            # A replica may have no picture of the last batch, and TensorFlow's convolutions fail without any.
            images, found = (None if x is None else _at_least_one(x) for x in (images, found))
        outputs, _ = self.unroll(images, num_steps, found=found, training=training)
        return {name: output[:size] for name, output in outputs.items()} if may_be_empty else outputs

    def unroll(
        self,
        images: Tensor,
        num_steps: int | None = None,
        *,
        found: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[dict[str, Tensor], list[State]]:
        """Runs encoder and T decoder steps.

        Args:
            images: (B, H, W, 3).
            num_steps: T.
            found: (B, H, W), 1 where an object is that is not to be found any more; voting only.
            training: whether dropout is on and batch statistics are followed.

        Returns:
            The call's outputs, and the (hidden, cell) states of every stage after the last step.
        """
        if num_steps is None:
            num_steps = self.train_steps if training and self.train_steps else self.num_steps
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1. Received: num_steps={num_steps}")
        image_size = spatial_size(images)
        decoder = self.decoder
        reading = decoder.prepare(self.project(images, training=training), image_size)
        memory = decoder.start(reading, found)
        steps = []
        for _ in range(num_steps):
            steps.append(decoder.step(reading, memory, training=training))
            memory = steps[-1].memory
        # Steps lie on the channel axis, so one resize serves all.
        masks = resize(ops.concatenate([step.mask_logits for step in steps], axis=-1), image_size)  # (B, H, W, T)
        features = ops.stack([step.features for step in steps], axis=1)  # (B, T, F)
        class_probs, stop_logits = decoder.heads(features, training=training)
        outputs = {
            "mask_logits": ops.cast(ops.transpose(masks, (0, 3, 1, 2)), "float32"),  # (B, T, H, W)
            "class_probs": class_probs,
            "stop_logits": stop_logits,
        }
        if decoder.voting:
            pointing = ops.concatenate([step.pointing_logits for step in steps], axis=-1)  # (B, h', w', T)
            outputs["pointing_logits"] = ops.cast(pointing, "float32")
            for name in ("foreground_logits", "votes", "log_radius"):
                outputs[name] = ops.cast(getattr(reading.ballot, name), "float32")
        return outputs, memory.states

    def project(self, images: Tensor, *, training: bool | None = None) -> list[Tensor]:
        """Returns what the decoder reads of normalised encoder features, deepest first, each (B, h, w, C).

        Without a neck: the projections of as many levels as there are stages. With one: its maps, of all five levels.
        """
        features = self.encode(images, training=training)
        if self.neck:
            return self.neck(features, training=training)
        return [
            norm(convolution(feature), training=training)
            for feature, convolution, norm in zip(features, self.skip_convolutions, self.skip_norms, strict=False)
        ]

    def encode(self, images: Tensor, *, training: bool | None = None) -> list[Tensor]:
        """Returns the encoder's five feature maps, deepest first, each (B, h, w, C).

        Args:
            images: (B, H, W, 3), uint8 or float, RGB 0..255.
            training: whether batch statistics are used and followed.
        """
        spec = ENCODERS[self.config.encoder]
        self._check_images(images, spec.min_size)
        scale = [1 / (255 * std) for std in spec.std]
        shift = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
        x = ops.cast(images, "float32") * ops.convert_to_tensor(scale, "float32")
        x = x + ops.convert_to_tensor(shift, "float32")
        features = self.encoder(
            ops.cast(x, self.compute_dtype), training=bool(training) and self.encoder_batch_statistics
        )
        if training and not self.update_encoder:
            features = [ops.stop_gradient(feature) for feature in features]
        return features

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Returns the weighted sum of the losses; called by Keras in its train and test steps."""
        if self.criterion is None:
            raise ValueError("expected a model prepared by rsis_tf.training.compile_model. Received: one without")
        losses = self.criterion(y, y_pred)
        # A smaller last batch weighs less, as it does in what Keras makes of the sum.
        pictures = ops.cast(ops.shape(y_pred["stop_logits"])[0], "float32")
        for name, mean in self.loss_means.items():
            mean.update_state(losses[name], sample_weight=pictures)
        return losses["loss"]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Tensor]:
        """Returns the means of the losses so far; called by Keras."""
        return self.get_metrics_result()

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: the model is built when it is made, and Keras would sum a batch of pictures over replicas."""

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype_policy.name, "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RSIS":
        return cls(from_dict(ModelConfig, config["config"]), name=config["name"], dtype=config["dtype"])

    def get_compile_config(self) -> None:
        """Keeps loss and optimiser out of `.keras` files: they hold the network; a run keeps its own state."""
        return None

    def _check_images(self, images: Tensor, min_size: int) -> None:
        shape = tuple(images.shape)
        sides = [side for side in shape[1:3] if isinstance(side, int)]
        if len(shape) != 4 or shape[3] != 3 or any(side < min_size for side in sides):
            raise ValueError(
                f"images must have the shape (B, H, W, 3) with sides of {min_size} or more pixels "
                f"for the encoder {self.config.encoder!r}. Received: images.shape={shape}"
            )


def _at_least_one(batch: Tensor) -> Tensor:
    """Returns the batch, or one blank entry in the place of none."""
    blank = ops.zeros((1, *ops.shape(batch)[1:]), dtype=batch.dtype)
    return ops.concatenate([batch, blank])[: ops.maximum(ops.shape(batch)[0], 1)]


def build_model(config: ModelConfig) -> RSIS:
    """Builds the network with fresh weights.

    Example:

    ```python
    model = build_model(ModelConfig(encoder="resnet50", hidden_size=128, num_classes=21))
    out = model(images, num_steps=10, training=False)
    ```
    """
    return RSIS(config)
