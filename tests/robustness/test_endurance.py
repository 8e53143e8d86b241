"""What `endurance.py` measures, for a moment: the tool itself finds wrong answers, stuck threads and growing memory."""

import itertools
import pathlib
import threading

import endurance
import numpy as np
import pytest

from rsis_tf.runtime import Predictor


@pytest.fixture
def predictor(toy_model):
    return Predictor(toy_model(), threads=1)


def test_eight_threads_get_the_answers_of_one(predictor):
    outcome = endurance.with_threads(predictor, threads=8, seconds=1)
    assert (outcome.wrong, outcome.stuck) == (0, 0)
    assert outcome.calls > 8


def test_wrong_answers_and_errors_are_counted(predictor):
    main = threading.current_thread()
    calls = itertools.count()

    def unsafe(image):
        if threading.current_thread() is main:
            return predictor(image)
        if next(calls) % 2:
            raise RuntimeError("another thread")
        return predictor(np.full_like(image, 255))

    outcome = endurance.with_threads(unsafe, threads=2, seconds=0.5)
    assert outcome.wrong == outcome.calls > 0
    assert not outcome.passed


def test_a_thread_that_never_ends_is_counted(predictor):
    main, release = threading.current_thread(), threading.Event()

    def blocking(image):
        if threading.current_thread() is not main:
            release.wait()
        return predictor(image)

    outcome = endurance.with_threads(blocking, threads=2, seconds=0.1, grace=0.5)
    release.set()
    assert outcome.stuck == 2
    assert not outcome.passed


def test_memory_that_grows_is_noticed():
    sizes = itertools.chain([10 << 20] * 3, itertools.repeat(100 << 20))
    with endurance.Memory(lambda: next(sizes)) as memory:
        threading.Event().wait(4.2)  # eight samples
    outcome = endurance.Outcome(calls=1, wrong=0, stuck=0, seconds=4, memory=(10 << 20, memory.summary()[1], 0))
    assert outcome.growth == 90 << 20
    assert not outcome.passed


def test_the_work_of_an_actor_is_the_same_for_the_same_image(toy_model):
    outcome = endurance.with_callable(pathlib.Path(toy_model()), images=120)
    assert (outcome.calls, outcome.wrong) == (120, 0)
