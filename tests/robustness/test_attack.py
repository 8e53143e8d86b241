"""A few damaged files of every kind; `attack.py` runs thousands."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from attack import GOOD, Limits, attack
from targets import TARGETS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damage_is_refused_or_read(name):
    results = attack(name, cases=TARGETS[name].quick, seed=2026, limits=Limits(seconds=60))
    assert len(results) == TARGETS[name].quick
    assert [result for result in results if result[1] not in GOOD] == []
