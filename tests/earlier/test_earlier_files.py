"""Files that an earlier version wrote keep working: run folders, models, exports (NOTES.md says how they were made)."""

import csv
import pathlib
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
EXPORTS = (
    "exports/paper/loop.onnx",
    "exports/paper/unrolled.onnx",
    "exports/voting/model.tflite",
    "exports/voting/saved_model",
    "exports/voting/stepwise",
    "exports/voting/unrolled.onnx",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(HERE / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(files) -> dict[str, np.ndarray]:
    with np.load(files / "expected.npz") as values:
        return dict(values)


@pytest.mark.parametrize("run", ["paper", "voting"])
def test_a_model_gives_the_same_outputs(files, expected, run):
    from rsis_tf.inference import load_model

    outputs = load_model(files / run)(np.load(files / "images.npy"), num_steps=4, training=False)
    # The logits are within ±20; oneDNN and Eigen differ by less than 1e-5 of that.
    for name in ("mask_logits", "class_probs", "stop_logits"):
        np.testing.assert_allclose(outputs[name], expected[f"{run}/{name}"], atol=1e-3 if "mask" in name else 1e-4)


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_gives_the_same_instances(files, expected, export):
    from rsis_tf.inference import open_model

    for index, instances in enumerate(open_model(files / export).batch(np.load(files / "images.npy"))):
        key = f"{export}/{index}"
        assert [instance.class_id for instance in instances] == expected[f"{key}/classes"].tolist()
        # The score was class probability × objectness then; the certainty of the mask is a factor since.
        sure = [float(instance.class_probs[instance.class_id]) * instance.objectness for instance in instances]
        np.testing.assert_allclose(sure, expected[f"{key}/scores"], atol=1e-4)
        scores = [product * instance.mask_score for product, instance in zip(sure, instances, strict=True)]
        np.testing.assert_allclose([instance.score for instance in instances], scores, rtol=1e-5)
        masks = np.unpackbits(expected[f"{key}/masks"], axis=-1).astype(bool)
        for instance, mask in zip(instances, masks, strict=True):
            assert (instance.mask != mask).sum() <= 2  # a pixel at the threshold


@pytest.mark.slow
@pytest.mark.parametrize("run", ["paper", "voting"])
def test_a_run_is_resumed(files, run, tmp_path):
    shutil.copytree(files / run, tmp_path / run)
    command = [sys.executable, ROOT / "train.py", "--resume", tmp_path / run, "--epochs", "91"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    logs = [tmp_path / run / "log.csv", files / f"{run}-resumed-log.csv"]
    (*_, ours), (*_, theirs) = ([*csv.DictReader(log.open(encoding="utf-8"))] for log in logs)
    assert ours["epoch"] == theirs["epoch"] == "91"
    for column in ("loss", "mask_loss", "class_loss", "stop_loss", "val_loss"):
        # Four optimiser steps: rounding on another CPU grows, weights that were not restored change far more.
        assert float(ours[column]) == pytest.approx(float(theirs[column]), rel=0.05), column
