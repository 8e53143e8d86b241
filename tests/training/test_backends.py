"""The same training with the JAX and PyTorch backends: losses, files, stages, resume."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend_run import batch, three_steps
from tiny import VOTING, tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow with the others"),
]


@pytest.fixture(scope="module", params=["convolution", "voting"])
def start(request, tmp_path_factory):
    """A folder with a fresh model, TensorFlow's losses and outputs after three steps, and whether to train in stages.

    The training in stages has its own model, the same for both mask heads, so it runs once for each backend.
    """
    folder = tmp_path_factory.mktemp("backends")
    form = VOTING if request.param == "voting" else {}
    model = tiny_model(num_steps=2, **form)
    model.save(folder / "before.keras")
    losses = three_steps(model)
    images, _ = batch()
    return folder, losses, model.predict_on_batch(images), request.param == "voting"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backend_trains_the_same(start, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder, losses, outputs, stages = start
    tests = pathlib.Path(__file__).parents[1]
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(tests.parent)}
    if backend == "jax":
        # Compiling takes most of the time of so small a training.
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    process = subprocess.run(
        [sys.executable, str(tests / "training/backend_run.py"), str(folder), *(["stages"] if stages else [])],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads((folder / f"result-{backend}.json").read_text())
    assert result["losses"][:3] == [pytest.approx(step, rel=1e-4) for step in losses[:3]]
    # Biases before batch normalisation have gradients of rounding noise; the stored statistics lag behind them.
    assert result["losses"][3] == pytest.approx(losses[3], rel=1e-3)
    assert result["recomputed"] == pytest.approx(losses[1], rel=1e-4)

    images, _ = batch()
    theirs = keras.models.load_model(folder / f"after-{backend}.keras").predict_on_batch(images)
    for name, array in outputs.items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-2 * np.abs(array).max(), err_msg=name)

    if stages:
        rows = result["rows"]
        assert rows[0]["loss"] == pytest.approx(rows[0]["mask_loss"] + 0.5 * rows[0]["stop_loss"], rel=1e-4)
        assert rows[1]["loss"] > rows[1]["mask_loss"] + 0.5 * rows[1]["stop_loss"] + 0.01
        assert result["moved"]
        assert result["kept"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_command_trains_with_the_other_backends(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    options = (
        "--dataset shapes --train-size 4 --val-size 2 --image-size 32 --batch-size 2 --hidden-size 16 "
        "--neck-channels 8 --decoder-stages 2 --steps 2 --epochs 2 --optimizer muon --frozen-batch-norm 0.5 "
        "--sequence-length 2"
    )
    process = subprocess.run(
        [sys.executable, "-m", "rsis_tf", "train", *options.split(), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env=os.environ
        | {"KERAS_BACKEND": backend, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
        | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert f"{backend} on " in process.stdout
    assert "statistics of batch normalisation kept" in process.stdout
    assert (tmp_path / "run/metrics.json").is_file()
