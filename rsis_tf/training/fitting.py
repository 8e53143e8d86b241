"""The parts of a training, made from settings and datasets: model, starting weights, batches, callbacks, trainer."""

import functools
import pathlib
from collections.abc import Callable, Mapping

import keras
import numpy as np

from rsis_tf.config import RunConfig
from rsis_tf.data import Dataset, Sample
from rsis_tf.data.pipeline import num_batches, plain_batches, preparing_threads, reader_errors, tf_batches
from rsis_tf.data.reduced_samples import reduced_samples
from rsis_tf.engine import device
from rsis_tf.inference import KerasPredictor, load_model
from rsis_tf.models import RSIS
from rsis_tf.models.pretrained import load_encoder_weights
from rsis_tf.training.building import build_for_training, transfer_weights
from rsis_tf.training.data_record import SplitRecord
from rsis_tf.training.distribution import Distribution
from rsis_tf.training.loggers.interface import Callbacks, RunInfo
from rsis_tf.training.time_limit import TimeLimit
from rsis_tf.training.trainer import Trainer
from rsis_tf.visualization import sequence_strip


def fit(
    settings: RunConfig,
    datasets: Mapping[str, Dataset],
    run: pathlib.Path,
    distribution: Distribution,
    *,
    resume: bool,
    data: Mapping[str, SplitRecord] | None = None,
    callbacks: Callbacks | None = None,
    limit: TimeLimit | None = None,
) -> None:
    """Builds the parts, trains, and writes `best.keras` and `last.keras` to the run's folder.

    Args:
        settings: model, data and training.
        datasets: "train" and "val" → samples.
        run: the run's folder; it must exist.
        distribution: the devices, from `rsis_tf.training.distribution.start`.
        resume: whether to continue from the state in the folder, if there is one.
        data: record of the datasets, which becomes part of the state.
        callbacks: called when the run begins and after every epoch, by the chief alone; the caller ends them.
        limit: of the time; None for no limit.

    Raises:
        InputError: if weights, a sample or the state cannot be read.
        rsis_tf.errors.TrainingDiverged: when the loss is no longer finite.
    """
    # Augmentation of the next batches runs beside the training step, as in tf.data.
    ahead = functools.partial(plain_batches, workers=preparing_threads())
    batches = tf_batches if keras.backend.backend() == "tensorflow" else ahead
    samples = {
        split: reduced_samples(dataset, settings.data, training=split == "train") for split, dataset in datasets.items()
    }
    keras.utils.set_random_seed(settings.train.seed)
    with distribution.scope():
        model = build_for_training(settings.model, precision=settings.train.precision)
    distribution.prepare(model)
    if not (resume and (run / "state/state.json").is_file()):
        _load_start(model, settings)
    print(
        f"{run}: {len(datasets['train'])} training and {len(datasets['val'])} validation images of "
        f"{settings.data.dataset}, {settings.model.encoder} with {model.count_params():,} parameters, {device()}"
        + (f", {distribution.replicas} replicas" if distribution.strategy else ""),
        flush=True,
    )
    if not distribution.chief or callbacks is None:
        callbacks = Callbacks()
    images = _images(model, settings, datasets["val"], distribution)
    callbacks.on_run_begin(RunInfo(folder=run, settings=settings, model=model, resumed=resume, images=images))
    train_batches = functools.partial(batches, samples["train"], settings.data, training=True)
    Trainer(
        model=model,
        config=settings.train,
        run=run,
        train_batches=lambda epoch: distribution.batches(functools.partial(train_batches, epoch=epoch)),
        whole_batches=lambda epoch: train_batches(epoch=epoch),
        val_batches=lambda: distribution.batches(
            functools.partial(batches, samples["val"], settings.data, training=False)
        ),
        steps_per_epoch=num_batches(len(datasets["train"]), settings.data, training=True),
        validation_steps=num_batches(len(datasets["val"]), settings.data, training=False),
        reading=reader_errors,
        callbacks=[callbacks],
        limit=limit,
        distribution=distribution,
        data=data,
    ).fit(resume=resume)


def _load_start(model: RSIS, settings: RunConfig) -> None:
    """Loads the weights that the training starts from into a fresh model."""
    start = settings.train.start
    if start.transfer:
        same = transfer_weights(model, load_model(start.transfer))
        print(f"weights from {start.transfer}" + ("" if same else ", with a new class layer"), flush=True)
    elif start.encoder_weights != "none":
        load_encoder_weights(model, start.encoder_weights)


def _images(
    model: RSIS, settings: RunConfig, dataset: Dataset, distribution: Distribution
) -> Callable[[], dict[str, np.ndarray]]:
    """Returns a function that draws the sequences of the first validation images; nothing is read before its call."""

    @functools.cache
    def parts() -> tuple[RSIS, KerasPredictor, list[Sample]]:
        # A model in a strategy predicts on all replicas together, but only the chief draws.
        shown = build_for_training(model.config, precision=settings.train.precision) if distribution.strategy else model
        return shown, KerasPredictor(shown), [dataset[index] for index in range(min(3, len(dataset)))]

    def images() -> dict[str, np.ndarray]:
        shown, predictor, samples = parts()
        if shown is not model:
            transfer_weights(shown, model)
        return {
            sample.image_id: sequence_strip(sample.image, predictor(sample.image), sample.label_map)
            for sample in samples
        }

    return images
