"""The card of a model of the package: what it does, how it was trained, its scores, limits, licence and files."""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Annotated

from rsis_tf.config import json_file
from rsis_tf.config.checks import Between, Matching, OneOf, check_fields, require
from rsis_tf.errors import InputError
from rsis_tf.zoo import registry

SHOWN = {"ap50": "AP50", "ap": "AP", "ap75": "AP75", "sbd": "SBD", "abs_dic": "|DiC|"}
"""The scores of a card → their titles, as in `rsis_tf.evaluation.metrics.table`."""

_Sentence = Annotated[str, Matching(r"(?s)\S.*", "a text")]
_Count = Annotated[int, Between(1, 1 << 40)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardScore:
    """One score.

    Attributes:
        value: of the model's ONNX file.
        low, high: 95 % bootstrap interval over the images.
        seeds: the scores of all trainings, in the order of `Card.seeds`, as each training measured them.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.low <= self.value <= self.high, "value", f"in the interval {self.low}..{self.high}", self.value)

    @property
    def mean(self) -> float:
        """The mean over the trainings."""
        return statistics.fmean(self.seeds)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the trainings; None for one training."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Where the scores come from.

    Attributes:
        command: prints them.
        split: of the dataset.
        images, objects: their numbers in the split.
        scores: name → score, for the names in `SHOWN`.
    """

    command: _Sentence
    split: Annotated[str, OneOf(("train", "val", "test"))]
    images: _Count
    objects: _Count
    scores: Mapping[str, CardScore]

    def __post_init__(self) -> None:
        check_fields(self)
        require(list(self.scores) == list(SHOWN), "scores", f"the scores {', '.join(SHOWN)}", list(self.scores))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """The median time of one image of the model's size, with one CPU thread.

    Attributes:
        milliseconds: of one run of the ONNX file.
        command: measures it.
        machine: processor and version of ONNX Runtime.
    """

    milliseconds: Annotated[float, Between(0, 1e6, open_low=True)]
    command: _Sentence
    machine: _Sentence

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredFile:
    """Size in bytes and SHA-256 of a file."""

    bytes: _Count
    sha256: Annotated[str, Matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a model.

    Attributes:
        format: of the card.
        name: of the model.
        finds: the objects and the kind of images, as it continues "finds …".
        data, data_license: the images of the training.
        license: of the weights.
        command: trains the model.
        seeds: of the trainings; `seed` is that of the weights in the files, chosen as `choice` says.
        version: of the package that trained it.
        encoder, parameters: of the network.
        class_names: K names, the first of them the background.
        image_size: (height, width) at which the network runs.
        num_steps: objects in an image at most.
        limits, not_for: what it cannot do, and what it must not be used for.
        measured, speed: scores and time.
        files: name → size and checksum.
    """

    format: Annotated[int, OneOf((1,))] = 1
    name: Annotated[str, Matching(r"[a-z][a-z0-9_-]{0,63}", "a name of small letters")]
    finds: _Sentence
    data: _Sentence
    data_license: _Sentence
    license: _Sentence
    command: _Sentence
    seeds: tuple[int, ...]
    seed: int
    choice: _Sentence
    version: _Sentence
    encoder: _Sentence
    parameters: _Count
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    num_steps: _Count
    limits: tuple[str, ...]
    not_for: tuple[str, ...]
    measured: Measured
    speed: Speed
    files: Mapping[str, StoredFile]

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.seed in self.seeds, "seed", f"one of the seeds {list(self.seeds)}", self.seed)
        for name, score in self.measured.scores.items():
            expected = f"{len(self.seeds)} scores, one for each seed"
            require(len(score.seeds) == len(self.seeds), f"seeds of {name}", expected, score.seeds)

    @property
    def size(self) -> int:
        """Bytes of the ONNX file."""
        return self.files[f"{self.name}.onnx"].bytes


def read_card(name: str) -> Card:
    """Reads the card of a model of the package.

    Raises:
        InputError: if there is no such model, or its card is damaged.
    """
    path = registry.file_of(name, ".json")
    if name not in registry.names():
        raise InputError(f"expected the name of a model. Received: {name}{registry.hint(name)}")
    card = json_file.load(Card, path)
    if card.name != name:
        raise InputError(f"expected the card of {name}. Received: that of {card.name} in {path}")
    return card


def read_cards() -> list[Card]:
    """Reads the cards of all models, sorted by name."""
    return [read_card(name) for name in registry.names()]
