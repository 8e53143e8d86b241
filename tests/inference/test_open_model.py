"""One predictor interface: every kind of model file gives the same instances and the same scores."""

import hashlib
import json
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from legacy_torch import original_arguments, write_checkpoint
from PIL import Image

from rsis_tf.errors import InputError
from rsis_tf.inference import (
    KerasPredictor,
    OnnxPredictor,
    SavedModelPredictor,
    TFLitePredictor,
    find_model,
    load_model,
    open_model,
)
from rsis_tf.runtime import Instances, Predictor

ROOT = pathlib.Path(__file__).parents[2]
SIDE = 32
CLASSES = ("background", "circle", "square", "triangle")
KINDS = ("run", "run/model.onnx", "run/saved_model", "run/model.tflite")


def build(encoder, **config):
    """A network with random weights that finds something in any image."""
    import keras

    from rsis_tf.models import ModelConfig, build_model

    keras.utils.set_random_seed(7)
    model = build_model(
        ModelConfig(encoder=encoder, hidden_size=16, num_classes=4, num_steps=3, image_size=(SIDE, SIDE), **config)
    )
    model.decoder.mask_head.kernel.assign(model.decoder.mask_head.kernel * 10)
    model.decoder.class_head.kernel.assign(model.decoder.class_head.kernel * 5)
    model.decoder.stop_head.bias.assign([1.0])
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one network in four kinds of files."""
    from export import onnx, saved_model, tflite

    folder = tmp_path_factory.mktemp("models")
    (folder / "run").mkdir()
    build("compact", stop_threshold=0.45, category_ids=(0, 7, 3, 90)).save(folder / "run/best.keras")
    for exporter, options in ((onnx, []), (saved_model, []), (tflite, ["--batch", "2"])):
        exporter.main([str(folder / "run"), "--no-verify", *options])
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network, and a folder with its weights as the original code saves them."""
    from rsis_tf.models.pytorch.convert import state_dicts

    model = build("resnet34")
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    arguments = original_arguments(base_model="resnet34", hidden_size=16, num_classes=4, maxseqlen=3, imsize=SIDE)
    write_checkpoint(folder, state_dicts(model), arguments)
    return model, folder


def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((32, 32), (40, 25), (17, 60))]


def test_each_kind_of_file_has_its_predictor(models):
    assert [find_model(models / kind)[0] for kind in KINDS] == ["keras", "onnx", "saved_model", "tflite"]
    opened = [type(open_model(models / kind)) for kind in KINDS]
    assert opened == [KerasPredictor, OnnxPredictor, SavedModelPredictor, TFLitePredictor]
    assert issubclass(OnnxPredictor, Predictor)


@pytest.mark.parametrize("stop_mode", ["first", "each"])
def test_the_same_instances_from_every_kind(models, stop_mode):
    wanted = list(open_model(models / "run", stop_mode=stop_mode).stream(images()))
    assert all(len(found) > 0 for found in wanted)
    for kind in KINDS[1:]:
        got = list(open_model(models / kind, stop_mode=stop_mode).stream(images()))
        for image, ours, theirs in zip(images(), wanted, got, strict=True):
            assert [i.step for i in ours] == [i.step for i in theirs], kind
            for one, other in zip(ours, theirs, strict=True):
                assert other.mask.shape == image.shape[:2]
                assert np.count_nonzero(one.mask != other.mask) <= 2, kind  # a pixel may lie on the threshold
                assert (one.class_id, one.class_name) == (other.class_id, other.class_name), kind
                assert one.score == pytest.approx(other.score, abs=1e-4), kind


def test_a_checkpoint_of_the_original_is_converted_in_memory(checkpoint):
    model, folder = checkpoint
    before = sorted(path.name for path in folder.iterdir())
    predictor = open_model(folder, stop_mode="each")
    assert predictor.model.config.encoder == "resnet34"
    for wanted, got in zip(
        KerasPredictor(model, stop_mode="each").stream(images()), predictor.stream(images()), strict=True
    ):
        assert [i.score for i in wanted] == pytest.approx([i.score for i in got], abs=1e-5)
        assert all(np.array_equal(one.mask, other.mask) for one, other in zip(wanted, got, strict=True))
        assert wanted
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_same_scores_from_every_kind(models):
    """Within 0.1 point, the precision of published tables."""
    from rsis_tf.data.readers.synthetic import SyntheticDataset
    from rsis_tf.evaluation.scoring import evaluate

    dataset = SyntheticDataset(size=(SIDE, SIDE), length=6, seed=0)
    scores = []
    for kind in KINDS:
        predictor = open_model(models / kind, stop_mode="each")
        predictor.class_names = CLASSES
        scores.append(evaluate(predictor, dataset, resamples=5))
    assert scores[0].predictions > 6
    assert scores[0].sbd > 0
    for kind, other in zip(KINDS, scores, strict=True):
        for name in ("ap", "ap50", "sbd", "abs_dic", "foreground_dice"):
            assert getattr(other, name) == pytest.approx(getattr(scores[0], name), abs=1e-3), (kind, name)


@pytest.mark.parametrize("kind", ["run/model.onnx", "run/model.tflite"])
def test_files_that_need_no_tensorflow(models, kind):
    program = (
        "import sys, numpy\n"
        "import evaluate, rsis_tf.cli.predict\n"
        "from rsis_tf.inference import open_model\n"
        "assert open_model(sys.argv[1])(numpy.zeros((40, 50, 3), numpy.uint8))[0].mask.shape == (40, 50)\n"
        "loaded = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", program, models / kind], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_batches_give_the_same_as_single_images(models):
    for kind in ("run", "run/model.tflite", "run/saved_model"):
        predictor = open_model(models / kind, batch_size=2)
        assert predictor.batch_size == 2
        for image, found in zip(images(), predictor.stream(iter(images())), strict=True):
            alone = predictor(image)
            assert [i.score for i in alone] == pytest.approx([i.score for i in found], abs=1e-5)
            assert [i.mask.sum() for i in alone] == [i.mask.sum() for i in found]
    with pytest.raises(InputError, match=r"takes only batch_size 2\. Received: 3"):
        open_model(models / "run/model.tflite", batch_size=3)


def test_every_export_comes_with_its_checksum(models):
    for name in ("model.onnx", "model.tflite"):
        described = json.loads((models / f"run/{name}.json").read_text())
        assert described["sha256"] == hashlib.sha256((models / "run" / name).read_bytes()).hexdigest()
    described = json.loads((models / "run/saved_model.json").read_text())
    content = (models / "run/saved_model/saved_model.pb").read_bytes()
    assert described["sha256"]["saved_model.pb"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_stop_threshold_of_the_call_replaces_that_of_the_file(models, kind):
    image = images()[0]
    assert open_model(models / kind)(image)
    assert open_model(models / kind).stop_threshold == 0.45  # the model's own
    assert open_model(models / kind, stop_threshold=0.8).stop_threshold == 0.8
    assert open_model(models / kind, stop_threshold=1.0)(image) == []
    with pytest.raises(InputError, match=r"Received: stop_threshold=1\.5"):
        open_model(models / kind, stop_threshold=1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_checks_the_same_options(models, kind):
    for options in (
        *({"stop_threshold": value} for value in (2, "a", float("nan"), True)),
        *({"mask_threshold": value} for value in (-0.1, "0.5", float("nan"))),
        *({"batch_size": value} for value in (0, -1, 1.5, True)),
        *({"threads": value} for value in (0, 1.5, "all")),
        *({"stop_mode": value} for value in ("x", None)),
        *({"image_size": value} for value in (32, (0, 32))),
        *({"providers": value} for value in (7, [])),
    ):
        with pytest.raises(InputError, match=rf"^{next(iter(options))} must be .*\. Received: ") as caught:
            open_model(models / kind, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [*KINDS, "a model in memory"])
def test_every_kind_can_be_pickled(models, kind):
    options = {"stop_mode": "each", "image_size": [SIDE, SIDE]}
    in_memory = kind not in KINDS
    predictor = (
        KerasPredictor(load_model(models / "run"), **options) if in_memory else open_model(models / kind, **options)
    )
    predictor.class_names = CLASSES
    again = pickle.loads(pickle.dumps(predictor))
    assert (type(again), again.class_names, again.stop_mode) == (type(predictor), CLASSES, "each")
    for one, other in zip(predictor.batch(images()), again.batch(images()), strict=True):
        assert [i.score for i in one] == pytest.approx([i.score for i in other], abs=1e-6)
        assert one.class_names == other.class_names
        np.testing.assert_array_equal(one.masks, other.masks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_an_unknown_option(models, kind):
    with pytest.raises(TypeError, match=r"^Predictor and open_model take the options .*Received: foo$"):
        open_model(models / kind, foo=1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_the_same_options(models, kind):
    image = images()[0]
    predictor = open_model(models / kind, mask_threshold=0.0, stop_mode="each", stop_threshold=0.0)
    assert predictor.mask_threshold == 0.0
    found = predictor(image)
    assert [instance.mask.all() for instance in found] == [True, True, True]
    assert predictor.batch([image])[0][0].score == found[0].score
    assert open_model(models / kind, image_size=(SIDE, SIDE)).image_size == (SIDE, SIDE)
    assert predictor.category_ids == (0, 7, 3, 90)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_images_of_every_kind(models, kind, tmp_path):
    predictor = open_model(models / kind)
    image = images()[1]
    Image.fromarray(image).save(tmp_path / "image.png")
    wanted = predictor(image)
    assert isinstance(wanted, Instances)
    assert len(wanted) > 0
    for same in (image.astype(np.float32), Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")):
        assert [i.mask.sum() for i in predictor(same)] == [i.mask.sum() for i in wanted]
    for wrong, received in (
        (np.zeros((8, 0, 3), np.uint8), "shape (8, 0, 3), dtype uint8"),
        (np.full((8, 8), np.nan), "nan … nan"),
        (tmp_path / "missing.png", f"{tmp_path / 'missing.png'} (no such file)"),
        (7, "int"),
    ):
        with pytest.raises(InputError) as caught:
            predictor(wrong)
        assert str(caught.value).split(". Received: ")[1] == received
    with pytest.raises(InputError, match="images must be a sequence"):
        next(predictor.stream(7))


def test_providers_that_a_file_cannot_use_are_refused_with_the_reason(models):
    for kind, reason in {
        "run": "providers are those of ONNX Runtime; export the model with export.onnx",
        "run/saved_model": "providers are those of ONNX Runtime; export the model with export.onnx",
        "run/model.tflite": "a TFLite file runs on the CPU, by LiteRT",
        "run/model.onnx": "expected providers of the installed onnxruntime",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            open_model(models / kind, providers="ROCMExecutionProvider")
        assert "ROCMExecutionProvider" in str(caught.value).split("Received: ")[1]
    for kind in ("run/model.onnx", "run/model.tflite"):
        assert open_model(models / kind, providers="cpu", threads=1)(images()[0])


def test_threads_of_tensorflow_are_set_before_it_starts(models):
    program = (
        "import sys\n"
        "from rsis_tf.inference import open_model\n"
        "open_model(sys.argv[1], threads=3)\n"
        "import tensorflow as tf\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 3\n"
    )
    command = [sys.executable, "-c", program, models / "run"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    with pytest.raises(InputError, match=r"before TensorFlow computes anything .* Received: threads=61 afterwards"):
        open_model(models / "run", threads=61)


def test_a_failure_in_a_call_is_an_input_error_of_one_line(models, monkeypatch):
    image = images()[0]

    def fail(*arguments, **options):
        raise RuntimeError("out of memory\n\tat node 7")

    predictor = open_model(models / "run/model.onnx")
    predictor._graph = type("Graph", (), {"run": fail})()
    with pytest.raises(InputError, match=r"^expected .*model\.onnx to run on .* Received: out of memory$"):
        predictor(image)
    for kind, place in (("run", "model"), ("run/saved_model", "_run"), ("run/model.tflite", "_run")):
        predictor = open_model(models / kind)
        broken = type("Model", (), {"predict_on_batch": fail})() if place == "model" else fail
        monkeypatch.setattr(predictor, place, broken)
        with pytest.raises(InputError, match=r"^expected .* to run on an input of shape .* Received: out of memory$"):
            predictor(image)


def test_a_stepwise_export_is_a_model_like_any_other(models):
    from export import onnx

    out = models / "run/model_stepwise"
    onnx.main([str(models / "run"), "--no-verify", "--layout", "stepwise"])
    assert find_model(out) == ("onnx", out)
    ours, theirs = (open_model(path)(images()[0]) for path in (out, models / "run"))
    assert [instance.step for instance in ours] == [instance.step for instance in theirs]


def test_what_cannot_be_opened_is_named(models, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no model")
    for name in ("text.keras", "text.onnx", "text.tflite"):
        (tmp_path / name).write_text("no model")
    shutil.copy(models / "run/model.tflite", tmp_path / "alone.tflite")
    (tmp_path / "text.tflite.json").write_text((models / "run/model.tflite.json").read_text())
    (tmp_path / "half.tflite").touch()
    (tmp_path / "half.tflite.json").write_text(json.dumps({"input": {"shape": [1, 8, 8, 3], "dtype": "uint8"}}))
    shutil.copytree(models / "run/saved_model", tmp_path / "saved")
    shutil.copy(models / "run/saved_model.json", tmp_path / "saved.json")
    (tmp_path / "saved/saved_model.pb").write_bytes(b"no graph")
    shutil.copytree(checkpoint[1], tmp_path / "checkpoint")
    (tmp_path / "checkpoint/decoder.pt").unlink()
    for name, said in {
        "empty": "Received: .*empty$",
        "missing": "missing, which is not there$",
        "notes.txt": "Received: .*notes.txt$",
        "text.keras": "Received: .*text.keras",
        "text.onnx": "Received: .*text.onnx",
        "text.tflite": "Received: .*text.tflite",
        "alone.tflite": r"Received: .*alone\.tflite\.json \(No such file",
        "half.tflite": "Received: .*half.tflite.json .*class_names",
        "saved": "Received: .*saved",
        "checkpoint": "Received: .*decoder.pt, which is not there",
    }.items():
        with pytest.raises(InputError, match=said) as caught:
            open_model(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"expected a \.keras file"):
        load_model(models / "run/model.onnx")
