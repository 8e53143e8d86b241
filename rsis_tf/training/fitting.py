"""The parts of a training, made from settings and datasets: model, starting weights, batches, loggers, trainer."""

import functools
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from rsis_tf.config import RunConfig
from rsis_tf.data import Dataset
from rsis_tf.data.pipeline import num_batches, plain_batches, reader_errors, tf_batches
from rsis_tf.data.reduced_samples import reduced_samples
from rsis_tf.engine import device
from rsis_tf.inference import KerasPredictor, load_model
from rsis_tf.models import RSIS
from rsis_tf.models.pretrained import load_encoder_weights
from rsis_tf.training.building import build_for_training, transfer_weights
from rsis_tf.training.data_record import SplitRecord
from rsis_tf.training.distribution import Distribution
from rsis_tf.training.tensorboard import TensorBoardLog
from rsis_tf.training.trainer import Logger, Trainer
from rsis_tf.visualization import sequence_strip


def fit(
    settings: RunConfig,
    datasets: Mapping[str, Dataset],
    run: pathlib.Path,
    distribution: Distribution,
    *,
    resume: bool,
    data: Mapping[str, SplitRecord] | None = None,
) -> None:
    """Builds the parts, trains, and writes `best.keras` and `last.keras` to the run's folder.

    Args:
        settings: model, data and training.
        datasets: "train" and "val" → samples.
        run: the run's folder; it must exist.
        distribution: the devices, from `rsis_tf.training.distribution.start`.
        resume: whether to continue from the state in the folder, if there is one.
        data: record of the datasets, which becomes part of the state.

    Raises:
        InputError: if weights, a sample or the state cannot be read.
        rsis_tf.errors.TrainingDiverged: when the loss is no longer finite.
    """
    batches = tf_batches if keras.backend.backend() == "tensorflow" else plain_batches
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
    Trainer(
        model=model,
        config=settings.train,
        run=run,
        train_batches=lambda epoch: distribution.batches(
            functools.partial(batches, samples["train"], settings.data, training=True, epoch=epoch)
        ),
        val_batches=lambda: distribution.batches(
            functools.partial(batches, samples["val"], settings.data, training=False)
        ),
        steps_per_epoch=num_batches(len(datasets["train"]), settings.data, training=True),
        validation_steps=num_batches(len(datasets["val"]), settings.data, training=False),
        reading=reader_errors,
        loggers=_loggers(settings, model, datasets["val"], run, distribution) if distribution.chief else (),
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


def _loggers(
    settings: RunConfig, model: RSIS, dataset: Dataset, run: pathlib.Path, distribution: Distribution
) -> list[Logger]:
    """Returns the loggers that the settings ask for."""
    if not settings.train.tensorboard:
        return []
    # A model in a strategy predicts on all replicas together, but only the chief logs.
    shown = build_for_training(model.config, precision=settings.train.precision) if distribution.strategy else model
    predictor = KerasPredictor(shown)
    samples = [dataset[index] for index in range(min(3, len(dataset)))]

    def images() -> dict[str, np.ndarray]:
        if shown is not model:
            transfer_weights(shown, model)
        return {
            sample.image_id: sequence_strip(sample.image, predictor(sample.image), sample.label_map)
            for sample in samples
        }

    return [TensorBoardLog(run / "tensorboard", images)]
