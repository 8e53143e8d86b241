"""`python -m export.tflite`: a file that LiteRT runs, with the outputs of the Keras model."""

import json
import pathlib

import numpy as np
import pytest

from export import tflite as exporter
from export.graph import GraphSpec, infer
from rsis_tf.inference import load_model


@pytest.fixture(scope="module")
def exported(run_folder: pathlib.Path) -> pathlib.Path:
    exporter.main([str(run_folder), "--steps", "2"])
    return run_folder / "model.tflite"


def test_same_outputs_as_the_keras_model(exported: pathlib.Path, images):
    run = exporter.open_run(exported)
    image = images[0]  # of the size of the network
    got = run(image[None])
    wanted = infer(load_model(exported.parent), image[None], GraphSpec(size=(48, 64), batch=1, steps=2, resize=False))
    assert sorted(got) == ["classes", "masks", "stop"]
    for name in got:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-4)


def test_json_file_describes_the_export(exported: pathlib.Path):
    side = json.loads((exported.parent / "model.tflite.json").read_text())
    assert (side["format"], side["input"]["shape"]) == ("tflite", [1, 48, 64, 3])


def test_half_precision_is_half_the_size_and_close(exported: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "half.tflite"
    exporter.main([str(exported.parent), "--out", str(out), "--precision", "fp16", "--batch", "2", "--steps", "2"])
    assert out.stat().st_size < 0.6 * exported.stat().st_size
    side = json.loads((tmp_path / "half.tflite.json").read_text())
    assert side["input"]["shape"] == [2, 48, 64, 3]
    assert 0 < max(side["verification"][0]["differences"].values()) < 0.02


@pytest.mark.parametrize("option", ["--size dynamic", "--batch-size dynamic", "--resize"])
def test_dynamic_shapes_are_refused(run_folder: pathlib.Path, option: str, capsys):
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), *option.split()])
    assert stop.value.code == 2
    assert f"Received: {option}" in capsys.readouterr().err
