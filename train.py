"""Trains a model: arguments → configuration → parts → run."""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rsis_tf import config
from rsis_tf.cli.train_options import configure, parse, resumed, write_config
from rsis_tf.data import Dataset, category_ids, load_dataset
from rsis_tf.data.preflight import check_training, require_same_classes
from rsis_tf.engine import device, quiet_start
from rsis_tf.errors import InputError, command_line

if TYPE_CHECKING:
    from rsis_tf.training.distribution import Distribution


def fitted(arguments: argparse.Namespace, settings: config.RunConfig, dataset: Dataset) -> config.RunConfig:
    """Returns the settings with what the data, the training or the model to transfer from decide."""
    model, data, training = settings.model, settings.data, settings.train
    if training.transfer:
        quiet_start()
        from rsis_tf.inference import load_model
        from rsis_tf.training.building import SHARED_FIELDS

        source = load_model(training.transfer).config
        form = {name: getattr(source, name) for name in SHARED_FIELDS}
        for name, value in form.items():
            given = getattr(arguments, name)
            if given not in (None, value):
                raise InputError(f"a transfer keeps the model's form, {name}={value}. Received: {name}={given}")
        model = dataclasses.replace(model, **form)
        if not config.MASK_HEADS[source.mask_head].partial_sequences and arguments.begin_anywhere is None:
            data = dataclasses.replace(data, begin_anywhere=0.0)
            training = dataclasses.replace(training, train_steps=arguments.train_steps)
    model = dataclasses.replace(
        model,
        class_names=dataset.class_names,
        category_ids=category_ids(dataset),
        num_classes=len(dataset.class_names),
        image_size=data.image_size,
        aspect=data.aspect,
        num_steps=training.num_steps,
    )
    return config.RunConfig(model=model, data=data, train=training)


def new_folder(out: pathlib.Path | None, name: str) -> pathlib.Path:
    """Makes the run's folder: the one asked for, or runs/NAME, runs/NAME-2, …"""
    if out is None:
        out, number = pathlib.Path("runs") / name, 2
        while out.exists():
            out, number = pathlib.Path("runs") / f"{name}-{number}", number + 1
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"expected a folder that is new or empty. Received: --out {out}")
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextlib.contextmanager
def cleared_unless_begun(run: pathlib.Path) -> Iterator[None]:
    """Empties a new run's folder again where input turns out to be wrong before the training has begun."""
    try:
        yield
    except InputError:
        if not (run / "state/state.json").is_file():
            (run / "config.json").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else lies in it, or it is a place to mount at
                run.rmdir()
        raise


def train(
    settings: config.RunConfig,
    datasets: dict[str, Dataset],
    run: pathlib.Path,
    distribution: "Distribution",
    *,
    resume: bool,
) -> None:
    """Builds the parts, trains, and leaves `best.keras` and `last.keras` in the run's folder."""
    import keras

    from rsis_tf.data.pipeline import num_batches, plain_batches, reader_errors, tf_batches
    from rsis_tf.data.reduced_samples import reduced_samples
    from rsis_tf.training.building import build_for_training
    from rsis_tf.training.callbacks import TrainingDiverged
    from rsis_tf.training.trainer import Trainer

    batches = tf_batches if keras.backend.backend() == "tensorflow" else plain_batches
    samples = {
        split: reduced_samples(dataset, settings.data, training=split == "train") for split, dataset in datasets.items()
    }
    keras.utils.set_random_seed(settings.train.seed)
    with distribution.scope():
        model = build_for_training(settings.model, precision=settings.train.precision)
    distribution.prepare(model)
    if not (resume and (run / "state/state.json").is_file()):
        load_start(model, settings.train)
    print(
        f"{run}: {len(datasets['train'])} training and {len(datasets['val'])} validation pictures of "
        f"{settings.data.dataset}, {settings.model.encoder} with {model.count_params():,} parameters, {device()}"
        + (f", {distribution.replicas} replicas" if distribution.strategy else ""),
        flush=True,
    )
    trainer = Trainer(
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
        loggers=loggers(settings.train, model, datasets["val"], run, distribution) if distribution.chief else (),
        distribution=distribution,
    )
    try:
        trainer.fit(resume=resume)
    except TrainingDiverged as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def load_start(model: Any, settings: config.TrainConfig) -> None:
    """Gives a fresh model the weights that the settings say it starts from."""
    if settings.transfer:
        from rsis_tf.inference import load_model
        from rsis_tf.training.building import transfer_weights

        same = transfer_weights(model, load_model(settings.transfer))
        print(f"weights from {settings.transfer}" + ("" if same else ", with a new class layer"), flush=True)
    elif settings.encoder_weights != "none":
        from rsis_tf.models.pretrained import load_encoder_weights

        load_encoder_weights(model, settings.encoder_weights)


def loggers(
    settings: config.TrainConfig, model: Any, dataset: Dataset, run: pathlib.Path, distribution: "Distribution"
) -> list[Any]:
    """Returns the loggers that the settings ask for."""
    if not settings.tensorboard:
        return []
    from rsis_tf.inference import KerasPredictor
    from rsis_tf.training.building import build_for_training, transfer_weights
    from rsis_tf.training.tensorboard import TensorBoardLog
    from rsis_tf.visualization import sequence_strip

    # A model in a strategy predicts on all replicas together, and here the chief is alone.
    shown = build_for_training(model.config, precision=settings.precision) if distribution.strategy else model
    predictor = KerasPredictor(shown)
    samples = [dataset[index] for index in range(min(3, len(dataset)))]

    def pictures() -> dict[str, Any]:
        if shown is not model:
            transfer_weights(shown, model)
        return {
            sample.image_id: sequence_strip(sample.image, predictor(sample.image), sample.label_map)
            for sample in samples
        }

    return [TensorBoardLog(run / "tensorboard", pictures)]


def set_stop_threshold(settings: config.RunConfig, run: pathlib.Path, dataset: Dataset) -> None:
    """Chooses the stop threshold on training pictures and puts it into the best model and the run's settings."""
    from rsis_tf.evaluation.stopping import choose_stop_threshold
    from rsis_tf.inference import KerasPredictor
    from rsis_tf.progress import ProgressLine
    from rsis_tf.training.checkpoint import save_model

    predictor = KerasPredictor(run / "best.keras")
    choice = choose_stop_threshold(predictor, dataset, progress=ProgressLine())
    model = predictor.model
    model.config = dataclasses.replace(model.config, stop_threshold=choice.threshold)
    save_model(model, run / "best.keras")
    write_config(dataclasses.replace(settings, model=model.config), run)
    print(choice, flush=True)


def report(settings: config.RunConfig, run: pathlib.Path, dataset: Dataset) -> None:
    """Scores the best model and leaves metrics, curves and pictures in the run's folder."""
    from rsis_tf import files
    from rsis_tf.evaluation import scoring
    from rsis_tf.inference import KerasPredictor
    from rsis_tf.visualization import curves, sequence_strip, sequences_sheet, write_image

    predictor = KerasPredictor(run / "best.keras")
    scores = scoring.evaluate(predictor, dataset)
    measured = {
        "dataset": settings.data.dataset,
        "split": "val",
        "stop": "first",
        "stop_threshold": predictor.stop_threshold,
    }
    if settings.model.category_ids:
        measured["category_ids"] = dict(zip(dataset.class_names[1:], settings.model.category_ids[1:], strict=True))
    files.write_json(run / "metrics.json", measured | scores.to_dict())
    curves(run / "log.csv", run / "curves.png")
    strips = []
    (run / "samples").mkdir(exist_ok=True)
    for index in range(min(6, len(dataset))):
        sample = dataset[index]
        write_image(run / "samples" / f"{index}.png", sample.image)
        strips.append((sample.image_id, sequence_strip(sample.image, predictor(sample.image), sample.label_map)))
    write_image(run / "sequences.png", sequences_sheet(strips))
    print(f"\n{scoring.table(scores)}\n\nnext:")
    print(f"  python evaluate.py {run}")
    print(f"  python -m export.onnx {run}")
    print(f"  python -m rsis_tf.cli.predict {run}/model.onnx {run}/samples/*.png")


def main(argv: list[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        resume = arguments.resume is not None
        settings = resumed(arguments) if resume else configure(arguments)
        datasets = {split: load_dataset(settings.data, split) for split in ("train", "val")}
        remarks = []
        if arguments.check is None:
            limits = {"max_objects": settings.data.max_objects, "num_steps": settings.train.num_steps}
            remarks = check_training(datasets, **limits)
        require_same_classes(datasets, ids=False)
        quiet_start()
        from rsis_tf.training.distribution import start

        # Workers must find each other before TensorFlow computes anything.
        distribution = start(settings.train.strategy, batch_size=settings.data.batch_size)
        if not resume:
            settings = fitted(arguments, settings, datasets["train"])
        if distribution.chief and remarks:
            print("\n".join(remarks), flush=True)
        if not distribution.chief:
            # The chief's screen and folder tell everything.
            with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
                train(settings, datasets, arguments.resume or arguments.out, distribution, resume=resume)
            return
        run = arguments.resume if resume else new_folder(arguments.out, settings.data.dataset)
        with contextlib.nullcontext() if resume else cleared_unless_begun(run):
            write_config(settings, run)
            train(settings, datasets, run, distribution, resume=resume)
        if settings.train.choose_stop_threshold:
            set_stop_threshold(settings, run, datasets["train"])
        report(settings, run, datasets["val"])


if __name__ == "__main__":
    main()
