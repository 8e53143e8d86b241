"""A model with aspect "keep" finds the same objects in every format."""

import json
import pathlib

import numpy as np
import pytest

from export.graph import resample
from rsis_tf.errors import InputError
from rsis_tf.inference import KerasPredictor, open_predictor
from rsis_tf.runtime import Predictor, letterbox, resize_image

SIZE = (48, 64)


@pytest.fixture(scope="module")
def keeping_run(run_folder, tmp_path_factory) -> pathlib.Path:
    """The network of the shared run, with aspect "keep"."""
    import dataclasses

    from rsis_tf.inference import load_model

    model = load_model(run_folder)
    model.config = dataclasses.replace(model.config, aspect="keep")
    folder = tmp_path_factory.mktemp("keeping")
    model.save(folder / "best.keras")
    return folder


@pytest.fixture(scope="module")
def images(images) -> list[np.ndarray]:
    from rsis_tf.images import synthetic_image

    return [*images, synthetic_image((40, 160), 7), synthetic_image((131, 47), 8)]


@pytest.mark.parametrize("source", [(48, 64), (96, 64), (40, 160), (131, 47), (300, 31), (33, 33), (5, 200)])
@pytest.mark.parametrize("frame", [(48, 64), (33, 35)])
def test_the_graph_letterboxes_as_the_runtime_does(source, frame):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8)
    wanted = resize_image(image, frame, "keep").astype(int)
    got = resample(image[None], frame, "keep").numpy()[0]
    assert np.abs(got - wanted).max() <= 1
    top, left, height, width = letterbox(source, frame)
    inside = np.zeros(frame, bool)
    inside[top : top + height, left : left + width] = True
    assert not got[~inside].any()


def test_the_graph_stretches_as_the_runtime_does():
    image = np.random.default_rng(0).integers(0, 256, (77, 130, 3), np.uint8)
    got = resample(image[None], SIZE).numpy()[0]
    assert np.abs(got - resize_image(image, SIZE).astype(int)).max() <= 1


def test_a_keras_model_cuts_the_padding_off_its_masks(keeping_run, images):
    predictor = KerasPredictor(keeping_run)
    assert predictor.aspect == "keep"
    for image in images:
        masks, _, _ = predictor.run(resize_image(image, SIZE, "keep")[None])
        top, left, height, width = letterbox(image.shape[:2], SIZE)
        found = predictor(image)
        assert found
        for instance in found:
            inner = masks[0, instance.step, top : top + height, left : left + width] >= 0.5
            assert instance.mask.shape == image.shape[:2]
            assert abs(instance.mask.mean() - inner.mean()) < 0.1


@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("onnx", "model.onnx", []),
        ("onnx", "model.onnx", ["--no-resize", "--batch", "2"]),
        ("onnx", "model.onnx", ["--size", "dynamic"]),
        ("onnx", "stepwise", ["--layout", "stepwise"]),
        ("saved_model", "saved_model", []),
        ("tflite", "model.tflite", []),
    ],
)
def test_every_format_gives_the_same_objects(keeping_run, images, tmp_path, module, name, options):
    import importlib

    importlib.import_module(f"export.{module}").main([str(keeping_run), "--out", str(tmp_path / name), *options])
    described = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert described["aspect"] == "keep"
    assert "black" in described["padding"]
    predictor, reference = open_predictor(tmp_path / name), KerasPredictor(keeping_run)
    assert predictor.aspect == "keep"
    for image in images:
        found, wanted = predictor(image), reference(image)
        assert [one.step for one in found] == [other.step for other in wanted]
        assert wanted
        for one, other in zip(found, wanted, strict=True):
            assert (one.mask == other.mask).mean() > 0.995


def test_a_graph_that_resizes_takes_images_of_any_size(keeping_run, images, tmp_path):
    from export import onnx as exporter

    exporter.main([str(keeping_run), "--out", str(tmp_path / "model.onnx"), "--no-verify"])
    predictor = Predictor(tmp_path / "model.onnx")
    for image in images:
        whole, _, _ = predictor.run(image[None])
        boxed, _, _ = predictor.run(resize_image(image, SIZE, "keep")[None])
        np.testing.assert_allclose(whole, boxed, atol=0.05)  # Pillow rounds in fixed point


def test_an_unknown_aspect_beside_a_tflite_file_is_refused(keeping_run, tmp_path):
    from export import tflite as exporter

    exporter.main([str(keeping_run), "--out", str(tmp_path / "model.tflite"), "--no-verify"])
    side = tmp_path / "model.tflite.json"
    side.write_text(side.read_text(encoding="utf-8").replace('"aspect": "keep"', '"aspect": "crop"'), encoding="utf-8")
    with pytest.raises(InputError, match=r"aspect must be one of stretch, keep\. Received: 'crop', in .*tflite\.json"):
        open_predictor(tmp_path / "model.tflite")
