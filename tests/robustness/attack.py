"""Damages every kind of file that the project reads, thousands of times, and counts what comes of it.

`python tests/robustness/attack.py --cases 20000 --seed 0 --out docs/reliability.md`

Each case is a copy of a whole artefact with seeded damage. A process of its own reads it, watched for its time and its
memory. A case is good if the reader refuses it with an error of one line, or gives an answer (the right one, where the
file holds a checksum). Everything else counts against the project: another exception, a dead process, a hang, memory
beyond the cap, a file outside of the folder, a message with control characters, a wrong answer.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]
GOOD = ("refused", "answered")
BAD = ("wrong", "uncaught", "message", "wrote outside", "crash", "hang", "memory")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one case may take.

    Attributes:
        seconds: from the damage to the answer.
        megabytes: resident memory of the process beyond what it had before the first case.
    """

    seconds: float = 20.0
    megabytes: int = 1500


def attack(
    name: str, *, cases: int, seed: int, limits: Limits = Limits(), first: int = 0
) -> list[tuple[int, str, str]]:
    """Returns (case, outcome, detail) of each case of a target."""
    results: list[tuple[int, str, str]] = []
    start, end = first, first + cases
    while start < end:
        done = _run(name, seed, start, end - start, limits)
        if not done:
            raise RuntimeError(f"the target {name} does not read its whole artefact")
        results += done
        start = done[-1][0] + 1
    return results


def _run(name: str, seed: int, first: int, count: int, limits: Limits) -> list[tuple[int, str, str]]:
    """Runs cases in one process until all are done or the process must be stopped."""
    command = [sys.executable, str(HERE / "worker.py"), name, str(seed), str(first), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    done: list[tuple[int, str, str]] = []
    running, since, baseline = None, time.monotonic(), 0
    try:
        while True:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                used = _resident(process.pid)
                if running is not None and used - baseline > limits.megabytes:
                    return [*done, (running, "memory", f"{used} MB")]
                if running is not None and time.monotonic() - since > limits.seconds:
                    return [*done, (running, "hang", f"{limits.seconds:g} s")]
                continue
            if line is None:
                code = process.wait()
                if running is None:
                    return done
                return [*done, (running, "crash", f"exit code {code}")]
            values = json.loads(line)
            if "ready" in values:
                baseline = _resident(process.pid)
            elif "outcome" in values:
                done.append((values["case"], values["outcome"], values["detail"]))
                running = None
            else:
                running, since = values["case"], time.monotonic()
    finally:
        process.kill()
        process.wait()


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
    share = sum(TARGETS[name].share for name in arguments.only)
    counts: dict[str, collections.Counter] = {}
    for name in arguments.only:
        cases = max(1, round(arguments.cases * TARGETS[name].share / share))
        start = time.monotonic()
        results = attack(name, cases=cases, seed=arguments.seed)
        counts[name] = collections.Counter(outcome for _, outcome, _ in results)
        bad = [result for result in results if result[1] in BAD]
        print(f"{name}: {dict(counts[name])}, {time.monotonic() - start:.0f} s", flush=True)
        for case, outcome, detail in bad[:8]:
            print(f"  case {case}: {outcome} {detail}", flush=True)
    text = table(counts)
    print(text)
    if arguments.out:
        replace_table(arguments.out, text)
    sys.exit(any(count[kind] for count in counts.values() for kind in BAD))


def replace_table(path: pathlib.Path, text: str) -> None:
    """Writes the table between the two marks of the page."""
    page = path.read_text(encoding="utf-8")
    begin, end = "<!-- attack -->", "<!-- /attack -->"
    head, rest = page.split(begin)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
