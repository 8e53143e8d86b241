"""Measures how much a training slows down beside another process of the lowest priority.

One training runs all the time. Its first epoch, which builds the graph, is not counted. Then epochs alone alternate
with epochs beside a busy loop of nice 19, which is in the session of the training, in a session of its own, or in one
whose autogroup has nice 19 as well (Linux divides the CPUs among sessions first; docs/speed.md).

Example:
    python benchmarks/busy_machine.py --preset nuclei --data nuclei --image-size 256 --batch-size 8 \
        --encoder compact --encoder-weights none
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from rsis_tf.cli.train import make_parser
from rsis_tf.cli.train_settings import configure
from rsis_tf.config import RunConfig
from rsis_tf.data import load_dataset
from rsis_tf.engine import limit_threads, quiet_start

NEIGHBOURS = ("none", "session", "other", "grouped")
"""No other process; one in this session; one in its own session; the same with a nice autogroup."""

_LOOP = "while True: pass"


def start(neighbour: str) -> subprocess.Popen | None:
    """Starts a busy loop of nice 19; None for the neighbour "none"."""
    if neighbour == "none":
        return None
    process = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-c", _LOOP], start_new_session=neighbour != "session"
    )
    if neighbour == "grouped":
        pathlib.Path(f"/proc/{process.pid}/autogroup").write_text("19", encoding="utf-8")
    return process


def spent() -> tuple[float, ...]:
    """Returns wall seconds, CPU seconds, and the voluntary and involuntary switches of all threads so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_nvcsw, usage.ru_nivcsw


class Neighbours:
    """A callback that prints what an epoch took, and starts the neighbour of the next one."""

    def __init__(self, plan: list[str]) -> None:
        self.plan = plan
        self.before = spent()
        self.process: subprocess.Popen | None = None

    def on_run_begin(self, run: Any) -> None:
        """Does nothing."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Prints a row for every epoch but the first."""
        now = spent()
        wall, cpu, voluntary, involuntary = (after - before for after, before in zip(now, self.before, strict=True))
        if epoch:
            row = f"{self.plan[epoch - 1]:<10} {wall:>7.1f} {cpu:>7.1f} {cpu / wall:>6.2f}"
            print(f"{row} {voluntary:>10.0f} {involuntary:>10.0f}", flush=True)
        self.stop()
        if epoch < len(self.plan):
            self.process = start(self.plan[epoch])
        self.before = spent()

    def on_run_end(self, scores: dict[str, Any]) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Ends the neighbour."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def train(settings: RunConfig, plan: list[str], threads: int | None) -> None:
    """Trains one epoch for each entry of the plan, after one more."""
    quiet_start()
    if threads is not None:
        limit_threads(threads, operations=threads)
    from rsis_tf.training.distribution import Distribution
    from rsis_tf.training.fitting import fit
    from rsis_tf.training.loggers import Callbacks

    datasets = {split: load_dataset(settings.data, split) for split in ("train", "val")}
    neighbours = Neighbours(plan)
    print(f"{'neighbour':<10} {'wall s':>7} {'CPU s':>7} {'cores':>6} {'voluntary':>10} {'involunt.':>10}", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            followers = Callbacks((neighbours,))
            fit(settings, datasets, pathlib.Path(folder), Distribution(), resume=False, callbacks=followers)
    finally:
        neighbours.stop()


def main() -> None:
    """Runs the plan; options that are not its own are those of `rsis train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", nargs="+", choices=NEIGHBOURS, default=[*NEIGHBOURS] * 2, metavar="NEIGHBOUR",
                        help=f"neighbour of each epoch: {', '.join(NEIGHBOURS)} (default: all, twice)")  # fmt: skip
    options, rest = parser.parse_known_args()
    arguments = make_parser(()).parse_args([*rest, "--epochs", str(len(options.plan) + 1)])
    settings = configure(arguments)
    print(f"{os.cpu_count()} CPUs, {settings.model.encoder}, {settings.train.precision}")
    train(settings, options.plan, arguments.threads)


if __name__ == "__main__":
    main()
