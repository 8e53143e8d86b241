"""Trains a model: arguments → configuration → parts → run."""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

from rsis_tf import config
from rsis_tf.data import DATASETS, Dataset, load_dataset
from rsis_tf.engine import device, quiet_start
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.presets import PRESETS

_EPILOG = """examples:
  python train.py
      scenes made by the project, a few minutes on a CPU
  python train.py --dataset coco --data photos --image-size 256 --encoder mobilenet_v2 --encoder-weights imagenet
      photos/annotations/{train,val}.json and photos/{train,val}/*.png

The run's folder receives config.json, log.csv, curves.png, sequences.png, metrics.json, best.keras and last.keras.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description="Trains a recurrent instance segmentation model.",
        epilog=_EPILOG,
    )
    run = parser.add_argument_group("run")
    run.add_argument("--preset", choices=sorted(PRESETS), help="settings to start from (default: by the dataset)")
    run.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder of the run (default: a new one in runs/)")
    run.add_argument("--seed", type=int, metavar="S", help="of weights, order, augmentation and scenes")
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", choices=DATASETS, help="how the pictures are stored (default: synthetic)")
    data.add_argument("--data", metavar="DIR", help="the dataset's folder")
    data.add_argument("--image-size", type=_size, metavar="S|HxW", help="pictures are brought to this size")
    data.add_argument("--gt-maxseqlen", type=int, metavar="N", help="objects kept of a picture, the largest ones")
    data.add_argument("--batch-size", type=int, metavar="B")
    data.add_argument(
        "--augment", action=argparse.BooleanOptionalAction, default=None, help="flip, rotate, shift, shear, zoom"
    )
    data.add_argument("--train-size", type=int, metavar="P", help="pictures of the training set (default: all)")
    data.add_argument("--val-size", type=int, metavar="P", help="pictures of the validation set (default: all)")
    model = parser.add_argument_group("model")
    model.add_argument("--encoder", choices=config.ENCODERS)
    model.add_argument(
        "--encoder-weights", default="none", metavar="W", help="none, imagenet, or a file (torchvision .pth, Keras .h5)"
    )
    model.add_argument("--hidden-size", type=int, metavar="D", help="channels of the deepest ConvLSTM")
    model.add_argument("--min-channels", type=int, metavar="C", help="no stage has fewer channels (paper: 0)")
    model.add_argument("--skip-mode", choices=config.SKIP_MODES)
    model.add_argument("--kernel-size", type=int, choices=(1, 3))
    model.add_argument("--decoder-stages", type=int, choices=(1, 2, 3, 4, 5))
    train = parser.add_argument_group("training")
    train.add_argument("--maxseqlen", type=int, metavar="T", help="objects predicted of a picture")
    train.add_argument("--epochs", type=int)
    train.add_argument("--learning-rate", type=float, metavar="R", help="of decoder and skip projections")
    train.add_argument("--encoder-learning-rate", type=float, metavar="R")
    train.add_argument("--weight-decay", type=float, metavar="L", help="L2 penalty")
    train.add_argument("--class-weight", type=float, metavar="W", help="of the class loss in the sum")
    train.add_argument("--stop-weight", type=float, metavar="W", help="of the stop loss in the sum")
    train.add_argument(
        "--mask-cross-entropy", type=float, metavar="W", help="of cross-entropy beside soft IoU (paper: 0)"
    )
    return parser.parse_args(argv)


def configure(arguments: argparse.Namespace) -> config.RunConfig:
    """Returns the preset with what the command line changes in it (class names come from the dataset)."""
    synthetic = (arguments.dataset or "synthetic") == "synthetic" and arguments.data is None
    if arguments.dataset is None and arguments.data is not None:
        raise InputError(
            f"expected --dataset with --data, one of {', '.join(DATASETS)}. Received: --data {arguments.data}"
        )
    preset = PRESETS[arguments.preset or ("synthetic" if synthetic else "custom")]()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    renamed = {"data": "root", "gt_maxseqlen": "max_objects", "maxseqlen": "num_steps"}
    given = {renamed.get(name, name): value for name, value in given.items()}
    parts = {
        field.name: dataclasses.replace(part, **_fields_of(part, given))
        for field in dataclasses.fields(preset)
        for part in [getattr(preset, field.name)]
    }
    return config.RunConfig(**parts)


def _fields_of(part: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(part)}
    return {name: value for name, value in given.items() if name in names}


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise argparse.ArgumentTypeError(f"expected a size such as 256 or 256x512. Received: {text}")
    return int(sides[0]), int(sides[-1])


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


def train(settings: config.RunConfig, datasets: dict[str, Dataset], run: pathlib.Path, weights: str) -> None:
    """Builds the parts, trains, and leaves `best.keras` and `last.keras` in the run's folder."""
    quiet_start()
    import keras

    from rsis_tf.data.pipeline import num_batches, plain_batches, reader_errors, tf_batches
    from rsis_tf.models import build_model
    from rsis_tf.training.callbacks import TrainingDiverged
    from rsis_tf.training.trainer import Trainer

    batches = tf_batches if keras.backend.backend() == "tensorflow" else plain_batches
    keras.utils.set_random_seed(settings.train.seed)
    model = build_model(settings.model)
    if weights != "none":
        from rsis_tf.models.pretrained import load_encoder_weights

        load_encoder_weights(model, weights)
    print(
        f"{run}: {len(datasets['train'])} training and {len(datasets['val'])} validation pictures of "
        f"{settings.data.dataset}, {settings.model.encoder} with {model.count_params():,} parameters, {device()}",
        flush=True,
    )
    trainer = Trainer(
        model=model,
        config=settings.train,
        run=run,
        train_batches=lambda epoch: batches(datasets["train"], settings.data, training=True, epoch=epoch),
        val_batches=lambda: batches(datasets["val"], settings.data, training=False),
        steps_per_epoch=num_batches(len(datasets["train"]), settings.data, training=True),
        reading=reader_errors,
    )
    try:
        trainer.fit()
    except TrainingDiverged as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def report(run: pathlib.Path, dataset: Dataset) -> None:
    """Scores the best model and leaves metrics, curves and pictures in the run's folder."""
    from rsis_tf.evaluation import runner
    from rsis_tf.pictures import curves, sequence_strip, sequences_sheet, write_image
    from rsis_tf.predictor import KerasPredictor

    predictor = KerasPredictor(run / "best.keras")
    scores = runner.evaluate(predictor, dataset)
    runner.write_json(run / "metrics.json", scores.to_dict())
    curves(run / "log.csv", run / "curves.png")
    strips = []
    (run / "samples").mkdir()
    for index in range(min(6, len(dataset))):
        sample = dataset[index]
        write_image(run / "samples" / f"{index}.png", sample.image)
        strips.append((sample.image_id, sequence_strip(sample.image, predictor(sample.image), sample.label_map)))
    write_image(run / "sequences.png", sequences_sheet(strips))
    print(f"\n{runner.table(scores)}\n\nnext:")
    print(f"  python evaluate.py {run}")
    print(f"  python -m export.onnx {run}")
    print(f"  python -m rsis_tf.predict {run}/model.onnx {run}/samples/*.png")


def main(argv: list[str] | None = None) -> None:
    with command_line():
        arguments = parse(argv)
        settings = configure(arguments)
        datasets = {split: load_dataset(settings.data, split) for split in ("train", "val")}
        names = datasets["train"].class_names
        model = dataclasses.replace(
            settings.model,
            class_names=names,
            num_classes=len(names),
            image_size=settings.data.image_size,
            num_steps=settings.train.num_steps,
        )
        settings = dataclasses.replace(settings, model=model)
        run = new_folder(arguments.out, settings.data.dataset)
        (run / "config.json").write_text(config.to_json(settings))
        train(settings, datasets, run, arguments.encoder_weights)
        report(run, datasets["val"])


if __name__ == "__main__":
    main()
