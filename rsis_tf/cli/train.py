"""`rsis train`: trains a model."""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsis_tf.cli import train_options as options
from rsis_tf.cli.data_options import add_coco_options
from rsis_tf.cli.train_settings import configure, given_settings, resumed, starting_settings
from rsis_tf.config import RunConfig, json_file
from rsis_tf.config.presets import PRESETS, VARIANTS, preset_name
from rsis_tf.engine import quiet_start
from rsis_tf.errors import ArgumentParser, InputError, TrainingDiverged, command_line
from rsis_tf.run import TrainedRun, train, with_form_of

if TYPE_CHECKING:
    from rsis_tf.training.loggers import Callback

_EPILOG = """examples:
  rsis train
      leaves of generated plants, a few minutes on a CPU
  rsis train --dataset coco --data photos --image-size 320 --epochs 100
      an unchanged export of Roboflow, CVAT, Label Studio, labelme … (docs/datasets.md)
  rsis train --dataset coco --data export --val-share 0.2
      the same without a validation split
  rsis train --preset cvppp --data CVPPP/A1
      the paper's schedule, from ImageNet weights
  rsis train --config runs/coco --epochs 200
      the settings of an earlier run, with more epochs
  rsis train --resume runs/leaves
      continue an interrupted run, whatever interrupted it

The defaults shown are those of the preset: `rsis train --preset cvppp --help` shows others. --print-config prints all
settings that a command would use.

The run's folder receives config.json, log.csv, stages.json, curves.png, sequences.png, metrics.json, samples/,
best.keras, last.keras and state/, from which --resume continues. Options count epochs from 0, the screen from 1.

--strategy mirrored divides every batch over the devices of this machine, multi_worker over those of several machines:
start the same command on each of them, with its own TF_CONFIG and with an --out (or --resume) folder that all of them
reach and only the first one writes. --batch-size is that of all devices together, and the losses equal those of one
device.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments; the help shows the defaults of the preset or the `--config` that they name."""
    return make_parser(argv).parse_args(argv)


def make_parser(argv: Sequence[str] | None = ()) -> ArgumentParser:
    """Returns the parser; `argv` decides which defaults its help shows."""
    defaults = options.defaults(_start(argv)) if _asks_for_help(argv) else {}
    parser = ArgumentParser(
        prog="rsis train",
        usage="rsis train [OPTION …]",
        description="Trains a recurrent instance segmentation model.",
        epilog=_EPILOG,
    )

    def add(group: argparse._ArgumentGroup, table: Sequence[options.Option]) -> None:
        for option in table:
            option.add(group, defaults.get(option.name))

    run = parser.add_argument_group("run")
    _add_start(run)
    run.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder of the run (default: a new one in runs/)")
    run.add_argument("--resume", type=pathlib.Path, metavar="RUN",
                     help="continue an interrupted run with its own settings; --epochs can be changed if the learning "
                     "rate is constant, and --data, --annotations … if the data have moved")  # fmt: skip
    run.add_argument("--accept-changed-data", action="store_const", const=True,
                     help="with --resume: continue although images or annotations are no longer those that the run "
                     "began with; its classes must be the same")  # fmt: skip
    run.add_argument("--print-config", action="store_const", const=True,
                     help="print the settings as JSON and train nothing")  # fmt: skip
    add(run, options.RUN)
    # The spelling of earlier versions for --logger tensorboard.
    run.add_argument("--tensorboard", action=argparse.BooleanOptionalAction, default=None, help=argparse.SUPPRESS)
    run.add_argument("--callback", action="append", metavar="MODULE:CLASS",
                     help="call an object of your own when the run begins, after every epoch and when the run ends "
                     "(rsis_tf.training.loggers.Callback); may be repeated; --resume needs it again")  # fmt: skip
    run.add_argument("--max-hours", type=float, metavar="H",
                     help="stop after the last epoch that fits into H hours, then calibrate the objectness and score "
                     "as usual, which is not counted; --resume trains the remaining epochs. A cosine schedule is not "
                     "shortened, so the learning rate has not come down then")  # fmt: skip
    run.add_argument("--threads", type=int, metavar="N",
                     help="CPU threads that compute (default: one per core); docs/speed.md says how fast a training is "
                     "beside other work")  # fmt: skip
    data = parser.add_argument_group("data")
    add(data, options.DATA)
    add_coco_options(data, training=True)
    data.add_argument("--no-check", dest="check", action="store_false", default=None,
                      help="do not read all annotations and image headers before the training (the result is stored, "
                      "so the same files are checked only once)")  # fmt: skip
    add(data, options.BATCHES)
    add(parser.add_argument_group("augmentation of training images"), options.AUGMENTATION)
    add(parser.add_argument_group("model"), options.MODEL)
    add(parser.add_argument_group("losses"), options.LOSSES)
    add(parser.add_argument_group("optimisation"), options.OPTIMIZATION)
    add(parser.add_argument_group("curriculum", "when losses, steps and the encoder join; patience may start them "
                                  "earlier"), options.CURRICULUM)  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with command_line():
        arguments = parse(argv)
        resume = arguments.resume is not None
        settings = resumed(arguments) if resume else configure(arguments)
        if arguments.print_config:
            if settings.train.start.transfer and not resume:
                settings = with_form_of(settings.train.start.transfer, settings, given_settings(arguments))
            print(json_file.to_json(settings.resolved()), end="")
            return
        try:
            run = train(
                settings,
                out=arguments.resume if resume else arguments.out,
                resume=resume,
                check=arguments.check is None,
                explicit=given_settings(arguments),
                accept_changed_data=arguments.accept_changed_data is not None,
                callbacks=_callbacks(arguments.callback or ()),
                max_hours=arguments.max_hours,
                threads=arguments.threads,
            )
        except TrainingDiverged as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        _print_result(run)


def _callbacks(names: Sequence[str]) -> list["Callback"]:
    """Returns the callbacks that the command line names; modules in the current folder are found."""
    if not names:
        return []
    quiet_start()
    from rsis_tf.training.loggers.named import load_callback

    if os.getcwd() not in sys.path:
        # Last, so that no file of the folder replaces an installed package.
        sys.path.append(os.getcwd())
    return [load_callback(name) for name in names]


def _print_result(run: TrainedRun) -> None:
    if run.scores is None:  # a worker that is not the chief
        return
    from rsis_tf.evaluation.scoring import table

    print(f"\n{table(run.scores)}\n\nnext:")
    print(f"  rsis evaluate {run.folder}")
    print(f"  rsis export onnx {run.folder}")
    print(f"  rsis predict {run.folder}/model.onnx {run.folder}/samples/*.png")


def _add_start(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--preset",
        type=preset_name,
        choices=sorted(PRESETS),
        help="settings to start from (default: leaves without --data, otherwise custom; the generated datasets "
        f"{' and '.join(VARIANTS)} have variants of custom and paper)",
    )
    group.add_argument("--config", type=pathlib.Path, metavar="RUN|FILE",
                       help="start from the settings of a run (its folder or config.json) instead of a "
                       "preset")  # fmt: skip


def _asks_for_help(argv: Sequence[str] | None) -> bool:
    return bool({"-h", "--help"} & set(sys.argv[1:] if argv is None else argv))


def _start(argv: Sequence[str] | None) -> RunConfig:
    """Returns the settings whose values the help shows as defaults."""
    parser = ArgumentParser(add_help=False)
    _add_start(parser)
    for flag, dest in (("--dataset", "dataset"), ("--data", "root")):
        parser.add_argument(flag, dest=dest)
    for flag in ("--annotations", "--val-annotations"):
        parser.add_argument(flag)
    known, _ = parser.parse_known_args(argv)
    try:
        return starting_settings(known)
    except InputError:
        return PRESETS["custom"]()  # the help comes first; the command itself names the error


if __name__ == "__main__":
    main()
