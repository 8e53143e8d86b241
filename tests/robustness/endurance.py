"""Predicts for a long time and watches answers and memory: threads that share a predictor, and the batch job.

```sh
python tests/robustness/endurance.py threads --model leaves --threads 8 --seconds 60
python tests/robustness/endurance.py images --model leaves --images 10000
python tests/robustness/endurance.py job --model leaves --images 10000    # needs Ray
```

`threads`: every answer must equal that of one thread, to the last bit. `images`: the callable that an actor of
`examples/ray_batch.py` runs, in this process. `job`: the whole job, whose processes are watched from outside. The exit
code is 1 if an answer differs, a thread does not end, or memory grows by more than `LARGEST_GROWTH` after the first
fifth of the time.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from rsis_tf.errors import ArgumentParser, InputError, command_line  # noqa: E402
from rsis_tf.runtime import Instances, Predictor  # noqa: E402

LARGEST_GROWTH = 32 << 20
"""Bytes by which the memory may grow after the first fifth, without being taken for a leak."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured.

    Attributes:
        calls: images predicted.
        wrong: answers that differ from those of one thread, or errors.
        stuck: threads that did not end.
        seconds: of the whole measurement.
        memory: resident bytes after the first fifth, at the end, and the largest in between.
    """

    calls: int
    wrong: int
    stuck: int
    seconds: float
    memory: tuple[int, int, int]

    @property
    def growth(self) -> int:
        """Bytes by which the memory grew after the first fifth."""
        return self.memory[1] - self.memory[0]

    @property
    def passed(self) -> bool:
        """Whether all answers were right, all threads ended and the memory did not grow."""
        return not self.wrong and not self.stuck and self.growth <= LARGEST_GROWTH

    def __str__(self) -> str:
        first, last, most = (size / (1 << 20) for size in self.memory)
        return (
            f"{self.calls:,} images in {self.seconds:.0f} s, {self.wrong} wrong, {self.stuck} threads stuck; "
            f"memory {first:.0f} MiB after a fifth, {last:.0f} MiB at the end, {most:.0f} MiB at most"
        )


def plants(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Returns images of generated plants of different sizes, (H, W, 3) uint8."""
    from rsis_tf.config.presets import leaves
    from rsis_tf.data import load_dataset

    dataset = load_dataset(leaves().changed(val_size=count, seed=seed).data, "val")
    sides = np.random.default_rng(seed).integers(64, 160, (count, 2))
    return [
        np.asarray(Image.fromarray(dataset[number].image).resize((int(width), int(height))))
        for number, (height, width) in enumerate(sides)
    ]


def same(one: Instances, other: Instances) -> bool:
    """Whether two predictions are equal to the last bit."""
    return (
        one.size == other.size
        and one.class_names == other.class_names
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.masks, other.masks)
    )


def resident(process: int | str = "self") -> int:
    """Returns the resident bytes of a process on Linux, without pages that it shares with files."""
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("RssAnon", "0 kB").split()[0]) << 10


class Memory:
    """Samples the memory every half second in a thread.

    Args:
        measure: returns bytes.
    """

    def __init__(self, measure: Callable[[], int] = resident) -> None:
        self._measure, self._samples, self._end = measure, [], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._end.wait(0.5):
            if (size := self._measure()) > 0:  # 0: the process does not exist yet
                self._samples.append(size)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def summary(self) -> tuple[int, int, int]:
        """Returns the bytes after the first fifth, at the end, and the largest; the first two are medians of five."""
        samples = self._samples or [self._measure()]
        start = len(samples) // 5
        return int(np.median(samples[start : start + 5])), int(np.median(samples[-5:])), max(samples)


def with_threads(
    predict: Callable[[np.ndarray], Instances], *, threads: int, seconds: float, grace: float = 120
) -> Outcome:
    """Calls one predictor from many threads at once and compares every answer with that of one thread.

    Args:
        predict: the predictor.
        threads: number of threads.
        seconds: until they are told to end.
        grace: seconds after which a thread that has not ended counts as stuck.
    """
    images = plants(16)
    expected = [predict(image) for image in images]
    calls, wrong = [0] * threads, [0] * threads
    begin = time.monotonic()

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() - begin < seconds:
            index = int(rng.integers(len(images)))
            try:
                right = same(predict(images[index]), expected[index])
            except Exception:  # counted: a failure in one thread must not end the others
                right = False
            calls[number] += 1
            wrong[number] += not right

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    with Memory() as memory:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(max(0.0, begin + seconds + grace - time.monotonic()))
    return Outcome(
        calls=sum(calls),
        wrong=sum(wrong),
        stuck=sum(worker.is_alive() for worker in workers),
        seconds=time.monotonic() - begin,
        memory=memory.summary(),
    )


def ray_batch() -> Any:
    """Returns the example as a module."""
    spec = importlib.util.spec_from_file_location("ray_batch", ROOT / "examples/ray_batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def image_folder(count: int, different: int = 50) -> Iterator[pathlib.Path]:
    """Yields a folder with `count` names of PNG files of `different` images; the others are links."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "images")
        folder.mkdir()
        for number, image in enumerate(plants(min(different, count))):
            Image.fromarray(image).save(folder / f"{number:06}.png")
        for number in range(different, count):
            (folder / f"{number:06}.png").symlink_to(folder / f"{number % different:06}.png")
        yield folder


def with_callable(model: pathlib.Path, *, images: int, batch: int = 16) -> Outcome:
    """Runs the callable of an actor over batches of paths, as Ray does, and keeps no results.

    Args:
        model: ONNX file.
        images: number of images.
        batch: images per call.
    """
    actor = ray_batch().PredictBatch(str(model), providers=["cpu"], threads=1, polygons=False)
    with image_folder(images) as folder:
        paths = sorted(map(str, folder.iterdir()))
        first, wrong = {}, 0
        begin = time.monotonic()
        with Memory() as memory:
            for start in range(0, images, batch):
                part = paths[start : start + batch]
                rows = actor({"image_id": np.zeros(len(part), int), "path": np.array(part)})
                for path, objects, error in zip(rows["path"], rows["objects"], rows["error"], strict=True):
                    wrong += bool(error) or objects != first.setdefault(pathlib.Path(path).resolve().name, objects)
        seconds = time.monotonic() - begin
    return Outcome(calls=images, wrong=wrong, stuck=0, seconds=seconds, memory=memory.summary())


def with_job(model: pathlib.Path, *, images: int, actors: int) -> Outcome:
    """Runs the whole job on a Ray cluster of this machine; the memory is that of the actor that has the most.

    Args:
        model: ONNX file.
        images: number of images.
        actors: sessions at the same time.
    """
    import ray

    job = ray_batch()
    with image_folder(images) as folder:
        ray.init(num_cpus=actors + 1, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
        ray.data.DataContext.get_current().enable_progress_bars = False
        begin = time.monotonic()
        with Memory(lambda: max((resident(number) for number in _actors()), default=0)) as memory:
            rows = job.predict_folder(model, folder, actors=actors)
        seconds = time.monotonic() - begin
        ray.shutdown()
        first: dict[str, Any] = {}
        wrong = 0
        for row in rows:
            objects = [{**one, "image_id": 0} for one in row["objects"]]
            name = pathlib.Path(row["path"]).resolve().name
            wrong += bool(row["error"]) or objects != first.setdefault(name, objects)
    return Outcome(calls=len(rows), wrong=wrong, stuck=0, seconds=seconds, memory=memory.summary())


def _actors() -> list[str]:
    """Returns the process numbers of Ray's actors that run the callable; Ray names its processes after their task."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().startswith(b"ray::") and b"MapWorker" in entry.read_bytes():
                found.append(entry.parent.name)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="python tests/robustness/endurance.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("threads", "images", "job"))
    parser.add_argument("--model", required=True, help="ONNX file, or a name that `rsis zoo` lists")
    parser.add_argument("--threads", type=int, default=8, help="threads of `threads` (default: 8)")
    parser.add_argument("--seconds", type=float, default=60, help="length of `threads` (default: 60)")
    parser.add_argument("--images", type=int, default=10_000, help="of `images` and `job` (default: 10000)")
    parser.add_argument("--actors", type=int, default=2, help="of `job` (default: 2)")
    with command_line():
        options = parser.parse_args(arguments)
        from rsis_tf.inference import find_model

        kind, model = find_model(options.model)
        if kind != "onnx":
            raise InputError(f"expected an ONNX file. Received: {model}")
        if options.what == "threads":
            outcome = with_threads(Predictor(model), threads=options.threads, seconds=options.seconds)
        elif options.what == "images":
            outcome = with_callable(model, images=options.images)
        else:
            outcome = with_job(model, images=options.images, actors=options.actors)
    print(outcome)
    raise SystemExit(0 if outcome.passed else 1)


if __name__ == "__main__":
    main()
