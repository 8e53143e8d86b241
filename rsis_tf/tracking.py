"""Identities of objects over the frames of a video. Needs numpy alone, and takes the objects of any predictor.

    from rsis_tf.tracking import Tracker

    tracker = Tracker()
    for found, ids in tracker.stream(predictor.stream(frames)):
        for instance, identity in zip(found, ids):  # 0: not an object, or not one for sure
            print(identity, instance.class_name, instance.box)
    print(tracker.counts)  # distinct objects of each class

Each frame, the objects are assigned to the tracks in two rounds, first to confirmed tracks and then to new ones:

1. By the IoU of the object's mask with the track's last mask, moved to where the object should be now. Its velocity is
   the slope of the last centres, so that it is constant (as in SORT, Bewley et al., 2016), without a Kalman filter.
2. What remains, by the distance of the centres in units of the object's diameter.

In each round the sum of the similarities is as large as possible (Hungarian algorithm), and classes must agree. Rounds
from the more to the less certain are those of ByteTrack (Zhang et al., 2022). A track without an object keeps its
velocity for `memory` frames. A new track counts only after `confirm` observations in its first `confirm` + 1 frames, so
that flicker does not raise the number of objects.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsis_tf.assignment import assign
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    from rsis_tf.runtime import CroppedMask, Instance

MEMORY, CONFIRM = 15, 2
"""Defaults of `Tracker`."""
_LEAST_IOU = 0.1
_REACH = 1.0
"""Largest distance in the second round, in diameters of the object; it grows while the object is not seen …"""
_REACH_GROWTH, _MOST_REACH = 0.1, 2.0
"""… by this much each frame, up to this."""
_LEAST_RATIO = 0.1
"""Least ratio of the areas of two objects in the second round."""
_CENTRES, _AREAS = 5, 10
"""Observations that velocity and usual area are computed from."""


class Tracker:
    """Gives the objects of each frame identities: 1, 2, … in the order in which they are confirmed, never reused.

    The identities do not depend on the order of the objects in a frame.

    Args:
        memory: frames without the object after which its track ends; 0 to end it at once.
        confirm: observations that a new object needs, in its first `confirm` + 1 frames; 1 to accept each at once.

    Raises:
        InputError: for another number.
    """

    def __init__(self, *, memory: int = MEMORY, confirm: int = CONFIRM) -> None:
        for name, value, least in (("memory", memory, 0), ("confirm", confirm, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"expected {name} to be an integer from {least}. Received: {value!r}")
        self._memory, self._confirm = memory, confirm
        self._tracks: list[_Track] = []
        self._frame = self._read = -1  # numbers of the last frame, and of the last one of those that could be read
        self._classes: list[int] = []  # of the identities 1, 2, …

    @property
    def count(self) -> int:
        """Number of distinct objects so far."""
        return len(self._classes)

    @property
    def counts(self) -> dict[int, int]:
        """Number of distinct objects so far by class id, sorted."""
        return dict(sorted(collections.Counter(self._classes).items()))

    def update(self, instances: "Sequence[Instance] | None") -> list[int]:
        """Takes the objects of the next frame.

        Args:
            instances: in any order; None for a frame that is missing or damaged.

        Returns:
            The identity of each; 0 for one that is not confirmed yet and for an empty mask. `stream` waits until it is
            known.
        """
        return _identities(self._follow(instances))

    def stream(
        self, frames: "Iterable[Sequence[Instance] | None]"
    ) -> "Iterator[tuple[Sequence[Instance] | None, list[int]]]":
        """Takes the objects of frames as they come and returns them `confirm` frames later at most.

        The objects of new tracks then have their identities from the first frame on.

        Args:
            frames: the objects of each frame; None for one that is missing or damaged.

        Yields:
            The objects of each frame, and the identity of each; 0 for objects that were never confirmed.
        """
        waiting: collections.deque[tuple[Sequence[Instance] | None, list[_Track | None]]] = collections.deque()
        for instances in frames:
            waiting.append((instances, self._follow(instances)))
            while waiting and all(track is None or track.identity is not None for track in waiting[0][1]):
                earlier, tracks = waiting.popleft()
                yield earlier, _identities(tracks)
        for earlier, tracks in waiting:
            yield earlier, _identities(tracks)

    def _follow(self, instances: "Sequence[Instance] | None") -> "list[_Track | None]":
        """Updates the tracks with the next frame and returns the track of each object."""
        self._frame += 1
        for track in self._tracks:  # those that are forgotten before they are confirmed
            if track.identity is None and self._frame - track.last > self._memory + 1:
                track.identity = 0
        if instances is None:
            return []
        self._read += 1
        seen = sorted(
            (_Seen.of(instance, number) for number, instance in enumerate(instances) if instance.area),
            key=lambda one: (one.y, one.x, one.area, one.class_id),
        )
        found: list[_Track | None] = [None] * len(instances)
        tracks = [track for track in self._tracks if self._frame - track.last <= self._memory + 1]
        for new in (False, True):
            for similarity in (_overlap, _nearness):
                free = [track for track in tracks if track.last < self._frame and (track.identity is None) == new]
                left = [one for one in seen if found[one.number] is None]
                for row, column in assign(_similarities(free, left, self._frame, similarity)):
                    free[row].observe(left[column], self._frame)
                    found[left[column].number] = free[row]
        for one in seen:
            if found[one.number] is None:
                track = _Track(one, self._frame, born=self._read)
                tracks.append(track)
                found[one.number] = track
        for track in tracks:
            if track.identity is None and track.observations >= self._confirm:
                self._classes.append(track.class_id)
                track.identity = len(self._classes)
            elif track.identity is None and self._read - track.born >= self._confirm:
                track.identity = 0
        self._tracks = [track for track in tracks if track.identity != 0]
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seen:
    """An object in a frame: what the tracker needs of it, with `number`, its position in the list."""

    number: int
    class_id: int
    mask: "CroppedMask"
    area: int
    x: float
    y: float

    @classmethod
    def of(cls, instance: "Instance", number: int) -> "_Seen":
        mask = instance.cropped
        x, y = centre(mask)
        return cls(number=number, class_id=int(instance.class_id), mask=mask, area=mask.area, x=x, y=y)


class _Track:
    """An object followed through the frames.

    Attributes:
        identity: None as long as it is not known whether there is an object, 0 if there is none.
        born: number of its first frame among those that could be read.
        last: number of the frame in which it was last seen.
        observations: number of frames in which it was seen.
    """

    def __init__(self, seen: _Seen, frame: int, *, born: int) -> None:
        self.identity: int | None = None
        self.class_id = seen.class_id
        self.born = born
        self.observations = 0
        self._areas: collections.deque[int] = collections.deque(maxlen=_AREAS)
        self._centres: collections.deque[tuple[int, float, float]] = collections.deque(maxlen=_CENTRES)
        self.observe(seen, frame)

    def observe(self, seen: _Seen, frame: int) -> None:
        """Adds the object of a frame."""
        self.last = frame
        self.observations += 1
        self._areas.append(seen.area)
        self.area = float(np.median(self._areas))
        self.mask = seen.mask
        self._centres.append((frame, seen.x, seen.y))

    def moved(self, frame: int) -> tuple[float, float]:
        """Returns how far (x, y) the object should be from its last mask in a frame."""
        times, xs, ys = np.array(self._centres).T  # (n,) each
        times = times - times.mean()
        slope = times / max(1e-9, float((times**2).sum()))
        elapsed = frame - self.last
        return elapsed * float(slope @ xs), elapsed * float(slope @ ys)

    def expected(self, frame: int) -> tuple[float, float]:
        """Returns the centre (x, y) where the object should be in a frame."""
        (x, y), (_, x0, y0) = self.moved(frame), self._centres[-1]
        return x0 + x, y0 + y


def centre(mask: "CroppedMask") -> tuple[float, float]:
    """Returns the centre of mass (x, y) of a mask that is not empty; (0.5, 0.5) is the middle of the first pixel."""
    total = mask.area
    columns, rows = mask.crop.sum(axis=0), mask.crop.sum(axis=1)  # (w,) and (h,)
    x = float(columns @ np.arange(len(columns))) / total
    y = float(rows @ np.arange(len(rows))) / total
    return mask.corner[0] + x + 0.5, mask.corner[1] + y + 0.5


_Similarity = Callable[[_Track, _Seen, int], float]


def _identities(tracks: list[_Track | None]) -> list[int]:
    """Returns the identity of the track of each object, 0 where there is none."""
    return [track.identity or 0 if track else 0 for track in tracks]


def _similarities(tracks: Sequence[_Track], seen: Sequence[_Seen], frame: int, similarity: _Similarity) -> np.ndarray:
    """Returns the (tracks, objects) similarities, 0 where the classes differ."""
    weights = np.zeros((len(tracks), len(seen)))
    if not weights.size:
        return weights
    same = np.array([t.class_id for t in tracks])[:, None] == np.array([s.class_id for s in seen])
    at = np.array([track.expected(frame) for track in tracks])  # (n, 2)
    reach = np.array([max(track.mask.crop.shape) for track in tracks])  # (n,)
    sides = np.array([max(one.mask.crop.shape) for one in seen])  # (m,)
    away = np.abs(at[:, None] - np.array([(one.x, one.y) for one in seen])).max(axis=2)  # (n, m)
    near = away <= 0.6 * _MOST_REACH * (reach[:, None] + sides)  # farther pairs have no similarity of either kind
    for row, column in np.argwhere(same & near):
        weights[row, column] = similarity(tracks[row], seen[column], frame)
    return weights


def _overlap(track: _Track, seen: _Seen, frame: int) -> float:
    """Returns the IoU of an object with the track's mask where it should be, 0 if it is small."""
    x, y = track.moved(frame)
    left, top = track.mask.corner[0] + round(x), track.mask.corner[1] + round(y)
    x0, y0, x1, y1 = seen.mask.box
    height, width = track.mask.crop.shape
    a, b, c, d = max(left, x0), max(top, y0), min(left + width, x1), min(top + height, y1)
    if a >= c or b >= d:
        return 0.0
    ours = track.mask.crop[b - top : d - top, a - left : c - left]
    shared = int(np.count_nonzero(ours & seen.mask.crop[b - y0 : d - y0, a - x0 : c - x0]))
    iou = shared / (track.mask.area + seen.area - shared)
    return iou if iou >= _LEAST_IOU else 0.0


def _nearness(track: _Track, seen: _Seen, frame: int) -> float:
    """Returns 1 for an object where it should be, 0 for one out of reach or of another size."""
    small, large = sorted((track.area, seen.area))
    if small < _LEAST_RATIO * large:
        return 0.0
    x, y = track.expected(frame)
    diameter = (math.sqrt(track.area) + math.sqrt(seen.area)) / math.sqrt(math.pi)  # mean of two discs of these areas
    reach = min(_REACH + _REACH_GROWTH * (frame - track.last - 1), _MOST_REACH) * diameter
    return max(0.0, 1 - math.hypot(x - seen.x, y - seen.y) / reach)
