"""The whole network (paper, section 3): an image in, a sequence of objects out."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import keras
from keras import ops

from rsis_tf import runtime
from rsis_tf.config import ModelConfig
from rsis_tf.config.json_file import from_dict
from rsis_tf.models.conv_lstm import State, Tensor
from rsis_tf.models.decoder import Decoder, Step, StepState, projection_channels
from rsis_tf.models.encoders import ENCODERS, build_encoder
from rsis_tf.models.folding import folded
from rsis_tf.models.keras_file import check_settings
from rsis_tf.models.mask_heads.interface import Found, ImageContext
from rsis_tf.models.neck import TopDownNeck
from rsis_tf.models.normalization import BatchNorm
from rsis_tf.models.probabilities import predict_probabilities
from rsis_tf.models.recomputation import recomputed
from rsis_tf.ops import resize, spatial_size

NETWORK_FIELDS = (
    "encoder",
    "hidden_size",
    "min_channels",
    "neck_channels",
    "mask_head",
    "class_features",
    "skip_mode",
    "kernel_size",
    "decoder_stages",
)
"""Fields of a `ModelConfig` that decide, together with `num_classes`, which weights there are and what they compute."""


class Objective(Protocol):
    """What `rsis_tf.training.compile_model` attaches to a model: its losses, and how it is called in training."""

    @property
    def means(self) -> Mapping[str, keras.metrics.Metric]:
        """Loss term → its mean over the batches so far."""

    def call(
        self, model: "RSIS", images: Tensor | dict[str, Tensor], num_steps: int | None, training: bool | None
    ) -> dict[str, Tensor]:
        """Returns the outputs of `RSIS.predict_sequence`, with the number of steps that is in force."""

    def loss(self, targets: dict[str, Tensor], outputs: dict[str, Tensor]) -> Tensor:
        """Returns the loss of a batch, a scalar, and updates the means."""


@keras.saving.register_keras_serializable(package="rsis_tf")
class RSIS(keras.Model):
    """Recurrent semantic instance segmentation (Salvador et al., arXiv 1712.00617).

    An encoder reads the image once. A chain of ConvLSTMs, fed by skip connections, then emits one object per step: a
    mask, class probabilities, and the probability that there was an object left (the sigmoid of the stop logit). The
    sequence ends at the first step whose stop probability is below the configuration's `stop_threshold`.

    The call takes images (B, H, W, 3), uint8 or float, RGB in 0..255, of any size (normalisation is inside), and
    `num_steps` T, and returns a dictionary:

    | key | shape | |
    |---|---|---|
    | `mask_logits` | (B, T, H, W) | before the sigmoid, at the image's size |
    | `class_probs` | (B, T, K) | after the softmax, class 0 = background |
    | `stop_logits` | (B, T) | before the sigmoid, high = there is an object |

    A mask head may add outputs that only training reads, as `rsis_tf.models.mask_heads.voting` does. If it works with
    partial sequences, the images may also come as a dictionary with `images` and `found` (B, H, W), which is 1 where
    there is an object that counts as found, and optionally `found_points` (B, N, 2), pixels of found objects that the
    model covers by its own votes.

    Use `build_model` to make a model, `RSIS.from_pretrained` or `keras.models.load_model` to read one, and
    `rsis_tf.training.compile_model` before training.

    Args:
        config: the network's configuration.
        kwargs: of `keras.Model`.

    Attributes:
        config: the `ModelConfig` it was built from.
        update_encoder: whether gradients flow into the encoder.
        batch_statistics: whether batch normalisation uses and follows the batch's statistics in training.
        encoder_batch_statistics: the same for that of the encoder alone, which needs both.
        recompute_steps: whether decoder steps run again for their gradients in training
            (`rsis_tf.models.recomputation`).
        objective: what the model is trained for; set by `compile_model`, None before.
    """

    def __init__(self, config: ModelConfig, **kwargs: Any) -> None:
        kwargs.setdefault("name", "rsis")
        # The layers follow Keras's policy. One of the model itself would be in its file, and once read again, the model
        # would round the weights of float32 layers.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.config = config
        self.update_encoder = True
        self.batch_statistics = True
        self.encoder_batch_statistics = True
        self.recompute_steps = False
        self.objective: Objective | None = None
        self.encoder = build_encoder(config.encoder)
        self._kept: Callable[[], keras.Model] | None = None
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
        self.built = True

    def call(
        self, images: Tensor | dict[str, Tensor], num_steps: int | None = None, training: bool | None = None
    ) -> dict[str, Tensor]:
        if self.objective is not None:
            return self.objective.call(self, images, num_steps, training)
        return self.predict_sequence(images, num_steps, training=training)

    def predict_sequence(
        self, images: Tensor | dict[str, Tensor], num_steps: int | None = None, *, training: bool | None = None
    ) -> dict[str, Tensor]:
        """Returns the outputs of the call; `images` may be a dictionary, as described there."""
        if isinstance(images, dict):
            found = Found(images["found"], images.get("found_points"))
            return self.unroll(images["images"], num_steps, found=found, training=training)[0]
        return self.unroll(images, num_steps, training=training)[0]

    def unroll(
        self,
        images: Tensor,
        num_steps: int | None = None,
        *,
        found: Found | None = None,
        training: bool | None = None,
    ) -> tuple[dict[str, Tensor], list[State]]:
        """Runs the encoder and T decoder steps.

        Args:
            images: (B, H, W, 3).
            num_steps: T; None for the configuration's.
            found: the objects that count as found; only some mask heads read them.
            training: whether dropout is on and batch statistics are used and followed.

        Returns:
            The outputs of the call, and the (hidden, cell) states of every stage after the last step.
        """
        if num_steps is None:
            num_steps = self.config.num_steps
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1. Received: num_steps={num_steps}")
        image_size = spatial_size(images)
        context = self.decoder.prepare(self.project(images, training=training), image_size)
        state = self.decoder.start(context, found)

        def advance(state: StepState, context: ImageContext) -> tuple[StepState, ImageContext, Step]:
            step = self.decoder.step(context, state, training=training)
            return step.state, context, step._replace(state=StepState(None, {}))

        if training and self.recompute_steps:
            # TensorFlow runs a step again when the gradient of its first result is there. That is the state, so one
            # step after the other is held in memory. For the same reason the context passes through: its gradient is
            # then one sum that grows step by step.
            advance = recomputed(advance)
        steps = []
        for _ in range(num_steps):
            state, context, step = advance(state, context)
            steps.append(step)
        # The steps lie on the channel axis, so that one resize serves all.
        masks = resize(ops.concatenate([step.mask_logits for step in steps], axis=-1), image_size)  # (B, H, W, T)
        features = ops.stack([step.features for step in steps], axis=1)  # (B, T, F)
        class_probs, stop_logits = self.decoder.heads(features, training=training)
        outputs = {
            "mask_logits": ops.cast(ops.transpose(masks, (0, 3, 1, 2)), "float32"),  # (B, T, H, W)
            "class_probs": class_probs,
            "stop_logits": stop_logits,
        }
        for name in steps[0].outputs:
            joined = ops.concatenate([step.outputs[name] for step in steps], axis=-1)  # (B, h, w, T)
            outputs[name] = ops.cast(joined, "float32")
        outputs |= {name: ops.cast(output, "float32") for name, output in context.outputs.items()}
        return outputs, state.stages or []

    def project(self, images: Tensor, *, training: bool | None = None) -> list[Tensor]:
        """Returns the encoder's features as the decoder reads them, deepest first, each (B, h, w, C).

        Without a neck they are the skip projections, one per stage. With a neck they are its maps, one per level of the
        encoder.
        """
        features = self.encode(images, training=training)
        training = bool(training) and self.batch_statistics
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
        x = ops.cast(x, self.compute_dtype)
        if training and not (self.batch_statistics and self.encoder_batch_statistics):
            features = self._encoder_of_kept_statistics()(x, training=False)
        else:
            features = self.encoder(x, training=bool(training))
        if training and not self.update_encoder:
            features = [ops.stop_gradient(feature) for feature in features]
        return features

    def _encoder_of_kept_statistics(self) -> keras.Model:
        if self._kept is None:
            network = folded(self.encoder)
            # A function, so that Keras does not find the same weights a second time.
            self._kept = lambda: network
        return self._kept()

    def predict_instances(self, image: runtime.ImageLike, **options: Any) -> runtime.Instances:
        """Returns the objects in one image, in predicted order.

        The image is resized to the configuration's `image_size` for the network, and the masks back to the image.

        Args:
            image: of any size: an array, a PIL image or a path, see `rsis_tf.runtime.as_image`.
            options: of `rsis_tf.runtime.decode`, such as `stop_threshold` (default: the configuration's),
                `mask_threshold` and `stop_mode`.

        Raises:
            InputError: for an image or an option of another kind, and if an output is NaN or infinite.
        """
        config = self.config
        image = runtime.as_image(image)
        batch = runtime.resize_image(image, config.image_size, config.aspect)[None]  # (1, h, w, 3)
        masks, classes, stop = predict_probabilities(self, batch, source="the model")
        settings = {
            "class_names": config.class_names,
            "stop_threshold": config.stop_threshold,
            "aspect": config.aspect,
            **options,
        }
        return runtime.decode(masks[0], classes[0], stop[0], size=image.shape[:2], **settings)

    @classmethod
    def from_pretrained(cls, path: str | pathlib.Path) -> Self:
        """Reads a trained model, as `rsis_tf.models.loading.load_model` does.

        Args:
            path: a name that `rsis zoo` lists, a `.keras` file, a run folder, or a checkpoint folder of the original
                code.

        Raises:
            InputError: for a name that no model has, and for a file that is missing, broken or of another kind.
        """
        from rsis_tf.models.loading import load_model

        model = load_model(path)
        return model if isinstance(model, cls) else cls._like(model, model.config)

    def with_steps(self, steps: int) -> Self:
        """Returns a model with the same weights that predicts `steps` steps by default."""
        # No weight depends on the number of steps.
        return self._like(self, dataclasses.replace(self.config, num_steps=steps))

    @classmethod
    def _like(cls, model: "RSIS", config: ModelConfig) -> Self:
        other = cls(config)
        other.set_weights(model.get_weights())
        return other

    def export(self, filepath: str | pathlib.Path, *args: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Exports the bare network as Keras does; `rsis export` writes files that `rsis_tf.runtime` reads.

        Args:
            filepath: of `keras.Model.export`.
            *args: of `keras.Model.export`.
            **kwargs: of `keras.Model.export`.
            input_signature: of `keras.Model.export`; None for (B, H, W, 3) uint8 of the configuration's size.
        """
        if input_signature is None:
            shape = (None, *self.config.image_size, 3)
            input_signature = [keras.InputSpec(shape=shape, dtype="uint8", name="images")]
        super().export(str(filepath), *args, input_signature=input_signature, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Returns the loss of a batch; called by Keras in its train and test steps.

        Raises:
            ValueError: for a model without an objective, and for weights of samples or classes, which the losses of
                matched pairs do not have.
        """
        if self.objective is None:
            raise ValueError("expected a model prepared by rsis_tf.training.compile_model. Received: one without")
        if sample_weight is not None:
            raise ValueError(
                "the losses take no sample_weight and no class_weight. "
                f"Received: weights of shape {tuple(keras.tree.flatten(sample_weight)[0].shape)}"
            )
        return self.objective.loss(y, y_pred)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means that Keras reports and resets: the loss, and the objective's terms."""
        return [*super().metrics, *(() if self.objective is None else self.objective.means.values())]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: the model is built when it is made, and Keras would need a batch of a fixed shape."""

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype_policy.name, "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        check_settings(config)
        return cls(from_dict(ModelConfig, config["config"]), name=config["name"])

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


def build_model(config: ModelConfig) -> RSIS:
    """Builds the network with fresh weights.

    Example:

    ```python
    model = build_model(ModelConfig(encoder="resnet50", hidden_size=128, num_classes=21))
    out = model(images, num_steps=10, training=False)
    ```
    """
    return RSIS(config)
