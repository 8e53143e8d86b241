"""The command `rsis`: a table of commands, each imported only when it is called."""

import dataclasses
import difflib
import importlib
import sys
from collections.abc import Sequence

import rsis_tf


@dataclasses.dataclass(frozen=True)
class Command:
    """One row of `COMMANDS`.

    Attributes:
        name: as typed after `rsis`.
        help: one line.
        module: holds `main(argv)`.
    """

    name: str
    help: str
    module: str


COMMANDS: dict[str, tuple[Command, ...]] = {
    "main commands": (
        Command("train", "train a model on a dataset", "rsis_tf.cli.train"),
        Command("evaluate", "score a model on a dataset", "rsis_tf.cli.evaluate"),
        Command("predict", "find the objects of your own images, folders and videos", "rsis_tf.cli.predict"),
        Command("export", "write a model as an ONNX, SavedModel or TFLite file", "rsis_tf.cli.export"),
        Command("zoo", "list the trained models of the package", "rsis_tf.cli.zoo"),
        Command("report", "write the report of a run as one HTML page", "rsis_tf.cli.report"),
    ),
    "benchmarks of the paper and studies": (
        Command("voc", "score on Pascal VOC by its own rules", "rsis_tf.cli.voc"),
        Command("cityscapes", "score on Cityscapes by its own rules", "rsis_tf.cli.cityscapes"),
        Command("leaves", "score on CVPPP leaves, and write a file for the challenge", "rsis_tf.cli.leaves"),
        Command("order", "study the order in which objects are found", "rsis_tf.cli.order"),
        Command("ablation", "compare runs in one table", "rsis_tf.cli.ablation"),
    ),
    "tools": (
        Command("check", "check a dataset before a training", "rsis_tf.cli.check"),
        Command("doctor", "check this installation: packages, GPU, folders", "rsis_tf.cli.doctor"),
        Command("convert", "convert a checkpoint of the original PyTorch code to a Keras model", "rsis_tf.cli.convert"),
        Command("benchmark", "measure size, latency and accuracy of model files", "rsis_tf.cli.benchmark"),
        Command("serving", "add an export to the model repository of an inference server", "rsis_tf.cli.serving"),
        Command("sbd", "merge Pascal VOC 2012 and SBD into one dataset", "rsis_tf.cli.sbd"),
    ),
}
"""Title of a group → its commands."""


def main(argv: Sequence[str] | None = None) -> None:
    """Calls the command that the first argument names, with the arguments after it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {command.name: command for group in COMMANDS.values() for command in group}
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help"):
        print(usage(), end="")
        return
    if first in ("-V", "--version"):
        print(f"rsis {rsis_tf.__version__}")
        return
    from rsis_tf.errors import InputError, command_line  # imports numpy, which the list of commands does not need

    with command_line():
        if first not in commands:
            near = difflib.get_close_matches(first, commands, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"expected a command that `rsis --help` lists; {hint}Received: {first}")
        code = importlib.import_module(commands[first].module).main(arguments[1:])
    if code:
        raise SystemExit(code)


def usage() -> str:
    """Returns the text of `rsis --help`."""
    width = max(len(command.name) for group in COMMANDS.values() for command in group)
    lines = ["usage: rsis COMMAND [OPTION …]", "", "Recurrent instance segmentation: train, evaluate, predict, export."]
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {command.name:<{width}}  {command.help}" for command in group)]
    return "\n".join(
        [*lines, "", "`rsis COMMAND --help` shows the options of a command, `rsis --version` the version.", ""]
    )


if __name__ == "__main__":
    main()
