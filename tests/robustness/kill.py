"""Kills a training at random moments and resumes it, then compares it with one that ran through, weights included.

`python tests/robustness/kill.py --kills 20 --seed 0`

Every kill is SIGKILL, after the first epoch: while the model is traced, in an epoch, in the validation, while a file is
written, or while the finished model is scored.
"""

import argparse
import csv
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = (
    "--train-size 8 --val-size 4 --batch-size 4 --image-size 32 --hidden-size 16 --min-channels 0 --steps 2 "
    "--dropout 0.2 --augment --ema 0.9 --stop-threshold auto"
).split()


def start(*options: object) -> subprocess.Popen:
    """Starts `rsis train`."""
    return subprocess.Popen(
        [sys.executable, "train.py", *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def whole_run(out: pathlib.Path, *, epochs: int, seed: int) -> float:
    """Trains without interruption; returns the seconds from the first line on the screen to the end."""
    process = start(*TINY, "--epochs", epochs, "--seed", seed, "--out", out)
    _wait_for_line(process)
    begin = time.monotonic()
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return time.monotonic() - begin


def killed_run(
    out: pathlib.Path, *, epochs: int, seed: int, kills: int, longest: float, rng: random.Random
) -> list[int]:
    """Trains with `kills` kills at most, the first one after the first epoch.

    Args:
        out: folder of the run.
        epochs, seed: of the training.
        kills: number of kills; fewer if the training ends before.
        longest: seconds that a training takes; the pauses before the kills are shares of it.
        rng: chooses them.

    Returns:
        The number of finished epochs at each kill.
    """
    moments: list[int] = []
    process = start(*TINY, "--epochs", epochs, "--seed", seed, "--out", out)
    while len(moments) < kills:
        _wait_for_line(process)
        while not moments and process.poll() is None and _epochs_done(out) < 1:
            time.sleep(0.01)
        # A resumed run traces the model first, which takes a third of the time.
        begin, pause = time.monotonic(), rng.random() * longest * (0.6 if moments else 0.3)
        while process.poll() is None and time.monotonic() - begin < pause:
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        moments.append(_epochs_done(out))
        process = start("--resume", out)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return moments


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Returns what differs between two finished runs: files, log, settings, and the arrays of state and models."""
    found = []
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (one, other)]
    if names[0] != names[1]:
        found.append(f"files: {sorted(set(names[0]) ^ set(names[1]))}")
    if json.loads((one / "config.json").read_text()) != json.loads((other / "config.json").read_text()):
        found.append("config.json")
    rows = [_rows(run / "log.csv") for run in (one, other)]
    if rows[0].shape != rows[1].shape or not np.allclose(*rows, rtol=1e-4, atol=1e-6):
        found.append("log.csv")
    state = json.loads((one / "state/state.json").read_text())["state"]["arrays"]
    for name in (f"state/{state}", "last.keras", "best.keras"):
        arrays = [_arrays(run / name) for run in (one, other)]
        if arrays[0].keys() != arrays[1].keys():
            found.append(f"{name}: other arrays")
            continue
        far = [key for key in arrays[0] if not np.allclose(arrays[0][key], arrays[1][key], rtol=1e-3, atol=1e-5)]
        if far:
            found.append(f"{name}: {len(far)} of {len(arrays[0])} arrays, such as {far[0]}")
    return found


def _wait_for_line(process: subprocess.Popen) -> None:
    """Waits until the command prints its first line, which is when the model is built, and reads on in a thread."""
    assert process.stdout is not None
    process.stdout.readline()
    # `communicate` reads the rest; meanwhile a full pipe must not stop the training.
    rest, process.stdout = process.stdout, None
    threading.Thread(target=rest.read, daemon=True).start()


def _epochs_done(run: pathlib.Path) -> int:
    try:
        return json.loads((run / "state/state.json").read_text())["state"]["epochs_done"]
    except FileNotFoundError:
        return 0


def _rows(path: pathlib.Path) -> np.ndarray:
    with path.open(newline="") as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return np.array([[float(value) for value in row.values()] for row in rows])


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    import io
    import zipfile

    import h5py

    arrays = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills a training at random moments and compares the result.")
    parser.add_argument("--kills", type=int, default=20, help="all runs together (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=24, help="of each run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    arguments = parser.parse_args()
    rng, left, seed, wrong = random.Random(arguments.seed), arguments.kills, 0, False
    with tempfile.TemporaryDirectory() as place:
        while left > 0:
            seed += 1
            whole, killed = pathlib.Path(place) / f"whole-{seed}", pathlib.Path(place) / f"killed-{seed}"
            seconds = whole_run(whole, epochs=arguments.epochs, seed=seed)
            moments = killed_run(killed, epochs=arguments.epochs, seed=seed, kills=left, longest=seconds, rng=rng)
            found = differences(whole, killed)
            wrong |= bool(found)
            left -= len(moments)
            print(
                f"run {seed}: killed after epochs {moments}: {found or 'ends like the one that ran through'}",
                flush=True,
            )
    sys.exit(wrong)


if __name__ == "__main__":
    main()
