"""Damages every kind of file that the project reads, thousands of times, and counts what comes of it.

`python tests/robustness/attack.py --cases 20000 --seed 0 --out docs/reliability.md`

Each case is a copy of a whole artefact with seeded damage. A process of its own reads it, watched for its time and its
memory. A case is good if the reader refuses it with an error of one line, or gives an answer (the right one, where the
file holds a checksum). Everything else counts against the project: another exception, a dead process, a hang, memory
beyond the cap, a file outside of the folder, a message with control characters, a wrong answer.

The screen shows how far each target is. The table is written after each target; a target whose own code fails is
reported, and the others go on. The exit code is 1 if anything was wrong.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]
GOOD = ("refused", "answered")
BAD = ("wrong", "uncaught", "message", "wrote outside", "crash", "hang", "memory")
FAULT = "not damaged"
"""Outcome of a case whose damage failed: a defect of the attack, not of the project."""
_BEGIN, _END = "<!-- attack -->", "<!-- /attack -->"

Case = tuple[int, str, str]
"""Number, outcome, detail."""


class AttackError(RuntimeError):
    """The attack itself does not work; the message names the target."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one case may take.

    Attributes:
        seconds: from the damage to the answer.
        megabytes: resident memory of the process beyond what it had before the first case.
        start_seconds: for imports, to make and read the whole artefact, and to damage a copy.
    """

    seconds: float = 20.0
    megabytes: int = 1500
    start_seconds: float = 300.0


def attack(
    name: str,
    *,
    cases: int,
    seed: int,
    limits: Limits = Limits(),
    first: int = 0,
    worker: pathlib.Path = HERE / "worker.py",
) -> Iterator[Case]:
    """Yields each case of a target as soon as it is done.

    Raises:
        AttackError: if the whole artefact cannot be read, or the process ends while it damages a copy.
    """
    start, end = first, first + cases
    while start < end:
        for case in _run(name, seed, start, end - start, limits, worker):
            yield case
            start = case[0] + 1


def _run(name: str, seed: int, first: int, count: int, limits: Limits, worker: pathlib.Path) -> Iterator[Case]:
    """Runs cases in one process until all are done or the process must be stopped."""
    command = [sys.executable, str(worker), name, str(seed), str(first), str(count)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8")
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        stage, case, since, baseline, limit = "start", first, time.monotonic(), 0, limits.start_seconds
        try:
            while True:
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    used, hangs = _resident(process.pid), time.monotonic() - since > limit
                    if stage == "reading" and used - baseline > limits.megabytes:
                        yield case, "memory", f"{used} MB"
                        return
                    if stage == "reading" and hangs:
                        yield case, "hang", f"{limit:g} s"
                        return
                    if hangs:
                        raise AttackError(_fault(name, stage, case, f"no answer in {limit:g} s")) from None
                    continue
                if line is None:
                    reason = f"exit code {process.wait()}{_last_line(errors)}"
                    if stage == "reading":
                        yield case, "crash", reason
                    else:
                        raise AttackError(_fault(name, stage, case, reason))
                    return
                values = json.loads(line)
                since = time.monotonic()
                if "failed" in values:
                    raise AttackError(_fault(name, stage, case, values["failed"]))
                if "ready" in values:
                    baseline = _resident(process.pid)
                elif "outcome" in values:
                    yield values["case"], values["outcome"], values["detail"]
                    stage, case = "damaging", values["case"] + 1
                    if case == first + count:
                        return
                else:
                    ((stage, case),) = values.items()
                limit = limits.seconds if stage == "reading" else limits.start_seconds
        finally:
            process.kill()
            process.wait()


def _fault(name: str, stage: str, case: int, reason: str) -> str:
    if stage == "start":
        return f"{name}: the whole artefact cannot be made and read ({reason})"
    return f"{name}, case {case}: the damage failed ({reason})"


def _last_line(errors: BinaryIO) -> str:
    """Returns the end of what a process wrote to standard error."""
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - 2000))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return f", {lines[-1]}" if lines else ""


def _resident(pid: int) -> int:
    """Returns the resident memory of a process in MB, 0 if it is gone."""
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def table(counts: dict[str, collections.Counter]) -> str:
    """Returns the counts as a Markdown table."""
    header = ["read", "cases", *GOOD, *BAD]
    rows = [
        [name, str(sum(count.values())), *(str(count[kind]) for kind in (*GOOD, *BAD))]
        for name, count in counts.items()
    ]
    total = sum(counts.values(), collections.Counter())
    rows.append(["**all**", str(sum(total.values())), *(str(total[kind]) for kind in (*GOOD, *BAD))])
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    from targets import TARGETS

    parser = argparse.ArgumentParser(description="Damages every kind of file that the project reads.")
    parser.add_argument("--cases", type=int, default=20_000, help="all targets together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS), help="targets")
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file whose table is replaced")
    arguments = parser.parse_args()
    if arguments.out:
        split_page(arguments.out)  # fails now rather than after the last case
    share = sum(TARGETS[name].share for name in arguments.only)
    counts: dict[str, collections.Counter] = {}
    begin, wrong = time.monotonic(), False
    for number, name in enumerate(arguments.only, start=1):
        counts[name] = collections.Counter()
        cases = math.ceil(arguments.cases * TARGETS[name].share / share)
        place = f"{name} ({number} of {len(arguments.only)})"
        wrong |= not count_cases(attack(name, cases=cases, seed=arguments.seed), counts[name], place=place, cases=cases)
        if arguments.out:  # after each target, so that an interrupted attack leaves what it found
            minutes = max(1, round((time.monotonic() - begin) / 60))
            total = sum(count.total() for count in counts.values())
            text = f"{table(counts)}\n\n{total:,} cases with the seed {arguments.seed}, {minutes} min of one process."
            replace_table(arguments.out, text)
    print(table(counts))
    sys.exit(wrong)


def count_cases(results: Iterator[Case], counts: collections.Counter, *, place: str, cases: int) -> bool:
    """Counts outcomes, and prints the first defects and, every ten seconds, how far the target is.

    Args:
        results: of `attack`.
        counts: outcome → number of cases; the cases whose damage failed are left out.
        place: the name of the target for the screen.
        cases: how many are wanted.

    Returns:
        Whether every case was damaged, and refused or answered.
    """
    begin = told = time.monotonic()
    defects = done = 0
    try:
        for done, (case, outcome, detail) in enumerate(results, start=1):
            if outcome != FAULT:
                counts[outcome] += 1
            if outcome not in GOOD:
                defects += 1
                if defects <= 8:
                    print(f"{place}, case {case}: {outcome} ({detail})", flush=True)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"{place}: {done} of {cases} cases, {defects} defects, {told - begin:.0f} s", flush=True)
    except AttackError as error:
        print(f"error: {error}", flush=True)
        return False
    print(f"{place}: {dict(counts)}, {time.monotonic() - begin:.0f} s", flush=True)
    return defects == 0


def split_page(path: pathlib.Path) -> tuple[str, str]:
    """Returns what a page holds before and after its table."""
    page = path.read_text(encoding="utf-8")
    if page.count(_BEGIN) != 1 or page.count(_END) != 1:
        raise SystemExit(f"error: expected a page with one {_BEGIN} and one {_END}. Received: {path}")
    return page.split(_BEGIN)[0], page.split(_END)[1]


def replace_table(path: pathlib.Path, text: str) -> None:
    """Writes the table between the two marks of the page."""
    before, after = split_page(path)
    path.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
