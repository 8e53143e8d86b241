"""A few damaged files of every kind, and the attack's own errors; `attack.py` runs thousands."""

import collections
import io
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import worker
from attack import GOOD, AttackError, Limits, attack, count_cases
from targets import TARGETS, Target


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damage_is_refused_or_read(name):
    results = list(attack(name, cases=TARGETS[name].quick, seed=2026, limits=Limits(seconds=60)))
    assert len(results) == TARGETS[name].quick
    assert [result for result in results if result[1] not in GOOD] == []


def lines_of(target, cases):
    report = io.StringIO()
    worker.run(target, name="fake", seed="0", cases=range(cases), report=report)
    return [json.loads(line) for line in report.getvalue().splitlines()]


def write_one(folder):
    (folder / "a.txt").write_text("whole", encoding="utf-8")


def test_damage_that_fails_is_no_answer_of_the_reader():
    damaged = []

    def mutate(rng, folder):
        damaged.append(folder)
        if len(damaged) == 1:
            raise IndexError("no file fits")

    lines = lines_of(Target(make=write_one, mutate=mutate, read=lambda folder: []), 2)
    assert lines[1:3] == [
        {"damaging": 0},
        {"case": 0, "outcome": "not damaged", "detail": "IndexError: no file fits"},
    ]
    assert lines[-1] == {"case": 1, "outcome": "answered", "detail": ""}


def test_a_whole_artefact_that_is_refused_is_reported_with_the_reason():
    def read(folder):
        raise ValueError("not a model")

    lines = lines_of(Target(make=write_one, mutate=lambda rng, folder: None, read=read), 1)
    assert lines == [{"failed": "ValueError: not a model"}]


FAKE_WORKER = """
import json, os, sys
name, _, first, count = sys.argv[1:]
tell = lambda **values: print(json.dumps(values), flush=True)
if name == "refused":
    tell(failed="ValueError: not a model")
    sys.exit()
if name == "no import":
    sys.exit("ImportError: no such module")
tell(ready=True)
for case in range(int(first), int(first) + int(count)):
    tell(damaging=case)
    if case == 1 and name == "damage":
        sys.stderr.write("some\\nterminate called")
        os._exit(3)
    if case == 1 and name == "fault":
        tell(case=case, outcome="not damaged", detail="IndexError: no file fits")
        continue
    tell(reading=case)
    if case == 1 and name == "crash":
        os._exit(5)
    tell(case=case, outcome="refused", detail="")
"""


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "fake_worker.py"
    path.write_text(FAKE_WORKER, encoding="utf-8")
    return lambda name: attack(name, cases=3, seed=0, worker=path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refused", r"^refused: the whole artefact .* \(ValueError: not a model\)$"),
        ("no import", r"^no import: the whole artefact .* \(exit code 1, ImportError: no such module\)$"),
        ("damage", r"^damage, case 1: the damage failed \(exit code 3, terminate called\)$"),
    ],
)
def test_an_attack_that_does_not_work_says_where_and_why(fake, name, message):
    with pytest.raises(AttackError, match=message):
        list(fake(name))


def test_an_attack_goes_on_after_a_crash(fake):
    assert list(fake("crash")) == [(0, "refused", ""), (1, "crash", "exit code 5"), (2, "refused", "")]


def test_what_is_counted(fake, capsys):
    counts = {name: collections.Counter() for name in ("whole", "crash", "fault", "damage")}
    fine = {name: count_cases(fake(name), counts[name], place=name, cases=3) for name in counts}
    assert fine == {"whole": True, "crash": False, "fault": False, "damage": False}
    assert counts["whole"] == {"refused": 3}
    assert counts["crash"] == {"refused": 2, "crash": 1}
    assert counts["fault"] == {"refused": 2}
    assert counts["damage"] == {"refused": 1}
    screen = capsys.readouterr().out
    assert "fault, case 1: not damaged (IndexError: no file fits)" in screen
    assert "error: damage, case 1: the damage failed" in screen
