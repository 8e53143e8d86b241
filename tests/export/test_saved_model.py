"""`python -m export.saved_model`: a folder that TensorFlow serves without the project."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from export import saved_model as exporter
from export.graph import GraphSpec, infer
from export.options import Options
from rsis_tf.errors import InputError
from rsis_tf.inference import load_model


@pytest.fixture(scope="module")
def exported(run_folder: pathlib.Path) -> pathlib.Path:
    exporter.main([str(run_folder), "--steps", "2"])
    return run_folder / "saved_model"


def test_served_by_a_process_without_the_project(exported: pathlib.Path, tmp_path: pathlib.Path, images):
    image = images[2]
    np.save(tmp_path / "image.npy", image)
    program = f"""
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load({str(exported)!r})
serve = loaded.signatures["serving_default"]
outputs = serve(image=tf.constant(np.load("image.npy")[None]))
np.savez("outputs.npz", **{{name: value.numpy() for name, value in outputs.items()}})
assert "rsis_tf" not in sys.modules and "export" not in sys.modules
"""
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npz")
    wanted = infer(load_model(exported.parent), image[None], GraphSpec(size=(48, 64), batch=None, steps=2))
    assert sorted(outputs) == ["classes", "masks", "stop"]
    for name in outputs:
        np.testing.assert_allclose(outputs[name], wanted[name], atol=1e-5)


def test_json_file_describes_the_export(exported: pathlib.Path):
    side = json.loads((exported.parent / "saved_model.json").read_text())
    assert (side["format"], side["signature"], side["num_steps"]) == ("saved_model", "serving_default", 2)
    assert side["input"]["shape"] == ["batch", "height", "width", 3]


def test_replaces_a_saved_model_and_nothing_else(run_folder: pathlib.Path, tmp_path: pathlib.Path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("kept")
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--out", str(mine)])
    assert stop.value.code == 2
    assert "an earlier export with saved_model.pb in it" in capsys.readouterr().err
    assert (mine / "notes.txt").read_text() == "kept"
    out = tmp_path / "served"
    for steps in ("1", "2"):
        exporter.main([str(run_folder), "--out", str(out), "--steps", steps, "--no-verify"])
        assert json.loads((tmp_path / "served.json").read_text())["num_steps"] == int(steps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "served", "served.json"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_refused(run_folder: pathlib.Path, precision: str, capsys):
    with pytest.raises(SystemExit) as stop:
        exporter.main([str(run_folder), "--precision", precision])
    assert stop.value.code == 2
    assert f"invalid choice: '{precision}'" in capsys.readouterr().err
    options = Options(source=run_folder / "best.keras", out=run_folder / "other", precision=precision)
    with pytest.raises(InputError, match=f"Received: --precision {precision}"):
        exporter.export_saved_model(options)
