"""Identities of objects over the frames of each sequence, and their number."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from rsis_tf.batch_prediction.sources import Place, Source
from rsis_tf.runtime import Instance, Instances
from rsis_tf.tracking import CONFIRM, MEMORY, Tracker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    """How identities are followed, see `rsis_tf.tracking.Tracker`."""

    memory: int = MEMORY
    confirm: int = CONFIRM


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """An image and its objects.

    Attributes:
        source: where it comes from.
        image: (H, W, 3) uint8.
        instances: to write.
        full: whether there may be more objects.
        ids: the identity of each object; empty if identities are not followed.
    """

    source: Source
    image: np.ndarray
    instances: Sequence[Instance]
    full: bool = False
    ids: Sequence[int] = ()


def identify(frames: Iterator[Predicted], tracking: Tracking) -> Iterator[Predicted]:
    """Follows the objects through each sequence and leaves out those that are never confirmed.

    Args:
        frames: sources with a place, one sequence after the other.
        tracking: the options.

    Yields:
        The frames, `tracking.confirm` frames later at most.
    """
    for _, sequence in itertools.groupby(frames, key=lambda one: one.source.place and one.source.place.sequence):
        waiting: collections.deque[Predicted] = collections.deque()
        tracker = Tracker(memory=tracking.memory, confirm=tracking.confirm)
        for found, ids in tracker.stream(_with_gaps(sequence, waiting)):
            if found is None:
                continue
            kept = [(instance, identity) for instance, identity in zip(found, ids, strict=True) if identity]
            yield dataclasses.replace(
                waiting.popleft(), instances=[instance for instance, _ in kept], ids=[identity for _, identity in kept]
            )


def _with_gaps(
    frames: Iterator[Predicted], waiting: collections.deque[Predicted]
) -> Iterator[Sequence[Instance] | None]:
    """Yields the objects of each frame, and None for each frame that could not be read; keeps the frames."""
    following = 0
    for frame in frames:
        position = frame.source.place.position if frame.source.place else 0
        yield from itertools.repeat(None, position - following)
        following = position + 1
        waiting.append(frame)
        yield frame.instances


def drawn(instances: Instances, ids: Sequence[int]) -> Instances:
    """Returns the objects with their identities as steps: drawings take colour and number from the step."""
    same = [
        dataclasses.replace(instance, mask=instance.cropped, step=identity - 1)  # type: ignore[arg-type]
        for instance, identity in zip(instances, ids, strict=True)
    ]
    return Instances(same, size=instances.size, full=instances.full)


class Distinct:
    """Counts the distinct objects of each sequence."""

    def __init__(self) -> None:
        self._classes: dict[str, dict[int, int]] = {}  # path of the sequence → identity → class

    def add(self, place: Place, instances: Sequence[Instance], ids: Sequence[int]) -> int:
        """Adds the objects of a frame and returns the number of distinct objects of its sequence so far."""
        classes = self._classes.setdefault(place.title, {})
        classes.update({identity: int(one.class_id) for one, identity in zip(instances, ids, strict=True)})
        return len(classes)

    def rows(self) -> Iterator[tuple[str, dict[int, int]]]:
        """Yields each sequence and the number of its distinct objects by class."""
        for title, classes in self._classes.items():
            yield title, dict(sorted(collections.Counter(classes.values()).items()))
