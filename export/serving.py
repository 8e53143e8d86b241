"""Lays an exported model out as a model server wants it: `python -m export.serving model.onnx --to models`.

An ONNX file becomes an entry of a Triton model repository, a SavedModel one of TensorFlow Serving's folders. Each call
adds a version; servers take the highest number. Versions of one name are of one kind. No configuration names a place of
the machine that wrote it, so the folder can be moved or mounted elsewhere. Neither TensorFlow nor a server has to be
installed.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.runtime import OUTPUTS, RuntimeInputError, open_session

EPILOG = """examples:
  python -m export.serving runs/nuclei/model.onnx --to models --name nuclei
      models/nuclei/config.pbtxt and models/nuclei/1/model.onnx:  tritonserver --model-repository=models
  python -m export.serving runs/nuclei/saved_model --to models --name nuclei
      models/nuclei/1/ with models/models.config and models/batching.config:
      cd models && tensorflow_model_server --model_config_file=models.config
          --enable_batching --batching_parameters_file=batching.config
  python -m export.serving runs/nuclei/saved_model --to models --name nuclei --server-root /models
      for a server that is not started in that folder, but sees it as /models
"""
SERVER_ROOT = "/proc/self/cwd"
"""The folder that a server is started in, as Linux names it. TensorFlow Serving refuses paths without a leading slash
or a scheme (`ValidateModelConfigList` in its server_core.cc), and no option says what they are relative to."""
KINDS = {"model.onnx": "ONNX models for Triton", "saved_model.pb": "SavedModels for TensorFlow Serving"}
"""File in a version's folder → what it is a version of."""
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


def write_triton(
    model: pathlib.Path, repository: pathlib.Path, *, name: str, max_batch: int = 8, delay_us: int = 2000
) -> pathlib.Path:
    """Adds an ONNX file to a Triton model repository.

    Args:
        model: unrolled or loop export.
        repository: folder of all models; made if it is not there.
        name: of the model; clients ask for it.
        max_batch: most pictures that the server puts together; of use with an export of open batch alone.
        delay_us: microseconds that a picture waits for others.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a file that is not an export of this project, or a name that a SavedModel has.
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
    open_batch = not isinstance(session.get_inputs()[0].shape[0], int)
    target = _new_version(repository / name, "model.onnx")
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(parents=True)
    shutil.copyfile(model, partial / "model.onnx")
    _write(repository / name / "config.pbtxt", _triton_config(session, name, max_batch if open_batch else 0, delay_us))
    os.replace(partial, target)
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
        server_root: where the server sees `folder`: a path with a leading slash, or an address such as gs://models.
            Default: the folder it is started in.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a folder that is not a SavedModel of this project, or a name that an ONNX model has.
    """
    if (model / "step.onnx").is_file():
        _refuse_stepwise(model)
    side = model.with_name(model.name + ".json")
    if not (model / "saved_model.pb").is_file() or not side.is_file():
        raise InputError(f"expected a SavedModel written by export.saved_model, its .json beside it. Received: {model}")
    described = json.loads(side.read_text(encoding="utf-8"))
    target = _new_version(folder / name, "saved_model.pb")
    partial = target.with_name(f".{target.name}.partial")
    shutil.copytree(model, partial)
    extra = partial / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "rsis.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, target)
    names = sorted(entry.name for entry in folder.iterdir() if "saved_model.pb" in _kinds(entry))
    root = server_root.rstrip("/")
    configs = "".join(
        f'  config {{ name: "{entry}" base_path: {json.dumps(f"{root}/{entry}")} model_platform: "tensorflow" }}\n'
        for entry in names
    )
    _write(folder / "models.config", f"model_config_list {{\n{configs}}}\n")
    batch = max_batch if described["input"]["shape"][0] == "batch" else 1
    _write(
        folder / "batching.config",
        f"max_batch_size {{ value: {batch} }}\nbatch_timeout_micros {{ value: {delay_us} }}\n",
    )
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m export.serving",
        description="Adds an exported model to the folder of a model server.",
        epilog=EPILOG,
    )
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help=".onnx file, or folder of a SavedModel")
    parser.add_argument("--to", type=pathlib.Path, required=True, metavar="DIR", help="the server's folder of models")
    parser.add_argument("--name", default="rsis", help="of the model for clients (default: rsis)")
    parser.add_argument("--max-batch", type=int, default=8, help="pictures put together at most (default: 8)")
    parser.add_argument("--delay-us", type=int, default=2000, help="microseconds a picture waits (default: 2000)")
    parser.add_argument(
        "--server-root",
        metavar="DIR",
        help="for SavedModels: where the server sees --to, e.g. /models in a container (default: the folder it is "
        "started in)",
    )
    with command_line():
        options = parser.parse_args(arguments)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", options.name):
            raise InputError(f"expected a --name of letters, digits, _ and -. Received: {options.name!r}")
        if options.max_batch < 1 or options.delay_us < 0:
            raise InputError(
                "expected --max-batch of 1 or more and --delay-us of 0 or more. "
                f"Received: {options.max_batch}, {options.delay_us}"
            )
        batching = {"name": options.name, "max_batch": options.max_batch, "delay_us": options.delay_us}
        root = options.server_root
        if options.model.is_dir():
            if root is not None and not re.match(r"/|\w+://", root):
                raise InputError(
                    "expected --server-root with a leading slash or a scheme, TensorFlow Serving takes no other. "
                    f"Received: {root}"
                )
            target = write_tf_serving(options.model, options.to, server_root=root or SERVER_ROOT, **batching)
        else:
            if root is not None:
                raise InputError(f"--server-root is for SavedModels; Triton's files hold no paths. Received: {root}")
            target = write_triton(options.model, options.to, **batching)
        print(f"wrote {target}")


def _triton_config(session: Any, name: str, max_batch: int, delay_us: int) -> str:
    def tensor(value: Any) -> str:
        # With batching Triton adds the first axis itself; axes without a fixed size are -1.
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
    metadata = {"aspect": "stretch", **metadata}  # files of earlier versions do not say
    for key in ("class_names", "stop_threshold", "mask_threshold", "image_size", "aspect", "version", "license"):
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(metadata[key])} }} }}')
    return "\n".join(lines) + "\n"


def _versions(folder: pathlib.Path) -> list[int]:
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.is_dir() and re.fullmatch(r"[1-9]\d*", entry.name))


def _kinds(folder: pathlib.Path) -> set[str]:
    """Returns the files of `KINDS` that the versions of a model hold."""
    return {name for version in _versions(folder) for name in KINDS if (folder / str(version) / name).is_file()}


def _refuse_stepwise(model: pathlib.Path) -> None:
    raise InputError(
        "a stepwise export is two graphs, and the program that runs them passes the states from step to step; a server "
        f"runs one graph for a request. Take --layout unrolled or loop. Received: {model}"
    )


def _new_version(folder: pathlib.Path, kind: str) -> pathlib.Path:
    for other in sorted(_kinds(folder) - {kind}):
        raise InputError(
            f"expected a name of its own for {KINDS[kind]}. Received: {folder}, which holds {KINDS[other]}"
        )
    return folder / str(max(_versions(folder), default=0) + 1)


def _write(path: pathlib.Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
