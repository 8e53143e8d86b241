"""Identities over frames: generated sequences whose identities are known, and properties of any sequence."""

import itertools
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_shapes import Errors, Mover, arc, instance, line, predicted, scene, truth
from scipy.optimize import linear_sum_assignment
from tracking_scores import score

from rsis_tf.assignment import assign
from rsis_tf.errors import InputError
from rsis_tf.runtime import Instances
from rsis_tf.tracking import Tracker

SIZE = 64, 96


def sequence(movers, frames, errors=None, seed=0):
    """Returns true and predicted objects of each frame; with `errors`, those of a network."""
    generator = np.random.default_rng(seed)
    true = [truth(movers, scene(movers, frame, SIZE)) for frame in range(frames)]
    return true, [predicted(objects, SIZE, errors or Errors(), generator) for objects in true]


def tracked(found, **options):
    """Returns a tracker that has seen all frames, and identity → object of each frame."""
    tracker = Tracker(**options)
    frames = []
    for instances, ids in tracker.stream(found):
        known = [i for i in ids if i]
        assert len(set(known)) == len(known)
        frames.append({i: one for one, i in zip(instances or (), ids, strict=True) if i})
    return tracker, frames


def perfect(movers, frames, errors=None, **options):
    true, found = sequence(movers, frames, errors)
    tracker, identified = tracked(found, **options)
    return tracker, score(true, identified)


@pytest.mark.parametrize("speed", [0, 1, 3, 5])
def test_an_object_keeps_its_identity_at_any_moderate_speed(speed):
    tracker, scores = perfect([Mover(path=line((8, 30), (speed, 0)))], 16)
    assert (tracker.count, scores.idf1, scores.mota) == (1, 1, 1)


def test_objects_that_cross_keep_their_identities():
    movers = [
        Mover(path=line((10, 30), (2, 0)), radius=7),
        Mover(path=line((86, 32), (-2, 0)), radius=7),  # behind the first, which hides it for some frames
        Mover(path=line((40, 4), (0, 2)), radius=5, class_id=2, turn=(0, 0.1)),
    ]
    tracker, scores = perfect(movers, 36)
    assert (tracker.count, scores.switches, scores.surplus) == (3, 0, 0)
    assert tracker.counts == {1: 2, 2: 1}
    assert scores.idf1 > 0.97


def test_objects_on_curves_keep_their_identities_with_the_errors_of_a_network():
    movers = [Mover(path=arc((48, 32), 20, phase, 0.12), radius=6) for phase in (0, 2, 4)]
    movers.append(Mover(path=line((6, 58), (1.5, -0.5)), radius=5, class_id=2))
    errors = Errors(missed=0.1, flicker=0.3, shift=0.7, ragged=0.3)
    tracker, scores = perfect(movers, 50, errors)
    assert (scores.switches, tracker.count) == (0, 4)
    assert scores.idf1 > 0.85


@pytest.mark.parametrize("hidden", [1, 4, 10])
def test_a_moving_object_survives_an_occlusion_no_longer_than_the_memory(hidden):
    def mover(frames):
        return Mover(path=line((8, 30), (3, 1)), hidden=range(6, 6 + frames))

    assert perfect([mover(hidden)], 24, memory=hidden)[0].count == 1
    assert perfect([mover(hidden + 1)], 24, memory=hidden)[0].count == 2


def test_an_object_that_stops_behind_another_is_not_lost():
    stop = types.SimpleNamespace(x=50)
    moving = Mover(path=lambda frame: (min(8 + 2 * frame, stop.x), 30), radius=6)
    front = Mover(path=line((56, 30), (0, 0)), radius=6)
    tracker, scores = perfect([front, moving], 40)
    assert (tracker.count, scores.switches) == (2, 0)


def test_objects_that_leave_and_enter_are_different_objects():
    movers = [
        Mover(path=line((80, 20), (4, 0), last=6)),
        Mover(path=line((4, 20), (4, 0), first=9)),
    ]
    tracker, scores = perfect(movers, 20)
    assert (tracker.count, scores.switches) == (2, 0)


def test_an_object_of_another_class_is_another_object():
    mask = np.zeros(SIZE, bool)
    mask[10:20, 10:20] = True
    found = [[instance(mask, 1)]] * 4 + [[instance(mask, 2)]] * 4
    tracker, frames = tracked(found)
    assert [list(frame) for frame in frames] == [[1]] * 4 + [[2]] * 4
    assert tracker.counts == {1: 1, 2: 1}


def test_flicker_does_not_count_unless_asked_for():
    movers = [Mover(path=line((20, 30), (1, 0)))]
    _, found = sequence(movers, 30, Errors(flicker=0.5), seed=3)
    flickers = sum(map(len, found)) - 30
    assert flickers > 8
    assert tracked(found)[0].count == 1
    assert tracked(found, confirm=1)[0].count > 4
    blink = [truth(movers, scene(movers, 0, SIZE)).values() if shown == "1" else () for shown in "1100100100"]
    assert tracked([list(objects) for objects in blink], memory=0)[0].count == 1


def test_update_confirms_late_and_stream_from_the_first_frame_on():
    movers = [Mover(path=line((8, 30), (2, 0)))]
    _, found = sequence(movers, 5)
    tracker = Tracker(confirm=3)
    assert [tracker.update(instances) for instances in found] == [[0], [0], [1], [1], [1]]
    assert [ids for _, ids in Tracker(confirm=3).stream(found)] == [[1]] * 5
    assert [ids for _, ids in Tracker(confirm=3).stream(found[:2])] == [[0]] * 2


def test_stream_returns_frames_after_as_many_frames_as_a_confirmation_needs():
    _, found = sequence([Mover(path=line((8, 30), (2, 0)))], 30, Errors(flicker=1, missed=0.2), seed=1)
    taken = []
    frames = Tracker(confirm=2).stream(taken.append(instances) or instances for instances in found)
    delays = []
    for number, (instances, _) in enumerate(frames):
        assert instances is found[number]
        delays.append(len(taken) - 1 - number)
    assert max(delays[:-2]) == 2
    assert min(delays) == 0


@pytest.mark.parametrize(("memory", "confirm"), [(0, 2), (0, 3), (1, 3), (2, 5)])
def test_an_object_that_is_forgotten_before_it_is_confirmed_holds_nothing_up(memory, confirm):
    _, found = sequence([Mover(path=line((8, 30), (1, 0)))], 40)
    once = [instances if number == 5 else [] for number, instances in enumerate(found)]
    taken = []
    frames = Tracker(memory=memory, confirm=confirm).stream(taken.append(1) or instances for instances in once)
    delays = [len(taken) - 1 - number for number, _ in enumerate(frames)]
    assert max(delays[:-confirm]) <= confirm
    gone = [found[0], *[None] * 30, *found[31:]]
    taken.clear()
    frames = Tracker(memory=memory, confirm=confirm).stream(taken.append(1) or instances for instances in gone)
    assert max(len(taken) - 1 - number for number, _ in zip(range(25), frames, strict=False)) <= memory + 2


def test_frames_that_are_missing_age_the_tracks():
    _, found = sequence([Mover(path=line((8, 30), (3, 0)))], 20)
    gap = [instances if frame not in range(8, 12) else None for frame, instances in enumerate(found)]
    assert [list(frame) for frame in tracked(gap)[1]] == [[1]] * 8 + [[]] * 4 + [[1]] * 8
    assert tracked(gap, memory=3)[0].count == 2
    assert list(Tracker().stream([None, None])) == [(None, []), (None, [])]
    assert tracked([found[0], None, None, None, found[4]])[0].count == 1  # a confirmation counts frames that were read


def test_empty_masks_have_no_identity():
    nothing = instance(np.zeros(SIZE, bool))
    assert [ids for _, ids in Tracker(confirm=1).stream([[nothing], [nothing, nothing], []])] == [[0], [0, 0], []]


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_objects_does_not_matter_and_identities_are_never_reused(seed):
    generator = np.random.default_rng(seed)
    movers = [
        Mover(path=line(tuple(generator.uniform(5, 60, 2)), tuple(generator.uniform(-3, 3, 2))), class_id=1 + n % 2)
        for n in range(5)
    ]
    _, found = sequence(movers, 14, Errors(missed=0.2, flicker=1, shift=0.5), seed=seed)
    orders = [generator.permutation(len(instances)) for instances in found]
    shuffled = [Instances([one[i] for i in order], size=SIZE) for one, order in zip(found, orders, strict=True)]
    tracker = Tracker(memory=1)
    first = [ids for _, ids in tracker.stream(found)]
    second = [ids for _, ids in Tracker(memory=1).stream(shuffled)]
    assert [[ids[i] for i in order] for ids, order in zip(first, orders, strict=True)] == second
    seen = {identity: [t for t, ids in enumerate(first) if identity in ids] for identity in range(1, tracker.count + 1)}
    assert all(seen.values())
    assert all(b - a <= 2 for frames in seen.values() for a, b in itertools.pairwise(frames))  # never after its end


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_an_assignment_is_optimal(rows, columns, seed, ties):
    generator = np.random.default_rng(seed)
    weights = generator.random((rows, columns)) * (generator.random((rows, columns)) < generator.random())
    weights = np.round(3 * weights) if ties else weights
    pairs = assign(weights)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(weights[pair] > 0 for pair in pairs)
    best = weights[linear_sum_assignment(-weights)].sum() if weights.size else 0
    assert sum(weights[pair] for pair in pairs) == pytest.approx(best)


@pytest.mark.parametrize("options", [{"memory": -1}, {"memory": 1.5}, {"confirm": 0}, {"confirm": True}])
def test_wrong_options_give_one_line(options):
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=rf"expected {name} to be an integer from \d\. Received: {value}"):
        Tracker(**options)


def test_the_scores_of_tracking_on_a_sequence_counted_by_hand():
    left, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[:10, :10] = right[:10, 50:60] = True
    true = [{1: instance(left), 2: instance(right)}] * 4
    # Object 1 has the identity 7, then 8; object 2 is missed once; once there is an object too many.
    found = [{7: instance(left), 9: instance(right)}] * 2 + [{8: instance(left)}]
    found.append({8: instance(left), 9: instance(right), 3: instance(~left & ~right)})
    scores = score(true, found)
    assert (scores.switches, scores.missed, scores.surplus) == (1, 1, 1)
    assert scores.mota == pytest.approx(1 - 3 / 8)
    assert scores.idf1 == pytest.approx(2 * 5 / (8 + 8))  # 1 as 7 (or 8) in two frames, 2 as 9 in three
