"""Measures the time of a train step, and the share of matcher and losses in it, forward and backward.

The CPU time of the process is measured too, since other processes disturb it less than wall time.

Example:
    python benchmarks/train_step.py --encoder resnet50 --steps 10
    python benchmarks/train_step.py --models nuclei --encoder compact --steps 6 --threads 1 --precision mixed_bfloat16
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import numpy as np
from training_data import training_batch

from rsis_tf.config import ENCODER_NAMES, PRECISIONS, ModelConfig, TrainConfig
from rsis_tf.config.presets import nuclei
from rsis_tf.engine import limit_threads, quiet_start


def median_cost(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Returns the median CPU and wall seconds of a call, after two calls for warm-up."""
    run(), run()
    costs = []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        run()
        costs.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    cpu, wall = np.median(costs, axis=0)
    return float(cpu), float(wall)


def main() -> None:
    """Prints one row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("paper", "nuclei"), default=["paper", "nuclei"],
                        help="networks to measure (default: both)")  # fmt: skip
    parser.add_argument("--encoder", choices=ENCODER_NAMES, help="of all networks (default: resnet50 for the paper's, "
                        "the preset's own for nuclei)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the computation")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    parser.add_argument("--batch", type=int, default=8, help="B (default: 8)")
    parser.add_argument("--objects", type=int, default=20, help="N (default: 20)")
    parser.add_argument("--steps", type=int, default=10, help="T (default: 10)")
    parser.add_argument("--size", type=int, default=256, help="side in pixels (default: 256)")
    parser.add_argument("--recompute", action="store_true", help="run the steps again for their gradients")
    parser.add_argument("--frozen", action="store_true", help="keep the encoder's statistics of batch normalisation")
    parser.add_argument("--repeats", type=int, default=3, help="measured calls (default: 3)")
    options = parser.parse_args()
    quiet_start()
    if options.threads is not None:
        limit_threads(options.threads, operations=options.threads)
    import tensorflow as tf

    from rsis_tf.training import compile_model
    from rsis_tf.training.building import build_for_training

    images, targets = training_batch(batch=options.batch, objects=options.objects, size=options.size)
    own = nuclei().changed(**({"encoder": options.encoder} if options.encoder else {}))
    both = {
        "num_steps": options.steps,
        "recompute": options.recompute,
        "encoder_batch_norm": "frozen" if options.frozen else "train",
    }
    models = {
        "paper": (ModelConfig(encoder=options.encoder or "resnet50"), TrainConfig(**both)),
        "nuclei": (own.model, TrainConfig(**both, mask_cross_entropy=1.0)),
    }
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, {options.threads or 'all'} threads, {options.precision}, "
        f"B {options.batch}, N {options.objects}, T {options.steps}, {options.size} pixels; seconds, median of "
        f"{options.repeats}"
    )
    print(f"{'model':<20} {'step CPU':>9} {'wall':>6} {'losses CPU':>11} {'share':>7} {'peak MiB':>9}")
    for name in options.models:
        config, training = models[name]
        model = compile_model(build_for_training(config, precision=options.precision), training)
        # The largest memory of the process so far: each model needs a process of its own for it.
        step = median_cost(lambda model=model: model.train_on_batch(images, targets), options.repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        outputs = {key: tf.constant(value) for key, value in model.predict_on_batch(images).items()}

        @tf.function
        def losses(outputs=outputs, model=model):
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                loss = model.objective.criterion({key: tf.constant(value) for key, value in targets.items()}, outputs)[
                    "loss"
                ]
            return tape.gradient(loss, outputs)

        cost = median_cost(losses, options.repeats)
        row = f"{name + ', ' + config.encoder:<20} {step[0]:>9.2f} {step[1]:>6.2f}"
        print(f"{row} {cost[0]:>11.3f} {cost[0] / step[0]:>7.1%} {peak:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
