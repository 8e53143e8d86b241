"""Runs damaged cases of one target and prints a line of JSON for each: `python worker.py TARGET SEED FIRST COUNT`.

The lines are, in this order: `{"failed": reason}` if the whole artefact cannot be made or read, else `{"ready": true}`;
then for each case `{"damaging": case}`, `{"reading": case}` and `{"case": case, "outcome": …, "detail": …}`.
"""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile
from typing import Any, TextIO

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]


def main(name: str, seed: str, first: str, count: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
        os.dup2(2, 1)  # what libraries print must not get among the lines of JSON
        from targets import TARGETS

        run(TARGETS[name], name=name, seed=seed, cases=range(int(first), int(first) + int(count)), report=report)


def run(target: Any, *, name: str, seed: str, cases: range, report: TextIO) -> None:
    """Makes a whole artefact, then damages and reads a copy of it for each case."""

    def tell(**values: Any) -> None:
        print(json.dumps(values), file=report, flush=True)

    with tempfile.TemporaryDirectory() as place:
        whole = pathlib.Path(place) / "whole"
        whole.mkdir()
        try:
            target.make(whole)
            expected = target.read(whole)
        except Exception as error:
            tell(failed=_text(error))
            return
        tell(ready=True)
        for case in cases:
            folder = pathlib.Path(place) / "out" / "case"
            shutil.rmtree(folder.parent, ignore_errors=True)
            shutil.copytree(whole, folder)
            before = _beside(folder)
            tell(damaging=case)
            try:
                target.mutate(random.Random(f"{name}/{seed}/{case}"), folder)
            except Exception as error:
                tell(case=case, outcome="not damaged", detail=_text(error))
                continue
            tell(reading=case)
            outcome, detail = outcome_of(target, folder, expected)
            if _beside(folder) != before:
                outcome, detail = "wrote outside", str(_beside(folder))
            tell(case=case, outcome=outcome, detail=detail)


def outcome_of(target: Any, folder: pathlib.Path, expected: Any) -> tuple[str, str]:
    """Reads the damaged files and says what came of it."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = target.read(folder)
    except target.refusals as error:
        text = str(error)
        if "\n" in text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            return "message", repr(text)[:300]
        return "refused", text[:300]
    except BaseException as error:
        return "uncaught", _text(error)
    if target.exact and not target.same(answer, expected):
        return "wrong", ""
    return "answered", ""


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _beside(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


if __name__ == "__main__":
    main(*sys.argv[1:])
