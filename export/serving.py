"""Adds an exported model to the folder of a model server: `python -m export.serving model.onnx --out models`.

An ONNX file becomes an entry of a Triton model repository, a SavedModel an entry of a folder of TensorFlow Serving.
Each call adds a version; servers load the highest number. All versions of a name have the same format. No configuration
file contains a path of this machine, so the folder can be moved or mounted elsewhere. Neither TensorFlow nor a server
needs to be installed.
"""

import argparse
import json
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import replacing, write_json, write_text
from rsis_tf.runtime import OUTPUTS, RuntimeInputError, open_session

EPILOG = """examples:
  {prog} runs/nuclei/model.onnx --out models --name nuclei
      writes models/nuclei/config.pbtxt and models/nuclei/1/model.onnx for
      tritonserver --model-repository=models
  {prog} runs/nuclei/saved_model --out models --name nuclei
      writes models/nuclei/1/, models/models.config and models/batching.config for
      cd models && tensorflow_model_server --model_config_file=models.config
          --enable_batching --batching_parameters_file=batching.config
  {prog} runs/nuclei/saved_model --out models --name nuclei --server-root /models
      for a server that runs in another folder and finds the models in /models
"""
SERVER_ROOT = "/proc/self/cwd"
"""The working directory of a server, as a path of Linux. TensorFlow Serving refuses paths without a leading slash or a
scheme (`ValidateModelConfigList` in its server_core.cc), and has no option for a base of relative paths."""
KINDS = {"model.onnx": "ONNX models for Triton", "saved_model.pb": "SavedModels for TensorFlow Serving"}
"""File in the folder of a version → format of the version."""
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
"""Type of ONNX Runtime → type of Triton."""


def write_triton(
    model: pathlib.Path, repository: pathlib.Path, *, name: str, max_batch: int = 8, delay_us: int = 2000
) -> pathlib.Path:
    """Adds an ONNX file to a Triton model repository.

    Args:
        model: unrolled or loop export.
        repository: folder of all models; created if it does not exist.
        name: of the model, for clients.
        max_batch: images that the server batches at most; ignored for an export of fixed batch size.
        delay_us: microseconds that an image waits for others.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a file that is not an export of this project, and for the name of a SavedModel.
    """
    try:
        session = open_session(model)
    except RuntimeInputError as error:
        raise InputError(str(error)) from None
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("layout") == "stepwise":
        _refuse_stepwise(model)
    if "class_names" not in metadata or {output.name for output in session.get_outputs()} != set(OUTPUTS):
        raise InputError(f"expected an unrolled or loop export of export.onnx. Received: {model}")
    dynamic_batch = not isinstance(session.get_inputs()[0].shape[0], int)
    target = _new_version(repository / name, "model.onnx")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        partial.mkdir()
        shutil.copyfile(model, partial / "model.onnx")
        config = _triton_config(session, name, max_batch if dynamic_batch else 0, delay_us)
        write_text(target.with_name("config.pbtxt"), config)
    return target


def write_tf_serving(
    model: pathlib.Path,
    folder: pathlib.Path,
    *,
    name: str,
    max_batch: int = 8,
    delay_us: int = 2000,
    server_root: str = SERVER_ROOT,
) -> pathlib.Path:
    """Adds a SavedModel to a folder that TensorFlow Serving watches; other arguments as in `write_triton`.

    Args:
        server_root: `folder` as the server sees it: a path with a leading slash, or an address such as gs://models;
            default: the working directory of the server.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a folder that is not a SavedModel of this project, and for the name of an ONNX model.
    """
    if (model / "step.onnx").is_file():
        _refuse_stepwise(model)
    side = model.with_name(model.name + ".json")
    if not (model / "saved_model.pb").is_file() or not side.is_file():
        raise InputError(f"expected a SavedModel written by export.saved_model, its .json beside it. Received: {model}")
    described = json.loads(side.read_text(encoding="utf-8"))
    target = _new_version(folder / name, "saved_model.pb")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        shutil.copytree(model, partial)
        (partial / "assets.extra").mkdir(exist_ok=True)
        write_json(partial / "assets.extra" / "rsis.json", described)
    names = sorted(entry.name for entry in folder.iterdir() if "saved_model.pb" in _kinds(entry))
    root = server_root.rstrip("/")
    configs = "".join(
        f'  config {{ name: "{entry}" base_path: {json.dumps(f"{root}/{entry}")} model_platform: "tensorflow" }}\n'
        for entry in names
    )
    write_text(folder / "models.config", f"model_config_list {{\n{configs}}}\n")
    batch = max_batch if described["input"]["shape"][0] == "batch" else 1
    write_text(
        folder / "batching.config",
        f"max_batch_size {{ value: {batch} }}\nbatch_timeout_micros {{ value: {delay_us} }}\n",
    )
    return target


def parse(arguments: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=prog,
        description="Adds an exported model to the folder of a model server.",
        epilog=EPILOG.format(prog=prog),
    )
    add = parser.add_argument
    add("model", type=pathlib.Path, metavar="MODEL", help=".onnx file, or the folder of a SavedModel")
    add("--out", "--to", type=pathlib.Path, required=True, metavar="DIR", help="folder with the models of the server")
    add("--name", default="rsis", help="name of the model for clients (default: %(default)s)")
    add("--max-batch", type=int, default=8, metavar="B", help="images batched at most (default: %(default)s)")
    add("--delay-us", type=int, default=2000, metavar="N",
        help="microseconds that an image waits for others (default: %(default)s)")  # fmt: skip
    add("--server-root", metavar="DIR",
        help="for SavedModels: the folder --out as the server sees it, e.g. /models in a container (default: the "
        "working directory of the server)")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m export.serving") -> None:
    """Runs the command."""
    with command_line():
        options = parse(arguments, prog=prog)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", options.name):
            raise InputError(f"expected a --name of letters, digits, _ and -. Received: {options.name!r}")
        if options.max_batch < 1 or options.delay_us < 0:
            raise InputError(
                "expected --max-batch of 1 or more and --delay-us of 0 or more. "
                f"Received: {options.max_batch}, {options.delay_us}"
            )
        batching = {"max_batch": options.max_batch, "delay_us": options.delay_us}
        root = options.server_root
        if options.model.is_dir():
            if root is not None and not re.match(r"/|\w+://", root):
                raise InputError(
                    "expected --server-root with a leading slash or a scheme, as TensorFlow Serving requires. "
                    f"Received: {root}"
                )
            root = root or SERVER_ROOT
            target = write_tf_serving(options.model, options.out, name=options.name, server_root=root, **batching)
        else:
            if root is not None:
                raise InputError(f"--server-root is for SavedModels; Triton's files hold no paths. Received: {root}")
            target = write_triton(options.model, options.out, name=options.name, **batching)
        print(f"wrote {target}")


def _triton_config(session: Any, name: str, max_batch: int, delay_us: int) -> str:
    def tensor(value: Any) -> str:
        # With batching, Triton adds the first axis; a dynamic axis is -1.
        dims = [side if isinstance(side, int) else -1 for side in value.shape][1 if max_batch else 0 :]
        return f'  {{ name: "{value.name}" data_type: {TYPES[value.type]} dims: {dims} }}'

    metadata = session.get_modelmeta().custom_metadata_map
    inputs, outputs = (",\n".join(map(tensor, values)) for values in (session.get_inputs(), session.get_outputs()))
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch}",
        f"input [\n{inputs}\n]",
        f"output [\n{outputs}\n]",
        "instance_group [ { kind: KIND_AUTO count: 1 } ]",
    ]
    if max_batch:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}")
    metadata = {"aspect": "stretch", **metadata}  # files of earlier versions hold no aspect
    for key in ("class_names", "stop_threshold", "mask_threshold", "image_size", "aspect", "version", "license"):
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(metadata[key])} }} }}')
    return "\n".join(lines) + "\n"


def _versions(folder: pathlib.Path) -> list[int]:
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.is_dir() and re.fullmatch(r"[1-9]\d*", entry.name))


def _kinds(folder: pathlib.Path) -> set[str]:
    """Returns the keys of `KINDS` whose files lie in the versions of a model."""
    return {name for version in _versions(folder) for name in KINDS if (folder / str(version) / name).is_file()}


def _refuse_stepwise(model: pathlib.Path) -> None:
    raise InputError(
        "a stepwise export consists of two graphs between which a program passes the states; a server runs one graph "
        f"for each request. Use --layout unrolled or loop. Received: {model}"
    )


def _new_version(folder: pathlib.Path, kind: str) -> pathlib.Path:
    for other in sorted(_kinds(folder) - {kind}):
        raise InputError(f"expected another name for {KINDS[kind]}. Received: {folder}, which holds {KINDS[other]}")
    return folder / str(max(_versions(folder), default=0) + 1)


if __name__ == "__main__":
    main()
