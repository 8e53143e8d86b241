"""A base install (numpy, onnxruntime, Pillow): ONNX files work, and everything else says what to install."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from toy_graphs import write_toy_graph

ROOT = pathlib.Path(__file__).parents[1]
BLOCKER = """
import sys

class Blocker:
    names = {
        "tensorflow", "keras", "scipy", "pycocotools", "matplotlib", "tensorboard", "tf2onnx", "onnx", "ai_edge_litert",
        "torch", "jax", "av", "cityscapesscripts", "fontTools", "ray",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with files of every kind, and a module that hides the packages of the extras."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "hidden").mkdir()
    (folder / "hidden/sitecustomize.py").write_text(BLOCKER)
    (folder / "model.keras").write_text("never read")
    (folder / "model.tflite").write_text("never read")
    about = {"input": {"shape": [1, 8, 8, 3], "dtype": "uint8"}, "class_names": ["background", "x"]}
    about |= {"image_size": [8, 8], "stop_threshold": 0.5, "mask_threshold": 0.5}
    for name in ("model.tflite", "saved_model"):
        (folder / f"{name}.json").write_text(json.dumps(about))
    (folder / "saved_model").mkdir()
    (folder / "saved_model/saved_model.pb").write_text("never read")
    for split in ("train", "val"):
        (folder / "coco" / split).mkdir(parents=True)
        (folder / "coco/annotations").mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(folder / f"coco/{split}/x.png")
        square = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
        content = {
            "images": [{"id": 1, "file_name": "x.png", "width": 8, "height": 6}],
            "annotations": [square],
            "categories": [{"id": 1, "name": "x"}],
        }
        (folder / f"coco/annotations/{split}.json").write_text(json.dumps(content))
    return folder


def run(place, *command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place / "hidden"), str(ROOT)])}
    arguments = [part.format(place=place) for part in command]
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        "train.py --out {place}/run",
        "train.py --dataset coco --data {place}/coco --out {place}/run",
        "evaluate.py {place}/model.keras --dataset shapes",
        "evaluate.py {place}/model.onnx --dataset shapes",
        "evaluate.py {place}/model.onnx --dataset coco --data {place}/coco",
        "evaluate.py {place}/model.onnx --dataset shapes --coco-results {place}/results.json",
        "-m rsis_tf.cli.predict {place}/model.keras {place}/coco --out {place}/found",
        "-m rsis_tf.cli.predict {place}/model.tflite {place}/coco --out {place}/found",
        "-m rsis_tf.cli.predict {place}/saved_model {place}/coco --out {place}/found",
        "-m export.onnx {place}/model.keras",
        "-m export.saved_model {place}/model.keras",
        "-m export.tflite {place}/model.keras --batch 1",
        "-m rsis_tf.cli.check --dataset coco --data {place}/coco",
        "-m rsis_tf.cli.order {place}/model.keras --dataset shapes --out {place}/order",
        "-m rsis_tf convert --help",
    ],
)
def test_commands_that_need_an_extra_name_it(place, command):
    write_toy_graph(place / "model.onnx")
    result = run(place, *command.split())
    if command.endswith("--help"):
        assert (result.returncode, result.stderr) == (0, "")
        assert "Keras model" in result.stdout
        return
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert 'pip install "rsis_tf[train]"' in line
    assert not [path for path in place.rglob("*") if path.name in ("run", "results.json", "found", "order")]


def test_a_tflite_file_needs_litert_alone(place):
    result = run(place, *"-m rsis_tf predict {place}/model.tflite {place}/coco --out {place}/found".split())
    assert result.returncode == 2
    assert "model.tflite needs pip install ai-edge-litert " in result.stderr


def test_an_onnx_file_runs_in_a_base_install(place, tmp_path):
    write_toy_graph(place / "model.onnx")
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20, 0] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    result = run(
        place, *f"-m rsis_tf.cli.predict {place}/model.onnx {tmp_path}/a.png --what all --out {tmp_path}/o".split()
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "a.png: 1 object: leaf 0.66" in result.stdout  # class 0.7; the reduced image has a soft outline
    assert {"a_labels.png", "a_overlay.png", "a_strip.png", "instances.json", "counts.csv"} <= {
        path.name for path in (tmp_path / "o").iterdir()
    }


def test_a_model_of_the_package_runs_in_a_base_install(place, tmp_path):
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "a.png")
    result = run(place, *f"-m rsis_tf predict shapes {tmp_path}/a.png --out {tmp_path}/o".split())
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "o/a_labels.png").is_file()
    result = run(place, *"-m rsis_tf export onnx shapes --out {place}/run.onnx".split())
    assert result.returncode == 2
    assert 'pip install "rsis_tf[train]"' in result.stderr


def test_a_terminal_without_the_characters_of_a_name_shows_escapes(place, tmp_path):
    names = {"class_names": json.dumps(["background", "猫", "Größe"]), "image_size": "[8, 8]", "dynamic_size": "false"}
    write_toy_graph(tmp_path / "model.onnx", metadata={**names, "stop_threshold": "0.5", "mask_threshold": "0.5"})
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "a.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "rsis_tf.cli.predict", "model.onnx", "a.png", "--what", "counts"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "a.png: 3 objects: \\u732b 0.70, Gr\\xf6\\xdfe 0.70" in result.stdout
    assert (tmp_path / "predictions/counts.csv").read_text(encoding="utf-8").startswith("image,objects,猫,Größe,full\n")


def test_other_missing_modules_are_not_hidden():
    from rsis_tf.errors import command_line, missing_module

    assert missing_module(ModuleNotFoundError("No module named 'rsis_tf.nothing'", name="rsis_tf.nothing")) is None
    assert missing_module(ImportError("cannot import name 'x' from 'keras'", name="keras")) is None
    with pytest.raises(ModuleNotFoundError, match="nonsense"), command_line():
        raise ModuleNotFoundError("No module named 'nonsense'", name="nonsense")
