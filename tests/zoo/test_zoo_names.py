"""Names of models stand for paths everywhere; models of the user come first; damaged files are refused."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rsis_command import call
from toy_graphs import write_toy_graph

import rsis_tf
from rsis_tf.errors import InputError
from rsis_tf.inference import find_model, load_model, model_path, open_model
from rsis_tf.runtime import Predictor
from rsis_tf.zoo import registry

SHAPES = registry.FOLDER / "shapes"
OF_USERS = ("best.keras", "saved_model.pb", "step.onnx", "encoder.pt", "decoder.pt", "args.pkl")


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A generated scene that the model was not trained on, in an otherwise empty current folder."""
    from rsis_tf.config import DataConfig
    from rsis_tf.data import load_dataset

    monkeypatch.chdir(tmp_path)
    image = load_dataset(DataConfig(dataset="shapes", image_size=(64, 64), seed=0), "val")[0].image
    Image.fromarray(image).save(tmp_path / "scene.png")
    return image


def test_every_python_entry_takes_the_name(scene):
    found = [open_("shapes")(scene) for open_ in (open_model, rsis_tf.open_model, Predictor.from_pretrained)]
    assert len(found[0]) >= 1
    assert all(np.array_equal(one.masks, found[0].masks) for one in found)
    model = rsis_tf.RSIS.from_pretrained("shapes")
    again = model.predict_instances(scene)
    assert [(one.step, one.class_name) for one in again] == [(one.step, one.class_name) for one in found[0]]
    assert all((one.mask == other.mask).mean() > 0.999 for one, other in zip(again, found[0], strict=True))
    assert load_model("shapes").config == model.config


def test_predict_and_evaluate_take_the_name(scene, capsys):
    code, out, errors = call("predict", "shapes", "scene.png", capsys=capsys)
    assert (code, errors) == (0, "")
    assert "scene.png: " in out
    code, out, _ = call("evaluate", "shapes", "--limit", "2", capsys=capsys)
    assert code == 0
    assert "AP50" in out
    assert sorted(path.name for path in pathlib.Path().iterdir()) == ["predictions", "scene.png"]


@pytest.mark.slow
def test_export_writes_to_the_current_folder_and_benchmark_takes_the_name(scene, capsys):
    before = sorted(registry.FOLDER.rglob("*"))
    code, out, _ = call("export", "onnx", "shapes", "--steps", "1", "--no-verify", capsys=capsys)
    assert code == 0
    assert "wrote model.onnx" in out
    assert Predictor("model.onnx")(scene).masks.shape[0] <= 1
    command_line = ("benchmark", "shapes", "--repeat", "1", "--warm-up", "0", "--threads", "1", "--limit", "1")
    code, out, _ = call(*command_line, capsys=capsys)
    assert code == 0
    assert "shapes.onnx" in out
    assert sorted(registry.FOLDER.rglob("*")) == before


@pytest.mark.slow
def test_transfer_takes_the_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--train-size", "8", "--val-size", "2", "--epochs", "1", "--batch-size", "4", "--image-size", "32")
    code, out, errors = call(
        "train", "--preset", "shapes", "--transfer", "shapes", *options, "--out", "run", capsys=capsys
    )
    assert code == 0, errors
    assert "weights from shapes" in out


@pytest.mark.parametrize("file", OF_USERS)
def test_a_model_of_the_user_comes_first(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    assert model_path("shapes") == SHAPES / "shapes.onnx"
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / file).write_bytes(b"")
    assert model_path("shapes") == pathlib.Path("shapes")
    assert find_model("shapes")[1].parts[0] == "shapes"


def test_a_training_of_the_user_that_has_not_ended_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/config.json").write_text("{}")
    for open_ in (open_model, Predictor.from_pretrained, load_model):
        with pytest.raises(InputError, match="Received: shapes"):
            open_("shapes")


@pytest.mark.parametrize("make", [lambda path: (path / "images").mkdir(parents=True), lambda path: path.touch()])
def test_other_files_and_folders_do_not_hide_a_name(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "shapes")
    assert find_model("shapes") == ("onnx", SHAPES / "shapes.onnx")
    assert Predictor.from_pretrained("shapes").class_names[1:] == ("circle", "square", "triangle")


@pytest.mark.parametrize("path", [pathlib.Path("shapes"), "./shapes", "shapes/", "Shapes", "shapes.onnx", "../shapes"])
def test_paths_are_never_names(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for open_ in (open_model, Predictor.from_pretrained, load_model):
        with pytest.raises(InputError, match="is not there"):
            open_(path)


@pytest.mark.parametrize(
    "argv",
    [
        ("predict", "shaps", "scene.png"),
        ("evaluate", "shaps"),
        ("export", "onnx", "shaps"),
        ("benchmark", "shaps"),
        ("zoo", "shaps"),
        ("train", "--preset", "shapes", "--transfer", "shaps", "--out", "run"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_wrong_name_is_one_line_with_close_names(scene, capsys, argv):
    code, _, errors = call(*argv, capsys=capsys)
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: expected")
    assert "Received: shaps" in line
    assert "did you mean shapes? `rsis zoo` lists the names" in line
    assert sorted(path.name for path in pathlib.Path().iterdir()) == ["scene.png"]


def test_a_wrong_name_in_python():
    with pytest.raises(InputError, match=r"Received: shaps, which is not there \(did you mean shapes"):
        Predictor.from_pretrained("shaps")


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of the models in which a byte of each file with weights differs."""
    shutil.copytree(registry.FOLDER, tmp_path / "models")
    for suffix in (".onnx", ".keras"):
        path = tmp_path / "models/shapes" / f"shapes{suffix}"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    monkeypatch.setattr(registry, "FOLDER", tmp_path / "models")


def test_damaged_files_are_refused(damaged):
    for open_ in (open_model, Predictor.from_pretrained, load_model):
        with pytest.raises(InputError, match=r"SHA-256 .* was changed or damaged"):
            open_("shapes")


def test_the_runtime_alone_says_what_names_need(tmp_path):
    shutil.copy(pathlib.Path(rsis_tf.__file__).parent / "runtime.py", tmp_path / "runtime.py")
    write_toy_graph(tmp_path / "own.onnx")
    program = (
        "import runtime\n"
        "print(len(runtime.Predictor.from_pretrained('own.onnx')(__import__('numpy').full((8, 8, 3), 255, 'uint8'))))\n"
        "try: runtime.Predictor.from_pretrained('shapes')\n"
        "except runtime.InputError as error: print(error)\n"
    )
    hide = "import sys; sys.modules['rsis_tf'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", hide + program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    number, message = done.stdout.splitlines()
    assert number == "3"
    assert message == (
        "names of models need the package, which holds their files: pip install \"rsis_tf[cpu]\". Received: 'shapes'"
    )


def test_a_model_is_opened_without_heavy_packages(scene):
    """What `rsis predict shapes` imports: the base install and ONNX Runtime."""
    program = (
        "import sys; from rsis_tf.cli.main import main\n"
        "main(['predict', 'shapes', 'scene.png'])\n"
        "heavy = {'tensorflow', 'keras', 'scipy', 'matplotlib', 'pandas', 'h5py', 'onnx', 'pycocotools', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_card_is_not_read_to_open_a_model(scene, monkeypatch):
    card = json.loads((SHAPES / "shapes.json").read_text(encoding="utf-8"))
    assert card["name"] == "shapes"
    monkeypatch.setattr("rsis_tf.config.json_file.read_json", lambda *_: pytest.fail("the card was read"))
    assert open_model("shapes")(scene) is not None
