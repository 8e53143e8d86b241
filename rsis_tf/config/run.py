"""All settings of one run."""

import dataclasses
from typing import Any

from rsis_tf.config.checks import check_fields, require
from rsis_tf.config.data import DataConfig
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.config.model import ModelConfig
from rsis_tf.config.training import TrainConfig

FOLLOWING = {"data": ("image_size", "aspect"), "train": ("num_steps",)}
"""Part of a `RunConfig` → its fields whose values are those of the model. `config.json` stores them once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Model, data and training of one run; stored as `config.json` in the run's folder.

    Image size, aspect and number of steps are the model's; data and training follow it (`FOLLOWING`).

    Attributes:
        model: the network.
        data: which images are read, and how.
        train: losses, optimisation, curriculum and start.

    Raises:
        InputError: if the parts do not work together.
    """

    model: ModelConfig
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_fields(self)
        for part, names in FOLLOWING.items():
            values = {name: getattr(self.model, name) for name in names}
            object.__setattr__(self, part, getattr(self, part).changed(**values))
        expected = "0 with recompute, whose second pass would drop other channels"
        require(not (self.train.optimization.recompute and self.model.dropout), "dropout", expected, self.model.dropout)
        head, given = MASK_HEADS[self.model.mask_head], f"with mask_head={self.model.mask_head!r}"
        share = self.data.partial_sequences
        expected = f"0 {given}, which cannot mark objects as found"
        require(not share or head.partial_sequences, "partial_sequences", expected, share)
        weights = self.train.losses.head_loss_weights
        expected = f"weights of {', '.join(head.loss_weights) or 'nothing'} {given}"
        require(weights.keys() <= head.loss_weights.keys(), "head_loss_weights", expected, weights)

    def changed(self, **settings: Any) -> "RunConfig":
        """Returns a copy with other values in some fields of model, data and training.

        ```python
        settings.changed(root="photos", image_size=(320, 320), epochs=50)
        ```

        Args:
            **settings: fields of the three parts by their names; a name that two parts have, such as `seed`, changes
                both.

        Raises:
            InputError: for a value out of range.
            TypeError: for a name that is no setting.
        """
        if "mask_head" in settings:
            # Another head has other loss terms.
            head = MASK_HEADS.get(settings["mask_head"]) if isinstance(settings["mask_head"], str) else None
            terms = head.loss_weights if head else ()
            kept = {name: w for name, w in self.train.losses.head_loss_weights.items() if name in terms}
            settings = {"head_loss_weights": kept, **settings}
        accepted = {
            "model": {field.name for field in dataclasses.fields(ModelConfig)},
            "data": self.data.accepted_names(),
            "train": self.train.accepted_names(),
        }
        unknown = sorted(set(settings).difference(*accepted.values()))
        if unknown:
            raise TypeError(f"a run has no setting of this name. Received: {', '.join(unknown)}")
        given = {
            part: {name: value for name, value in settings.items() if name in names} for part, names in accepted.items()
        }
        return RunConfig(
            model=dataclasses.replace(self.model, **given["model"]),
            data=self.data.changed(**given["data"]),
            train=self.train.changed(**given["train"]),
        )

    def flat(self) -> dict[str, Any]:
        """Returns all single settings by name, without parts and groups."""
        model = {field.name: getattr(self.model, field.name) for field in dataclasses.fields(self.model)}
        return {**self.train.flat(), **self.data.flat(), **model}

    def resolved(self) -> "RunConfig":
        """Returns a copy in which the loss weights of the mask head are written out, those of the table included."""
        return self.changed(head_loss_weights=self.train.losses.of_head(self.model.mask_head))
