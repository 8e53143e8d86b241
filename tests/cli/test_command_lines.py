"""The commands as a user calls them: train, evaluate, export, predict, and their answers to wrong input."""

import csv
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from rsis_tf.images import read_image

ROOT = pathlib.Path(__file__).parents[2]
TINY = (
    "--epochs 2 --train-size 8 --val-size 4 --batch-size 4 --image-size 32 --hidden-size 16 --min-channels 0 --steps 3"
).split()


def run(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, its screen output and its exported model."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    training = run("train.py", *TINY, "--stop-threshold", "auto", "--out", folder)
    assert training.returncode == 0, training.stderr
    # After so short a training no step reaches the threshold; a high bias makes every step an object.
    program = (
        "import sys, keras, rsis_tf.models\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "model.decoder.stop_head.bias.assign([9.0]); model.decoder.voting.dense_head.bias.assign([3.0, 0, 0, 0])\n"
        "model.save(sys.argv[1])\n"
    )
    assert run("-c", program, folder / "best.keras").returncode == 0
    exported = run("-m", "export.onnx", folder)
    assert exported.returncode == 0, exported.stderr
    return folder, training.stdout


def test_train_writes_a_complete_run(trained):
    folder, screen = trained
    assert {path.name for path in folder.iterdir()} >= {
        *("config.json", "best.keras", "last.keras", "log.csv", "curves.png", "sequences.png", "metrics.json"),
        *("samples", "model.onnx"),
    }
    assert not [path for path in folder.rglob("*") if "partial" in path.name or "part" in path.suffix]
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "val_loss", "mask_loss", "val_stop_loss"))
    assert json.loads((folder / "config.json").read_text())["model"]["num_steps"] == 3
    assert {"ap50", "sbd", "abs_dic"} <= json.loads((folder / "metrics.json").read_text()).keys()
    assert len(re.findall(r"^epoch \d/2 ", screen, re.MULTILINE)) == 2
    calibrated = r"^objectness: 0\.\d+ becomes 0\.5, counting error .* on 8 training images"
    assert re.search(calibrated, screen, re.MULTILINE)
    for file in ("metrics.json", "model.onnx.json"):
        assert json.loads((folder / file).read_text())["stop_threshold"] == 0.5
    assert "AP50" in screen
    for command in ("evaluate", "export onnx", "predict"):
        assert f"rsis {command} {folder}" in screen


def test_evaluate_keras_and_onnx_agree(trained, tmp_path):
    folder, _ = trained
    options = {"best.keras": ["--threads", "1"], "model.onnx": ["--provider", "cpu", "--batch-size", "3"]}
    for model in ("best.keras", "model.onnx"):
        result = run("evaluate.py", folder / model, "--out", tmp_path / f"{model}.json", *options[model])
        assert result.returncode == 0, result.stderr
        assert "SBD" in result.stdout
    scores, others = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("best.keras", "model.onnx"))
    assert scores["predictions"] > 0
    for name in ("ap", "ap50", "sbd", "abs_dic", "predictions"):
        assert scores[name] == pytest.approx(others[name], abs=1e-6), name


def test_predict_gives_the_same_files_from_keras_and_onnx(trained, tmp_path):
    folder, _ = trained
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 37, 3), np.uint8)).save(tmp_path / "odd.png")
    images = [*sorted((folder / "samples").glob("*.png")), tmp_path / "odd.png"]
    for model, out in ((folder, "keras"), (folder / "model.onnx", "onnx")):
        result = run("-m", "rsis_tf.cli.predict", model, *images, "--out", tmp_path / out)
        assert result.returncode == 0, result.stderr
        assert re.search(r"odd\.png: [1-9] objects?: ", result.stdout)
    names = sorted(path.name for path in (tmp_path / "keras").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "onnx").iterdir())
    assert {"counts.csv", "odd_labels.png", "odd_overlay.png"} <= set(names)
    assert (tmp_path / "keras/counts.csv").read_text() == (tmp_path / "onnx/counts.csv").read_text()
    for name in names:
        if name.endswith("_labels.png"):
            one, other = (np.asarray(Image.open(tmp_path / out / name)) for out in ("keras", "onnx"))
            assert np.count_nonzero(one != other) <= 2, name  # rounding decides about a pixel on the threshold
            assert one.max() > 0


def test_exported_model_runs_without_tensorflow(trained):
    folder, _ = trained
    program = (
        "import sys, numpy\n"
        "from rsis_tf.runtime import Predictor\n"
        "found = Predictor(sys.argv[1])(numpy.zeros((40, 60, 3), numpy.uint8))\n"
        "assert found and found[0].mask.shape == (40, 60) and found[0].class_name == 'leaf'\n"
        "loaded = {'tensorflow', 'keras', 'torch', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    result = run("-c", program, folder / "model.onnx")
    assert result.returncode == 0, result.stderr


def test_predict_with_onnx_imports_no_tensorflow(trained, tmp_path):
    folder, _ = trained
    program = (
        "import sys; from rsis_tf.cli.predict import main\n"
        "main(sys.argv[1:]); assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
    )
    result = run("-c", program, folder / "model.onnx", folder / "samples/0.png", "--out", tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "CUDAExecutionProvider", "gpu"])
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA build")
def test_a_provider_that_is_unavailable_is_never_replaced(trained, provider, tmp_path):
    folder, _ = trained
    for command in (
        ["evaluate.py", folder / "model.onnx", "--limit", "1"],
        ["-m", "rsis_tf.cli.predict", folder / "model.onnx", folder / "samples/0.png", "--out", tmp_path / "out"],
    ):
        result = run(*command, "--provider", provider)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(r"error: expected providers of the installed onnxruntime.* Received: .*\n", result.stderr)
    assert not (tmp_path / "out").exists()


def test_images_of_other_kinds(trained, tmp_path):
    folder, _ = trained
    colours = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgba.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    files = [tmp_path / name for name in ("rgba.png", "deep.png", "grey.png", "broken.jpg", "missing.png")]
    result = run("-m", "rsis_tf.cli.predict", folder / "model.onnx", *files, "--out", tmp_path / "out")
    assert result.returncode == 2
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    for line, name in zip(errors, ("deep.png", "broken.jpg", "missing.png"), strict=True):
        assert re.fullmatch(rf"error: expected .* Received: .*{name}.*", line)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("counts.csv", "results.txt"),
        *("rgba_labels.png", "rgba_overlay.png", "grey_labels.png", "grey_overlay.png"),
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train.py", "--unknown"], "unrecognized arguments: --unknown"),
        (["train.py", "--encoder", "alexnet"], "invalid choice: 'alexnet'"),
        (["train.py", "--hidden-size", "20"], "Received: hidden_size=20"),
        (["train.py", "--image-size", "big"], "Received: big"),
        (["train.py", "--seed", "4294967296"], "Received: seed=4294967296"),
        (["train.py", "--hidden-size", "16000000"], "Received: hidden_size=16000000"),
        (["train.py", "--batch-size", "10000000000"], "Received: batch_size=10000000000"),
        (["train.py", "--learning-rate", "inf"], "Received: learning_rate=inf"),
        (["train.py", "--class-weight", "nan"], "Received: class_weight=nan"),
        (["train.py", "--stop-threshold", "nan"], "Received: stop_threshold=nan"),
        (["train.py", "--config", "x" * 300], "Received: x+"),
        (["train.py", "--out", "{text}"], "Received: --out .*text.keras"),
        (["train.py", "--out", "x" * 300], "Received: x+ .File name too long"),
        (["train.py", "--resume", "{missing}"], "Received: .*missing"),
        (["train.py", "--accept-changed-data"], "Received: no --resume"),
        (["train.py", "--dataset", "coco"], "Received: "),
        (["train.py", "--dataset", "coco", "--data", "{empty}"], "Received: .*empty"),
        (["train.py", "--dataset", "coco", "--data", "{missing}"], "Received: .*missing"),
        (["train.py", "--out", "{full}"], "Received: --out .*full"),
        (
            ["train.py", "--encoder-weights", "nothing.pth", "--out", "{new}"],
            "Received: nothing.pth, which is not there",
        ),
        (["evaluate.py", "{missing}"], "Received: .*missing, which is not there"),
        (["evaluate.py", "{empty}"], "Received: .*empty"),
        (["evaluate.py", "{text}", "--dataset", "shapes"], "Received: .*text.keras"),
        (["-m", "rsis_tf.cli.predict", "{text}", "x.png"], "Received: .*text.keras"),
        (["-m", "rsis_tf.cli.predict", "{missing}", "x.png"], "Received: .*missing"),
        (["-m", "rsis_tf.cli.predict", "{text}", "x.png", "--provider", "cuda"], "Received: .*text.keras"),
        (["-m", "rsis_tf.cli.predict", "{text}", "x.png", "--stop-threshold", "nan"], "Received: nan"),
        (["evaluate.py", "{text}", "--mask-threshold", "1.5"], "Received: 1.5"),
        (["evaluate.py", "{text}", "--threads", "0"], "Received: 0"),
        (["-m", "export.onnx", "{missing}"], "Received: .*missing"),
        (["-m", "rsis_tf", "export", "onnx", "{missing}"], "Received: .*missing"),
        (["-m", "rsis_tf", "train", "--hidden-size", "20"], "Received: hidden_size=20"),
        (["-m", "export.onnx", "{text}"], "Received: .*text.keras"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(command, said, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "text.keras").write_text("not a model")
    places = {name: tmp_path / name for name in ("empty", "full", "missing", "new")} | {"text": tmp_path / "text.keras"}
    result = run(*(part.format(**places) for part in command), cwd=ROOT)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert re.match(rf"error: .*{said}", result.stderr)
    assert not (tmp_path / "text.onnx").exists()
    assert not (tmp_path / "new").exists()


def test_annotation_without_its_image_is_named(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = {
            "images": [{"id": 1, "file_name": "gone.png", "width": 8, "height": 8}],
            "annotations": [],
            "categories": [{"id": 1, "name": "cell"}],
        }
        (tmp_path / f"annotations/{split}.json").write_text(json.dumps(content))
    result = run("train.py", "--dataset", "coco", "--data", tmp_path)
    assert result.returncode == 2
    assert re.fullmatch(r"error: expected .* Received: .*gone\.png.*\n", result.stderr)


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["-m", "rsis_tf", "train"], ["evaluate.py"], ["-m", "rsis_tf.cli.predict"], ["-m", "export.onnx"]],
)
def test_help_has_an_example(command):
    result = run(*command, "--help")
    assert result.returncode == 0
    assert "example" in result.stdout


def test_images_of_a_run_can_be_read(trained):
    folder, _ = trained
    for name in ("curves.png", "sequences.png"):
        assert min(read_image(folder / name).shape[:2]) > 100
