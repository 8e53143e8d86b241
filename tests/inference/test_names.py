"""Public names: `import rsis_tf` is quick and loads no framework, and names of earlier versions still work."""

import importlib
import pathlib
import subprocess
import sys

import pytest

import rsis_tf
from rsis_tf import inference, runtime

ROOT = pathlib.Path(__file__).parents[2]


def test_the_package_loads_no_framework_until_it_must():
    program = """
import sys
import rsis_tf
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"keras", "tensorflow", "numpy", "PIL"}, loaded
assert {"RSIS", "Instances", "open_model", "train"} <= set(dir(rsis_tf))
assert rsis_tf.open_model is rsis_tf.inference.open_model
assert not {"keras", "tensorflow"} & set(sys.modules)
assert rsis_tf.RSIS.__name__ == "RSIS"
assert "keras" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_keras_finds_the_class_of_a_saved_model(tmp_path):
    """In a process that imports the models, or imports Keras before the package."""
    from rsis_tf.models import ModelConfig, build_model

    path = tmp_path / "model.keras"
    config = ModelConfig(encoder="compact", hidden_size=16, num_classes=2, num_steps=1, image_size=(32, 32))
    build_model(config).save(path)
    for imports in ("import rsis_tf.models, keras", "import keras, rsis_tf"):
        program = f"{imports}; print(type(keras.models.load_model({str(path)!r}, compile=False)).__name__)"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.stdout == "RSIS\n", done.stderr


@pytest.mark.parametrize(
    ("module", "names", "home"),
    [
        ("export.runtime", ("Instance", "Predictor", "RuntimeInputError", "decode"), runtime),
        ("export.shapes", ("to_label_map", "to_polygons", "to_rle"), runtime),
        ("rsis_tf.predictor", ("KerasPredictor", "find_model", "load_model", "open_predictor"), inference),
    ],
)
def test_names_of_earlier_versions(module, names, home):
    for name in names:
        assert getattr(importlib.import_module(module), name) is getattr(home, name)


def test_the_command_of_earlier_versions():
    assert importlib.import_module("rsis_tf.predict").main is importlib.import_module("rsis_tf.cli.predict").main


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'rsis_tf' has no attribute 'nothing'"):
        _ = rsis_tf.nothing
