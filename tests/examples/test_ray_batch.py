"""The batch job on Ray Data: the same objects as from one predictor, in the order of the images."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rsis_tf.images import read_image
from rsis_tf.runtime import Predictor

PROJECT = pathlib.Path(__file__).parents[2]
SCRIPT = PROJECT / "examples" / "ray_batch.py"


@pytest.fixture(scope="module")
def job():
    """The example as a module; it imports Ray only when a job runs."""
    spec = importlib.util.spec_from_file_location("ray_batch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_folder_to_coco_results(model_file, image_files, tmp_path):
    pytest.importorskip("ray.data")
    folder = tmp_path / "images"
    shutil.copytree(image_files[0].parent, folder)
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no image")
    out = tmp_path / "predictions.json"
    command = [sys.executable, SCRIPT, model_file, folder, out, "--actors", "2", "--batch-size", "2"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results, images = json.loads(out.read_text()), json.loads(out.with_suffix(".images.json").read_text())
    assert [(image["id"], image["file_name"]) for image in images] == [
        (1, "0.png"),
        (2, "1.png"),
        (3, "2.png"),
        (4, "broken.png"),
    ]
    assert "broken.png" in images[3]["error"]
    assert not any("error" in image for image in images[:3])
    predictor = Predictor(model_file)
    for image, path in zip(images[:3], image_files, strict=True):
        wanted = predictor(read_image(path))
        found = [result for result in results if result["image_id"] == image["id"]]
        assert len(wanted) == len(found) == image["objects"] > 0
        assert (image["height"], image["width"]) == wanted[0].mask.shape
        for instance, result in zip(wanted, found, strict=True):
            assert (result["category_id"], result["score"]) == (
                instance.class_id,
                pytest.approx(instance.score, abs=1e-5),
            )
            rle = coco_mask.frPyObjects(result["segmentation"], *result["segmentation"]["size"])
            np.testing.assert_array_equal(coco_mask.decode(rle), instance.mask)
    assert f"4 images (1 not read), {len(results)} objects: {out}" in done.stdout


def test_outlines_instead_of_run_lengths(job, model_file, image_files):
    """The work of an actor, without Ray."""
    actor = job.PredictBatch(str(model_file), providers=["cpu"], threads=1, polygons=True)
    rows = actor({"image_id": np.array([7]), "path": np.array([str(image_files[0])])})
    wanted = Predictor(model_file)(read_image(image_files[0]))
    objects = json.loads(rows["objects"][0])
    assert [result["image_id"] for result in objects] == [7] * len(wanted)
    for result, instance in zip(objects, wanted, strict=True):
        area = sum(coco_mask.area(coco_mask.frPyObjects([part], 32, 48))[0] for part in result["segmentation"])
        assert area >= instance.mask.sum()  # holes are filled


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("MODEL nowhere out.json", "Received: nowhere"),
        ("MODEL FOLDER out.txt", "Received: out.txt"),
        ("nowhere.onnx FOLDER out.json", "Received: nowhere.onnx"),
        ("MODEL FOLDER out.json --actors 0", "Received: --actors 0"),
        ("MODEL FOLDER out.json --provider nonsense", "Received: ['nonsense']"),
    ],
)
def test_wrong_arguments_give_one_line(job, model_file, tmp_path, call, message, capsys):
    places = {"MODEL": str(model_file), "FOLDER": str(tmp_path)}
    with pytest.raises(SystemExit) as stop:
        job.main([places.get(word, word) for word in call.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
