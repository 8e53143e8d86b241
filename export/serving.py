"""Adds an exported model to the folder of a model server: `python -m export.serving model.onnx --out models`.

An ONNX file becomes an entry of a Triton model repository, a SavedModel an entry of a folder of TensorFlow Serving.
Each call adds a version; servers load the highest number. All versions of a name have the same format. No configuration
file contains a path of this machine, so the folder can be moved or mounted elsewhere. Neither TensorFlow nor a server
needs to be installed.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from export.protobuf_text import quoted
from rsis_tf import outputs
from rsis_tf.config.json_file import read_json
from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import locked, remove, remove_leftovers, replacing, write_json, write_text, writing
from rsis_tf.inference import model_path
from rsis_tf.runtime import OUTPUTS, open_session, sidecar, verify_checksums

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
PARAMETERS = ("class_names", "stop_threshold", "mask_threshold", "image_size", "aspect", "version", "license")
"""Metadata of a file that clients of Triton can read."""


def write_triton(
    model: pathlib.Path,
    repository: pathlib.Path,
    *,
    name: str,
    max_batch: int = 8,
    delay_us: int = 2000,
    verify: bool = True,
) -> pathlib.Path:
    """Adds an ONNX file to a Triton model repository.

    Args:
        model: unrolled or loop export.
        repository: folder of all models; created if it does not exist.
        name: of the model, for clients.
        max_batch: images that the server batches at most; ignored for an export of fixed batch size.
        delay_us: microseconds that an image waits for others.
        verify: whether to compare the file with the SHA-256 in the JSON file beside it, if there is one.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a file that is damaged or not an export of this project, for a name that is not letters, digits,
            _ and -, or that of a SavedModel, and for a folder that cannot be written to.
    """
    _check_name(name)
    outputs.check_folder(repository)
    if verify:
        verify_checksums(model)
    session = open_session(model)
    # Files of earlier versions hold no aspect.
    metadata = {"aspect": "stretch", **session.get_modelmeta().custom_metadata_map}
    if metadata.get("layout") == "stepwise":
        _refuse_stepwise(model)
    tensors = [*session.get_inputs(), *session.get_outputs()]
    names = [value.name for value in tensors]
    if (
        sorted(names) != sorted(("image", *OUTPUTS))
        or not all(value.type in TYPES and value.shape for value in tensors)
        or not set(PARAMETERS) <= set(metadata)
    ):
        raise InputError(f"expected an unrolled or loop export of export.onnx. Received: {model}")
    dynamic_batch = not isinstance(session.get_inputs()[0].shape[0], int)
    config = _triton_config(session, metadata, name, max_batch if dynamic_batch else 0, delay_us)
    place = repository / name / "config.pbtxt"
    with _publishing(repository / name, kind="model.onnx", configs=[place]) as (target, partial):
        partial.mkdir()
        shutil.copyfile(model, partial / "model.onnx")
        write_text(place, config)
    return target


def write_tf_serving(
    model: pathlib.Path,
    folder: pathlib.Path,
    *,
    name: str,
    max_batch: int = 8,
    delay_us: int = 2000,
    server_root: str = SERVER_ROOT,
    verify: bool = True,
) -> pathlib.Path:
    """Adds a SavedModel to a folder that TensorFlow Serving watches; other arguments as in `write_triton`.

    Args:
        server_root: `folder` as the server sees it: a path with a leading slash, or an address such as gs://models;
            default: the working directory of the server.

    Returns:
        The folder of the new version.

    Raises:
        InputError: for a folder that is damaged or not a SavedModel of this project, a name as in `write_triton` or
            that of an ONNX model, a root without a leading slash or a scheme, and a folder that cannot be written to.
    """
    _check_name(name)
    if not re.match(r"/|\w+://", server_root):
        raise InputError(
            "expected --server-root with a leading slash or a scheme, as TensorFlow Serving requires. "
            f"Received: {server_root}"
        )
    outputs.check_folder(folder)
    if (model / "step.onnx").is_file():
        _refuse_stepwise(model)
    expected = "a SavedModel written by export.saved_model, its .json beside it"
    if not (model / "saved_model.pb").is_file() or not sidecar(model).is_file():
        raise InputError(f"expected {expected}. Received: {model}")
    try:
        described = read_json(sidecar(model), expected)
    except RecursionError:
        raise InputError(f"expected {expected}. Received: {sidecar(model)}, which is nested too deeply") from None
    if verify:
        verify_checksums(model)
    axis = _batch_of(described, sidecar(model))
    batch = max_batch if axis == "batch" else int(axis)
    configs = [folder / "models.config", folder / "batching.config"]
    with _publishing(folder / name, kind="saved_model.pb", configs=configs) as (target, partial):
        _copy_folder(model, partial)
        (partial / "assets.extra").mkdir(exist_ok=True)
        write_json(partial / "assets.extra" / "rsis.json", described)
        names = {entry.name for entry in folder.iterdir() if "saved_model.pb" in _kinds(entry)} | {name}
        write_text(configs[0], _server_config(sorted(names), server_root.rstrip("/")))
        limits = f"max_batch_size {{ value: {batch} }}\nbatch_timeout_micros {{ value: {delay_us} }}\n"
        write_text(configs[1], limits)
    return target


def parse(arguments: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=prog,
        description="Adds an exported model to the folder of a model server.",
        epilog=EPILOG.format(prog=prog),
    )
    add = parser.add_argument
    add("model", type=model_path, metavar="MODEL",
        help=".onnx file, the folder of a SavedModel, or a name that `rsis zoo` lists")  # fmt: skip
    add("--out", "--to", type=pathlib.Path, required=True, metavar="DIR", help="folder with the models of the server")
    add("--name", default="rsis", help="name of the model for clients (default: %(default)s)")
    add("--max-batch", type=int, default=8, metavar="B", help="images batched at most (default: %(default)s)")
    add("--delay-us", type=int, default=2000, metavar="N",
        help="microseconds that an image waits for others (default: %(default)s)")  # fmt: skip
    add("--server-root", metavar="DIR",
        help="for SavedModels: the folder --out as the server sees it, e.g. /models in a container (default: the "
        "working directory of the server)")  # fmt: skip
    add("--verify", action=argparse.BooleanOptionalAction, default=True,
        help="compare the export with the SHA-256 in the JSON file beside it, if there is one "
        "(default: --verify)")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m export.serving") -> None:
    """Runs the command."""
    with command_line():
        options = parse(arguments, prog=prog)
        if options.max_batch < 1 or options.delay_us < 0:
            raise InputError(
                "expected --max-batch of 1 or more and --delay-us of 0 or more. "
                f"Received: {options.max_batch}, {options.delay_us}"
            )
        common = {name: getattr(options, name) for name in ("name", "max_batch", "delay_us", "verify")}
        root = options.server_root
        if options.model.is_dir():
            root = SERVER_ROOT if root is None else root
            target = write_tf_serving(options.model, options.out, server_root=root, **common)
        else:
            if root is not None:
                raise InputError(f"--server-root is for SavedModels; Triton's files hold no paths. Received: {root}")
            target = write_triton(options.model, options.out, **common)
        print(f"wrote {target}")


def _triton_config(session: Any, metadata: Mapping[str, str], name: str, max_batch: int, delay_us: int) -> str:
    def tensor(value: Any) -> str:
        # With batching, Triton adds the first axis; a dynamic axis is -1.
        dims = [side if isinstance(side, int) else -1 for side in value.shape][1 if max_batch else 0 :]
        return f"  {{ name: {quoted(value.name)} data_type: {TYPES[value.type]} dims: {dims} }}"

    inputs, results = (",\n".join(map(tensor, values)) for values in (session.get_inputs(), session.get_outputs()))
    lines = [
        f"name: {quoted(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch}",
        f"input [\n{inputs}\n]",
        f"output [\n{results}\n]",
        "instance_group [ { kind: KIND_AUTO count: 1 } ]",
    ]
    if max_batch:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}")
    lines += [
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(metadata[key])} }} }}" for key in PARAMETERS
    ]
    return "\n".join(lines) + "\n"


def _server_config(names: Sequence[str], root: str) -> str:
    """Returns the text of `models.config`."""
    configs = "".join(
        f'  config {{ name: {quoted(name)} base_path: {quoted(f"{root}/{name}")} model_platform: "tensorflow" }}\n'
        for name in names
    )
    return f"model_config_list {{\n{configs}}}\n"


def _copy_folder(source: pathlib.Path, target: pathlib.Path) -> None:
    # shutil.copytree collects the errors of all files in one that names none of them.
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copyfile(path, place)


@contextlib.contextmanager
def _publishing(
    model: pathlib.Path, *, kind: str, configs: Sequence[pathlib.Path]
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields the folder of a new version, and a path for its content, which gets that name at the end.

    If something fails, there is no new version, no new folder, and the configuration files are as before. What calls
    left that were killed is removed.

    Args:
        model: folder of all versions.
        kind: key of `KINDS`.
        configs: files that the block writes.

    Raises:
        InputError: if the versions are of another kind, the folder cannot be written to, or another process is adding
            a model to the folder above.
    """
    created = [folder for folder in (model, model.parent) if not folder.exists()]
    try:
        with writing(model):
            model.mkdir(parents=True, exist_ok=True)
        with locked(model.parent):
            target = _new_version(model, kind)
            for folder in sorted({model, *(config.parent for config in configs)}):
                remove_leftovers(folder)
            with _restored_after_failure(configs), replacing(target) as partial:
                yield target, partial
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in created:
                if folder.is_dir():
                    folder.rmdir()
        raise


@contextlib.contextmanager
def _restored_after_failure(paths: Sequence[pathlib.Path]) -> Iterator[None]:
    """Makes copies of files, so that restoring them needs no room on a full disk; a file that is new is removed."""
    copies = {path: path.with_name(f".{path.stem}.before.partial{path.suffix}") for path in paths if path.is_file()}
    try:
        for path, copy in copies.items():
            with writing(path):
                shutil.copyfile(path, copy)
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                for path in paths:
                    if path in copies:
                        os.replace(copies[path], path)
                    else:
                        remove(path)
            raise
    finally:
        for copy in copies.values():
            with contextlib.suppress(OSError):
                remove(copy)


def _batch_of(described: Mapping[str, Any], side: pathlib.Path) -> Any:
    """Returns the first axis of the input, a number or "batch".

    Raises:
        InputError: if the JSON file of a SavedModel does not hold it.
    """
    try:
        first, *_ = described["input"]["shape"]
    except (KeyError, TypeError, ValueError):
        first = None
    if first != "batch" and not (isinstance(first, int) and first > 0):
        raise InputError(f"expected the shape of the input in the JSON file of a SavedModel. Received: {side}")
    return first


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"expected a --name of letters, digits, _ and -. Received: {name!r}")


def _versions(folder: pathlib.Path) -> list[int]:
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.is_dir() and re.fullmatch(r"[1-9]\d*", entry.name))


def _kinds(folder: pathlib.Path) -> set[str]:
    """Returns the keys of `KINDS` whose files lie in the versions of a model."""
    return {name for version in _versions(folder) for name in KINDS if (folder / str(version) / name).is_file()}


def _refuse_stepwise(model: pathlib.Path) -> None:
    raise InputError(
        "a stepwise export consists of several graphs between which a program passes the states; a server runs one "
        f"graph for each request. Use --layout unrolled or loop. Received: {model}"
    )


def _new_version(folder: pathlib.Path, kind: str) -> pathlib.Path:
    for other in sorted(_kinds(folder) - {kind}):
        raise InputError(f"expected another name for {KINDS[kind]}. Received: {folder}, which holds {KINDS[other]}")
    return folder / str(max(_versions(folder), default=0) + 1)


if __name__ == "__main__":
    main()
