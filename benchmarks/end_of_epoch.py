"""Measures how long the end of a pass over a dataset takes, with and without tf.data's autotuning.

A training iterates over its batches at the pace of its steps and drops the iterator at the end of the epoch. The thread
that tunes the pipeline sleeps for longer and longer times, and with autotuning the end may wait until it wakes up.

Example:
    python benchmarks/end_of_epoch.py --seconds 3 6 14
"""

import argparse
import time

from rsis_tf.config.presets import shapes
from rsis_tf.data import load_dataset
from rsis_tf.data.pipeline import tf_batches
from rsis_tf.engine import quiet_start

_BATCHES = 10


def end_of_pass(seconds: float, *, autotune: bool) -> float:
    """Returns the seconds that it takes to drop the iterator after a pass.

    Args:
        seconds: of the pass.
        autotune: whether tf.data tunes the pipeline; the trainings of this project switch that off.
    """
    import tensorflow as tf

    settings = shapes().changed(batch_size=2, train_size=2 * _BATCHES)
    batches = tf_batches(load_dataset(settings.data, "train"), settings.data, training=True, epoch=0)
    options = tf.data.Options()
    options.autotune.enabled = autotune
    iterator = iter(batches.with_options(options))
    for _ in range(_BATCHES):
        next(iterator)
        time.sleep(seconds / _BATCHES)
    started = time.monotonic()
    del iterator
    return time.monotonic() - started


def main() -> None:
    """Prints one row for each length of a pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", nargs="+", type=float, default=[3, 6, 9, 14, 18], metavar="S",
                        help="length of a pass (default: 3 6 9 14 18)")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, help="(default: 3)")
    options = parser.parse_args()
    quiet_start()
    print(f"{'pass, s':>8}  {'autotuning: end, s':<24}  without")
    for seconds in options.seconds:
        ends = {
            autotune: [end_of_pass(seconds, autotune=autotune) for _ in range(options.repeat)]
            for autotune in (True, False)
        }
        tuned, plain = (" ".join(f"{end:.2f}" for end in ends[autotune]) for autotune in (True, False))
        print(f"{seconds:>8g}  {tuned:<24}  {plain}", flush=True)


if __name__ == "__main__":
    main()
