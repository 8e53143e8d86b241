"""Folders for model servers: names, versions, the shapes of the graph, batching."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import onnx
import pytest
from failing_disk import FailingDisk, fail_each
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from export import saved_model, serving
from export.protobuf_text import quoted
from rsis_tf.errors import InputError
from rsis_tf.runtime import checksums, sidecar


def _dims(config: str) -> dict[str, tuple[str, list[int]]]:
    found = re.findall(r'\{ name: "(\w+)" data_type: (\w+) dims: (\[[^]]*\]) \}', config)
    return {name: (kind, json.loads(dims)) for name, kind, dims in found}


@pytest.fixture
def served(toy_model):
    """Writes a toy graph with all the metadata of an export."""
    metadata = {
        "class_names": '["background", "le\\"af", "stone"]',
        "image_size": "[8, 8]",
        "dynamic_size": "false",
        "stop_threshold": "0.5",
        "mask_threshold": "0.5",
        "version": "1",
        "license": "MIT",
    }

    def make(*, aspect=None, **options):
        return toy_model(metadata=metadata | ({"aspect": aspect} if aspect else {}), **options)

    return make


def test_a_model_of_the_package_is_served_by_its_name(tmp_path):
    serving.main(["shapes", "--out", str(tmp_path / "models"), "--name", "shapes"])
    assert (tmp_path / "models/shapes/1/model.onnx").stat().st_size > 100_000


def test_triton_repository(served, tmp_path):
    model = served(size=("height", "width"))
    repository = tmp_path / "models"
    options = ["--out", str(repository), "--name", "leaves", "--max-batch", "4", "--delay-us", "500"]
    serving.main([str(model), *options])
    assert sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()) == [
        "leaves/1/model.onnx",
        "leaves/config.pbtxt",
    ]
    assert (repository / "leaves/1/model.onnx").read_bytes() == model.read_bytes()
    config = (repository / "leaves/config.pbtxt").read_text()
    assert config.startswith('name: "leaves"\nbackend: "onnxruntime"\nmax_batch_size: 4\n')
    assert _dims(config) == {
        "image": ("TYPE_UINT8", [-1, -1, 3]),
        "masks": ("TYPE_FP32", [3, -1, -1]),
        "classes": ("TYPE_FP32", [3, 3]),
        "stop": ("TYPE_FP32", [3]),
    }
    assert "dynamic_batching { max_queue_delay_microseconds: 500 }" in config


def test_triton_config_is_protobuf_text(served, tmp_path):
    """It is parsed with the fields of Triton's ModelConfig that are used here."""
    serving.write_triton(served(), tmp_path, name="leaves")
    parsed = text_format.Parse((tmp_path / "leaves/config.pbtxt").read_text(), _model_config()())
    assert [list(value.dims) for value in (*parsed.input, *parsed.output)] == [[8, 8, 3], [3, 8, 8], [3, 3], [3]]
    assert (parsed.max_batch_size, parsed.dynamic_batching.max_queue_delay_microseconds) == (8, 2000)
    texts = {entry.key: entry.value.string_value for entry in parsed.parameters}
    assert json.loads(texts["class_names"]) == ["background", 'le"af', "stone"]
    assert texts["aspect"] == "stretch"  # the file holds no aspect


def test_triton_config_holds_the_aspect(served, tmp_path):
    serving.write_triton(served(aspect="keep"), tmp_path, name="leaves")
    assert 'key: "aspect" value { string_value: "keep" }' in (tmp_path / "leaves/config.pbtxt").read_text()


def _model_config() -> type:
    """Returns a message class with Triton's names; field numbers do not matter in text."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="served", syntax="proto2")
    field = descriptor_pb2.FieldDescriptorProto
    text, number, repeated = field.TYPE_STRING, field.TYPE_INT64, "repeated"
    messages = {
        "Tensor": {"name": text, "data_type": text, "dims": (repeated, number)},
        "Group": {"kind": text, "count": number},
        "Batching": {"max_queue_delay_microseconds": number},
        "Value": {"string_value": text},
        "Entry": {"key": text, "value": "Value"},
        "ModelConfig": {
            "name": text,
            "backend": text,
            "max_batch_size": number,
            "input": (repeated, "Tensor"),
            "output": (repeated, "Tensor"),
            "instance_group": (repeated, "Group"),
            "dynamic_batching": "Batching",
            "parameters": (repeated, "Entry"),
        },
    }
    kinds = file.enum_type.add(name="Word")
    for i, word in enumerate(("TYPE_UINT8", "TYPE_FP32", "KIND_AUTO")):
        kinds.value.add(name=word, number=i)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for i, (key, kind) in enumerate(fields.items(), start=1):
            label = field.LABEL_REPEATED if isinstance(kind, tuple) else field.LABEL_OPTIONAL
            kind = kind[1] if isinstance(kind, tuple) else kind
            if key in ("data_type", "kind"):
                message.field.add(name=key, number=i, label=label, type=field.TYPE_ENUM, type_name=".served.Word")
            elif isinstance(kind, str):
                message.field.add(name=key, number=i, label=label, type=field.TYPE_MESSAGE, type_name=f".served.{kind}")
            else:
                message.field.add(name=key, number=i, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("served.ModelConfig"))


def test_fixed_batch_is_not_batched_by_the_server(served, tmp_path):
    serving.write_triton(served(batch=2), tmp_path, name="pairs")
    config = (tmp_path / "pairs/config.pbtxt").read_text()
    assert "max_batch_size: 0\n" in config
    assert "dynamic_batching" not in config
    assert _dims(config)["image"] == ("TYPE_UINT8", [2, 8, 8, 3])


def test_each_call_adds_a_version(served, tmp_path):
    for number in (1, 2):
        assert serving.write_triton(served(), tmp_path, name="leaves") == tmp_path / "leaves" / str(number)
    (tmp_path / "leaves" / "10").mkdir()
    (tmp_path / "leaves" / "notes").mkdir()
    assert serving.write_triton(served(), tmp_path, name="leaves").name == "11"


def _server_config() -> type:
    """Returns ModelServerConfig with the names and numbers of TensorFlow Serving's model_server_config.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="model_server_config.proto", package="serving", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    model = file.message_type.add(name="ModelConfig")
    for name, number in (("name", 1), ("base_path", 2), ("model_platform", 4)):
        model.field.add(name=name, number=number, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    for name, inner, number, kind, label in (
        ("ModelConfigList", "config", 1, "ModelConfig", field.LABEL_REPEATED),
        ("ModelServerConfig", "model_config_list", 1, "ModelConfigList", field.LABEL_OPTIONAL),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name=inner, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".serving.{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.ModelServerConfig"))


def _paths(folder: pathlib.Path) -> dict[str, str]:
    """Returns the name and base path of each model, as the server reads and checks them."""
    text = (folder / "models.config").read_text(encoding="utf-8")
    configs = text_format.Parse(text, _server_config()()).model_config_list.config
    names = [config.name for config in configs]
    assert len(set(names)) == len(names)  # "Illegal to list model … multiple times"
    assert all(re.match(r"/|\w+://", config.base_path) for config in configs)  # "Expected … absolute path or URI"
    assert {config.model_platform for config in configs} == {"tensorflow"}
    return {config.name: config.base_path for config in configs}


@pytest.fixture
def saved(tmp_path) -> pathlib.Path:
    """A folder with the files of a SavedModel and the exporter's JSON file; the graph is not opened."""
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    described = {"class_names": ["background", "leaf"], "input": {"shape": ["batch", "height", "width", 3]}}
    (tmp_path / "saved.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def test_tf_serving(run_folder: pathlib.Path, tmp_path):
    source = tmp_path / "exported"
    saved_model.main([str(run_folder), "--out", str(source), "--no-verify", "--steps", "1"])
    folder = tmp_path / "models"
    for name, option in (("leaves", "--out"), ("leaves", "--to"), ("stones", "--out")):
        serving.main([str(source), option, str(folder), "--name", name, "--max-batch", "16"])
    assert sorted(str(path.relative_to(folder).parent) for path in folder.rglob("saved_model.pb")) == [
        "leaves/1",
        "leaves/2",
        "stones/1",
    ]
    assert list(_paths(folder)) == ["leaves", "stones"]
    assert "max_batch_size { value: 16 }" in (folder / "batching.config").read_text()
    described = json.loads((folder / "stones/1/assets.extra/rsis.json").read_text())
    assert described["class_names"][0] == "background"


def test_a_fixed_batch_is_the_largest_one_of_tf_serving(saved, tmp_path):
    described = json.loads((tmp_path / "saved.json").read_text())
    described["input"]["shape"][0] = 4
    (tmp_path / "saved.json").write_text(json.dumps(described), encoding="utf-8")
    serving.main([str(saved), "--out", str(tmp_path / "models"), "--name", "fixed"])
    assert "max_batch_size { value: 4 }" in (tmp_path / "models/batching.config").read_text()


def test_paths_move_with_the_folder(saved, tmp_path):
    serving.main([str(saved), "--out", str(tmp_path / "models"), "--name", "leaves"])
    moved = tmp_path / "elsewhere"
    (tmp_path / "models").rename(moved)
    for path in moved.rglob("*.config"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
    if pathlib.Path("/proc/self/cwd").exists():  # as for a server with this working directory
        program = "import os, sys; print(*os.listdir(sys.argv[1]))"
        command = [sys.executable, "-c", program, _paths(moved)["leaves"]]
        assert subprocess.run(command, cwd=moved, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(("root", "path"), [("/models", "/models/leaves"), ("gs://bucket/a/", "gs://bucket/a/leaves")])
def test_folder_as_the_server_sees_it(saved, tmp_path, root, path):
    serving.main([str(saved), "--out", str(tmp_path / "models"), "--name", "leaves", "--server-root", root])
    assert _paths(tmp_path / "models") == {"leaves": path}


def test_one_folder_for_both_servers(served, saved, tmp_path):
    """TensorFlow Serving gets the SavedModels only, and all versions of a name have the same format."""
    folder = tmp_path / "models"
    serving.main([str(served()), "--out", str(folder), "--name", "stones"])
    serving.main([str(saved), "--out", str(folder), "--name", "leaves"])
    assert list(_paths(folder)) == ["leaves"]
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="stones, which holds ONNX models for Triton"):
        serving.write_tf_serving(saved, folder, name="stones")
    with pytest.raises(InputError, match="leaves, which holds SavedModels for TensorFlow Serving"):
        serving.write_triton(served(), folder, name="leaves")
    assert sorted(folder.rglob("*")) == before


def test_stepwise_exports_are_refused_with_the_reason(toy_model, tmp_path, capsys):
    folder = tmp_path / "stepwise"
    folder.mkdir()
    for name in ("encoder.onnx", "step.onnx"):
        (folder / name).write_bytes(toy_model(metadata={"layout": "stepwise", "class_names": "[]"}).read_bytes())
    for model in (folder, folder / "step.onnx"):
        with pytest.raises(SystemExit) as stop:
            serving.main([str(model), "--out", str(tmp_path / "models")])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: a stepwise export consists of several graphs")
        assert error.endswith(f"Use --layout unrolled or loop. Received: {model}\n")
    assert not (tmp_path / "models").exists()


NASTY = (
    'a" input { name: "x" }',
    "back\\slash\\\\",
    "line\nbreak\ttab",
    "Größe 猫 \U0001f98a",
    "'",
    "\x00\x1b[31m",
    "",
)


@pytest.mark.parametrize("text", NASTY)
def test_texts_are_quoted(text):
    """Python's parser of the text format reads the text again."""
    literal = quoted(text)
    assert literal.isascii()
    assert literal.isprintable()
    parsed = text_format.Parse(f"name: {literal} backend: 'b'", _model_config()())
    assert (parsed.name, parsed.backend) == (text, "b")


@pytest.mark.parametrize("text", NASTY)
def test_texts_of_a_file_stay_texts(served, tmp_path, text):
    """They cannot add a field to the configuration."""
    model = served()
    proto = onnx.load(model)
    for entry in proto.metadata_props:
        if entry.key == "license":
            entry.value = text
    onnx.save(proto, model)
    serving.write_triton(model, tmp_path / "models", name="leaves")
    parsed = text_format.Parse((tmp_path / "models/leaves/config.pbtxt").read_text(), _model_config()())
    assert [value.name for value in parsed.input] == ["image"]
    assert {entry.key: entry.value.string_value for entry in parsed.parameters}["license"] == text


@pytest.mark.parametrize("name", ["", "..", "a/b", 'a" platform: "x', "a b", "a\n", "é"])
def test_names_are_checked_by_the_functions_too(served, saved, tmp_path, name):
    with pytest.raises(InputError, match="letters, digits, _ and -"):
        serving.write_triton(served(), tmp_path / "models", name=name)
    with pytest.raises(InputError, match="letters, digits, _ and -"):
        serving.write_tf_serving(saved, tmp_path / "models", name=name)
    assert not (tmp_path / "models").exists()


def test_roots_and_neighbours_are_quoted(saved, tmp_path):
    """A folder beside that another program wrote may have any name."""
    folder = tmp_path / "models"
    neighbour = folder / 'b" base_path: "etc\\'
    (neighbour / "1").mkdir(parents=True)
    (neighbour / "1" / "saved_model.pb").touch()
    root = '/a" } config { name: "x" base_path: "/b\\'
    serving.write_tf_serving(saved, folder, name="leaves", server_root=root)
    assert _paths(folder) == {"leaves": f"{root}/leaves", neighbour.name: f"{root}/{neighbour.name}"}


def test_an_input_of_another_name_is_refused(served, tmp_path):
    model = served()
    proto = onnx.load(model)
    proto.graph.input[0].name = 'image" optional: true name: "x'
    proto.graph.node[0].input[0] = proto.graph.input[0].name
    onnx.save(proto, model)
    with pytest.raises(InputError, match="expected an unrolled or loop export"):
        serving.write_triton(model, tmp_path / "models", name="leaves")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("key", serving.PARAMETERS)
def test_a_file_without_metadata_publishes_nothing(toy_model, tmp_path, key):
    if key == "aspect":  # files of earlier versions hold none
        return
    metadata = dict.fromkeys(serving.PARAMETERS, "1") | {"dynamic_size": "false"}
    del metadata[key]
    with pytest.raises(InputError, match="expected an unrolled or loop export"):
        serving.write_triton(toy_model(metadata=metadata), tmp_path / "models", name="leaves")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", "{}", "[" * 100_000, b"\xff\xfe{"),
        *('{"input": null}', '{"input": {"shape": []}}', '{"input": {"shape": [null]}}', '{"input": {"shape": "b"}}'),
    ],
)
def test_a_bad_json_file_publishes_nothing(saved, tmp_path, content):
    side = tmp_path / "saved.json"
    side.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match="Received: "):
        serving.write_tf_serving(saved, tmp_path / "models", name="leaves")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("kind", ["onnx", "saved_model"])
def test_a_damaged_export_is_not_published(served, saved, tmp_path, capsys, kind):
    model = served() if kind == "onnx" else saved
    described = json.loads(sidecar(model).read_text()) if kind == "saved_model" else {}
    sidecar(model).write_text(json.dumps(described | {"sha256": checksums(model)}), encoding="utf-8")
    damaged = model if kind == "onnx" else model / "saved_model.pb"
    damaged.write_bytes(damaged.read_bytes() + b"\x12\x00")  # of an ONNX file: the name of its writer, empty
    command = [str(model), "--out", str(tmp_path / "models"), "--name", "leaves"]
    with pytest.raises(SystemExit) as stop:
        serving.main(command)
    assert stop.value.code == 2
    assert "which was changed or damaged" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
    serving.main([*command, "--no-verify"])
    assert (tmp_path / "models/leaves/1").is_dir()


def test_leftovers_of_killed_calls_do_not_block(served, saved, tmp_path):
    """Neither the names of today nor those of earlier versions."""
    for name, write in (
        ("leaves", lambda: serving.write_triton(served(), tmp_path / "models", name="leaves")),
        ("stones", lambda: serving.write_tf_serving(saved, tmp_path / "models", name="stones")),
    ):
        folder = tmp_path / "models" / name
        for leftover in (".1.partial", f".1.{os.getpid()}-{threading.get_ident()}.partial", ".1.1-2.partial"):
            (folder / leftover / "variables").mkdir(parents=True)
        assert write() == folder / "1"
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


RACER = """
import pathlib, sys, time
from export.serving import write_triton
from rsis_tf.errors import InputError

model, batch, start = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for number in range(20):
    while time.time() < start + 0.05 * number:
        pass
    try:
        print(write_triton(model, pathlib.Path("models"), name="leaves", max_batch=batch))
    except InputError as error:
        print(error)
"""


def test_two_processes_that_add_versions_at_the_same_time(served, tmp_path):
    """Each gets a version of its own or one line; no version is lost or mixed."""
    root = pathlib.Path(__file__).parents[2]
    first = served()
    other = tmp_path / "other.onnx"
    graph = onnx.load(first)
    graph.doc_string = "the other one"
    onnx.save(graph, other)
    start = str(time.time() + 4)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, model, batch, start],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for model, batch in ((first, "2"), (other, "3"))
    ]
    lines = [process.communicate()[0].splitlines() for process in processes]
    assert [len(one) for one in lines] == [20, 20]
    by_model = zip(lines, (first, other), strict=True)
    pairs = [(line, model) for one, model in by_model for line in one if "Rec" not in line]
    added = dict(pairs)
    assert len(added) == len(pairs)  # no version is of both
    assert all(line.startswith("expected ") for one in lines for line in one if line not in added)
    folder = tmp_path / "models" / "leaves"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["config.pbtxt", *(str(number + 1) for number in range(len(added)))]
    )
    for version, model in added.items():
        assert (tmp_path / version / "model.onnx").read_bytes() == model.read_bytes(), version
    last = added[f"models/leaves/{len(added)}"]
    assert f"max_batch_size: {2 if last == first else 3}\n" in (folder / "config.pbtxt").read_text()


@pytest.mark.parametrize("kind", ["onnx", "saved_model"])
@pytest.mark.parametrize("versions", [0, 1])
def test_every_write_may_fail(served, saved, tmp_path, monkeypatch, capsys, kind, versions):
    """Then there is no new version, and the configuration files are as before."""
    model, folder = str(served() if kind == "onnx" else saved), tmp_path / "models"

    def command() -> int:
        try:
            serving.main([model, "--out", str(folder), "--name", "leaves"])
        except SystemExit as stop:
            assert _contents(folder) == state
            return stop.code
        return 0

    def before() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(versions):
            serving.main([model, "--out", str(folder), "--name", "leaves", "--max-batch", "3"])
        capsys.readouterr()
        state.clear()
        state.update(_contents(folder))

    state: dict[str, bytes | None] = {}
    disk = FailingDisk(monkeypatch, folder)
    assert fail_each(disk, folder, command, capsys, before=before) > 5


def _contents(folder: pathlib.Path) -> dict[str, bytes | None]:
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("nowhere.onnx --out models", "Received: nowhere.onnx"),
        ("FOREIGN --out models", "expected an unrolled or loop export"),
        ("FOLDER --out models", "expected a SavedModel"),
        ("MODEL", "arguments are required: --out"),
        ("MODEL --out models --name ../up", "Received: '../up'"),
        ("MODEL --out models --max-batch 0", "Received: 0, 2000"),
        ("MODEL --out models --server-root /models", "--server-root is for SavedModels"),
        ("FOLDER --out models --server-root here", "with a leading slash or a scheme"),
    ],
)
def test_wrong_calls(served, toy_model, tmp_path, monkeypatch, call, message, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"FOLDER": str(tmp_path)}
    places["FOREIGN"] = str(tmp_path / "foreign.onnx")
    pathlib.Path(places["FOREIGN"]).write_bytes(toy_model(metadata={}).read_bytes())
    places["MODEL"] = str(served())
    onnx.checker.check_model(places["MODEL"])
    with pytest.raises(SystemExit) as stop:
        serving.main([places.get(word, word) for word in call.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
