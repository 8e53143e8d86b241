"""Runs damaged cases of one target and prints a line of JSON for each: `python worker.py TARGET SEED FIRST COUNT`."""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]


def main(name: str, seed: str, first: str, count: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from targets import TARGETS

    target = TARGETS[name]
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process runs)
    os.dup2(quiet.fileno(), 1)
    os.dup2(quiet.fileno(), 2)
    with tempfile.TemporaryDirectory() as place:
        whole = pathlib.Path(place) / "whole"
        whole.mkdir()
        target.make(whole)
        expected = target.read(whole)
        print(json.dumps({"ready": True}), file=report, flush=True)
        for case in range(int(first), int(first) + int(count)):
            folder = pathlib.Path(place) / "out" / "case"
            shutil.rmtree(folder.parent, ignore_errors=True)
            shutil.copytree(whole, folder)
            before = _outside(folder)
            target.mutate(random.Random(f"{name}/{seed}/{case}"), folder)
            print(json.dumps({"case": case}), file=report, flush=True)
            outcome, detail = outcome_of(target, folder, expected)
            if _outside(folder) != before:
                outcome, detail = "wrote outside", str(_outside(folder))
            print(json.dumps({"case": case, "outcome": outcome, "detail": detail}), file=report, flush=True)


def outcome_of(target: object, folder: pathlib.Path, expected: object) -> tuple[str, str]:
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
        return "uncaught", f"{type(error).__name__}: {error}"[:300]
    if target.exact and not target.same(answer, expected):
        return "wrong", ""
    return "answered", ""


def _outside(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


if __name__ == "__main__":
    main(*sys.argv[1:])
