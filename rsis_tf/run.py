"""A whole training run in one call: data, training, calibration, scores and images in one folder.

```python
from rsis_tf.config.presets import custom
from rsis_tf.run import train

run = train(custom().changed(root="photos", epochs=50))
run.scores.ap50
model = run.model()
```

`rsis train` calls the same function.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from rsis_tf.config import MASK_HEADS, RunConfig, json_file
from rsis_tf.config.checks import Between, fitting
from rsis_tf.data import Dataset, category_ids, load_dataset
from rsis_tf.data.preflight import check_training, require_same_classes
from rsis_tf.engine import limit_threads, quiet_start
from rsis_tf.errors import InputError
from rsis_tf.files import locked, write_json, writing
from rsis_tf.run_folder import SETTINGS, new_folder

if TYPE_CHECKING:
    from rsis_tf.evaluation.scoring import Scores
    from rsis_tf.models import RSIS
    from rsis_tf.training.loggers import Callback


_Hours = Annotated[float, Between(0, 1_000_000, open_low=True)]
_Threads = Annotated[int, Between(1, 1024)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What a training returns.

    Attributes:
        folder: of the run.
        settings: as they were used.
        scores: of the best model on the validation set; None in a worker that is not the chief.
    """

    folder: pathlib.Path
    settings: RunConfig
    scores: "Scores | None"

    @property
    def model_path(self) -> pathlib.Path:
        """The model with the lowest validation loss."""
        return self.folder / "best.keras"

    def model(self) -> "RSIS":
        """Returns the model with the lowest validation loss."""
        from rsis_tf.inference import load_model

        return load_model(self.model_path)


def train(
    settings: RunConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    datasets: Mapping[str, Dataset] | None = None,
    check: bool = True,
    explicit: Collection[str] = (),
    accept_changed_data: bool = False,
    callbacks: "Sequence[Callback]" = (),
    max_hours: float | None = None,
    threads: int | None = None,
) -> TrainedRun:
    """Trains a model, calibrates its objectness if the settings say so, scores it, and writes everything to a folder.

    The dataset decides the classes of the model. A model to transfer from (`StartConfig.transfer`) decides the fields
    of `rsis_tf.training.building.SHARED_FIELDS`, and if its mask head does not support partial sequences, there are
    none.

    Args:
        settings: model, data and training, such as a preset of `rsis_tf.config.presets`.
        out: folder of the run, which must be new or empty; None for a new one in `runs/`. With `resume`, the folder of
            the run to continue.
        resume: whether to continue an interrupted run; its settings are those of `resumed_settings`.
        datasets: "train" and "val" → samples; None to open those that the settings name.
        check: whether to read all annotations and image headers before the training.
        explicit: names of settings that a transfer must not change; if it has to, the call fails.
        accept_changed_data: whether a resumed run may go on with other images or annotations than it began with. Its
            classes never change.
        callbacks: called when the run begins, after every epoch and when the run ends
            (`rsis_tf.training.loggers.Callback`), besides the loggers of the settings.
        max_hours: end the training after the last epoch that fits into this many hours from now, of which at least one
            is trained. Calibration, scores and images follow as usual and are not counted. `resume` continues with the
            remaining epochs as if nothing had happened. A learning rate with a schedule has not come down then. Not
            with the strategy "multi_worker", whose workers would end at different epochs.
        threads: CPU threads of TensorFlow, which must not have computed anything in this process; None for one per
            core. Another number adds in another order, so the last digits of the losses differ.

    Returns:
        The run's folder, settings and scores.

    Raises:
        InputError: for data or settings that cannot be used; nothing is left behind then. Also for a folder that
            another process writes.
        rsis_tf.files.WriteError: when a file cannot be written; the last complete state stays, and `resume` continues
            from it.
        rsis_tf.errors.TrainingDiverged: when the loss is no longer finite.
    """
    if resume and out is None:
        raise InputError("expected the folder of a run to resume. Received: out=None")
    begun = time.monotonic()
    max_hours = fitting(_Hours | None, max_hours, "max_hours")
    threads = fitting(_Threads | None, threads, "threads")
    if max_hours is not None and settings.train.strategy == "multi_worker":
        raise InputError(f"max_hours needs a training in one process. Received: {max_hours} with multi_worker")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(out) if out is not None else None
        if _writes(settings):
            # The folder comes first: a place that cannot be written is found before any work.
            if folder is not None and resume:
                stack.enter_context(locked(folder))
            else:
                folder = stack.enter_context(new_folder(out, settings.data.dataset))
        if datasets is None:
            datasets = {split: load_dataset(settings.data, split) for split in ("train", "val")}
        assert folder is not None  # workers share one folder, so it is named
        return _train(
            settings,
            folder,
            datasets,
            resume=resume,
            check=check,
            explicit=explicit,
            accept_changed_data=accept_changed_data,
            callbacks=callbacks,
            max_hours=max_hours,
            threads=threads,
            begun=begun,
            stack=stack,
        )


def _writes(settings: RunConfig) -> bool:
    """Whether this process writes the run's folder: of several workers, only the chief does."""
    if settings.train.strategy != "multi_worker":
        return True
    quiet_start()
    from rsis_tf.training.distribution import is_chief

    return is_chief(settings.train.strategy)


def _train(
    settings: RunConfig,
    folder: pathlib.Path,
    datasets: Mapping[str, Dataset],
    *,
    resume: bool,
    check: bool,
    explicit: Collection[str],
    accept_changed_data: bool,
    callbacks: "Sequence[Callback]",
    max_hours: float | None,
    threads: int | None,
    begun: float,
    stack: contextlib.ExitStack,
) -> TrainedRun:
    """Trains in a folder that this process holds; see `train`. The callbacks end with the stack if the run fails."""
    remarks = []
    if check:
        remarks = check_training(
            dict(datasets), max_objects=settings.data.max_objects, num_steps=settings.train.num_steps
        )
    require_same_classes(dict(datasets), ids=False)
    quiet_start()
    if threads is not None:
        limit_threads(threads, operations=threads)
    from rsis_tf.training.data_record import recorded, require_same_data
    from rsis_tf.training.distribution import start
    from rsis_tf.training.fitting import fit
    from rsis_tf.training.loggers import Callbacks, loggers
    from rsis_tf.training.state import StateFolder
    from rsis_tf.training.time_limit import TimeLimit

    followers = stack.enter_context(Callbacks((*loggers(settings.train.loggers), *callbacks)))
    data = recorded(datasets)
    if resume and _writes(settings):
        state = StateFolder(folder / "state").read()
        before = None if state is None else state.data
        if state is not None and settings.train.epochs < state.epochs_done:
            raise InputError(
                f"expected at least the {state.epochs_done} epochs that {folder} has trained. "
                f"Received: epochs={settings.train.epochs}"
            )
        ids = category_ids(datasets["train"])
        require_same_data(before, data, model=settings.model, ids=ids, accept_changed=accept_changed_data)
    # Workers must find each other before TensorFlow computes anything.
    distribution = start(settings.train.strategy, batch_size=settings.data.batch_size)
    if not resume:
        settings = fitted(settings, datasets["train"], explicit=explicit)
        _require_sound(settings)
    if not distribution.chief:
        # The chief prints and writes everything.
        with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
            fit(settings, datasets, folder, distribution, resume=resume, data=data)
        return TrainedRun(folder=folder, settings=settings, scores=None)
    if remarks:
        print("\n".join(remarks), flush=True)
    json_file.write(settings, folder / SETTINGS)  # of a resumed run, the number of epochs may be another one
    fit(
        settings,
        datasets,
        folder,
        distribution,
        resume=resume,
        data=data,
        callbacks=followers,
        limit=TimeLimit(max_hours, begun=begun),
    )
    if settings.train.optimization.batch_norm_batches:
        _recompute_batch_statistics(settings, folder, datasets["train"])
    if settings.train.calibrate_objectness:
        settings = _calibrate(settings, folder, datasets["train"])
    scores = _score(settings, folder, datasets["val"])
    followers.on_run_end(scores.values)
    return TrainedRun(folder=folder, settings=settings, scores=scores)


def resumed_settings(run: str | os.PathLike[str], *, epochs: int | None = None) -> RunConfig:
    """Returns the settings of an interrupted run.

    Args:
        run: its folder.
        epochs: another number of epochs, which needs a constant learning rate and no `frozen_batch_norm`; None for
            that of the run.

    Raises:
        InputError: if the folder holds no settings, or the number of epochs cannot be changed.
    """
    settings = json_file.load(RunConfig, pathlib.Path(run) / SETTINGS)
    if epochs is None or epochs == settings.train.epochs:
        return settings
    schedule, frozen = settings.train.optimization.schedule, settings.train.optimization.frozen_batch_norm
    if frozen:
        raise InputError(
            "the number of epochs of a resumed run can be changed only without --frozen-batch-norm, which counts from "
            f"the end. Received: epochs={epochs}, where {run} keeps its statistics for {frozen:g} of "
            f"{settings.train.epochs}"
        )
    if schedule != "constant":
        raise InputError(
            f"the number of epochs of a resumed run can be changed only with a constant learning rate. "
            f"Received: epochs={epochs}, where the {schedule} schedule of {run} ends at {settings.train.epochs}"
        )
    return settings.changed(epochs=epochs)


def fitted(settings: RunConfig, dataset: Dataset, *, explicit: Collection[str] = ()) -> RunConfig:
    """Returns the settings with the values that the dataset and a model to transfer from decide.

    Args:
        settings: of a new run.
        dataset: of the training.
        explicit: as for `train`.

    Raises:
        InputError: if a transfer would change an explicit setting.
    """
    if settings.train.start.transfer:
        settings = with_form_of(settings.train.start.transfer, settings, explicit)
    return settings.changed(
        class_names=dataset.class_names,
        category_ids=category_ids(dataset),
        num_classes=len(dataset.class_names),
    ).resolved()


def _require_sound(settings: RunConfig) -> None:
    """Makes sure that the encoder takes the images, and that a curriculum can add steps and start all its losses."""
    from rsis_tf.models.encoders import ENCODERS

    smallest = ENCODERS[settings.model.encoder].min_size
    height, width = settings.model.image_size
    if min(height, width) < smallest:
        raise InputError(
            f"the encoder {settings.model.encoder} takes sides of {smallest} or more pixels. "
            f"Received: --image-size {height}x{width}"
        )
    plan, steps = settings.train.curriculum, settings.train.num_steps
    if plan.curriculum_learning and plan.patience is None:
        raise InputError("--curriculum-learning adds steps when patience runs out. Received: no --patience")
    if plan.curriculum_learning and plan.stop_loss_after != -1 and steps <= plan.min_steps:
        raise InputError(
            "the stop loss of a curriculum begins with more than --min-steps steps, so --steps must be higher. "
            f"Received: --steps {steps} with --min-steps {plan.min_steps}"
        )


def with_form_of(source: str, settings: RunConfig, explicit: Collection[str]) -> RunConfig:
    """Returns the settings with the form of the model whose weights are transferred."""
    quiet_start()
    from rsis_tf.inference import load_model
    from rsis_tf.training.building import SHARED_FIELDS

    model = load_model(source).config
    form = {name: getattr(model, name) for name in SHARED_FIELDS}
    for name, value in form.items():
        given = getattr(settings.model, name)
        if name in explicit and given != value:
            raise InputError(f"a transfer keeps the model's form, {name}={value}. Received: {name}={given}")
    if not MASK_HEADS[model.mask_head].partial_sequences:
        without = {"partial_sequences": 0.0, "sequence_length": None}
        form |= {name: value for name, value in without.items() if name not in explicit}
    return settings.changed(**form)


def _recompute_batch_statistics(settings: RunConfig, run: pathlib.Path, dataset: Dataset) -> None:
    """Computes the statistics of batch normalisation of the best model again, on training batches."""
    from rsis_tf.data.pipeline import plain_batches
    from rsis_tf.data.reduced_samples import reduced_samples
    from rsis_tf.inference import load_model
    from rsis_tf.training.batch_statistics import passes, recompute_batch_statistics
    from rsis_tf.training.checkpoint import save_model

    model = load_model(run / "best.keras")
    model.encoder_batch_statistics = settings.train.optimization.encoder_batch_norm == "train"
    samples = reduced_samples(dataset, settings.data, training=True)
    batches = passes(lambda epoch: plain_batches(samples, settings.data, training=True, epoch=epoch))
    count = recompute_batch_statistics(model, batches, limit=settings.train.optimization.batch_norm_batches)
    save_model(model, run / "best.keras")
    print(f"batch normalisation: statistics of {count} training batches", flush=True)


def _calibrate(settings: RunConfig, run: pathlib.Path, dataset: Dataset) -> RunConfig:
    """Calibrates the objectness of the best model, which then ends its sequences at one half."""
    from rsis_tf.evaluation.stopping import THRESHOLD, calibrate
    from rsis_tf.inference import KerasPredictor, load_model
    from rsis_tf.progress import ProgressLine
    from rsis_tf.training.checkpoint import save_model

    model = load_model(run / "best.keras")
    calibration = calibrate(KerasPredictor(model), dataset, progress=ProgressLine())
    model.decoder.shift_stop(calibration.shift)
    model.config = dataclasses.replace(model.config, stop_threshold=THRESHOLD)
    save_model(model, run / "best.keras")
    settings = settings.changed(stop_threshold=THRESHOLD)
    json_file.write(settings, run / SETTINGS)
    print(calibration, flush=True)
    return settings


def _score(settings: RunConfig, run: pathlib.Path, dataset: Dataset) -> "Scores":
    """Scores the best model and writes metrics, curves and images to the run's folder."""
    from rsis_tf.evaluation import scoring
    from rsis_tf.inference import KerasPredictor
    from rsis_tf.visualization import curves, sequence_strip, sequences_sheet, write_image

    predictor = KerasPredictor(run / "best.keras")
    scores = scoring.evaluate(predictor, dataset)
    measured: dict[str, Any] = {
        "dataset": settings.data.dataset,
        "split": "val",
        "stop": "first",
        "stop_threshold": predictor.stop_threshold,
    }
    if settings.model.category_ids:
        measured["category_ids"] = dict(zip(dataset.class_names[1:], settings.model.category_ids[1:], strict=True))
    write_json(run / "metrics.json", measured | scores.to_dict())
    curves(run / "log.csv", run / "curves.png")
    strips = []
    with writing(run / "samples"):
        (run / "samples").mkdir(exist_ok=True)
    for index in range(min(6, len(dataset))):
        sample = dataset[index]
        write_image(run / "samples" / f"{index}.png", sample.image)
        strips.append((sample.image_id, sequence_strip(sample.image, predictor(sample.image), sample.label_map)))
    write_image(run / "sequences.png", sequences_sheet(strips))
    return scores
