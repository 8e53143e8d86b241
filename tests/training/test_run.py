"""`rsis_tf.run.train`: a whole run in one call."""

import contextlib
import json

import pytest
from tiny import SCENES, VOTING, log_rows, tiny_model

from rsis_tf import run
from rsis_tf.config import RunConfig, json_file
from rsis_tf.config.presets import custom, cvppp, nuclei, paper_shapes, shapes
from rsis_tf.data import Subset
from rsis_tf.errors import InputError
from rsis_tf.run_folder import new_folder

DATASETS = {"train": SCENES, "val": Subset(SCENES, 2)}


def tiny_settings(**changes):
    settings = {
        **{"image_size": (32, 32), "hidden_size": 16, "num_steps": 2, "max_objects": 2, "batch_size": 2, "epochs": 1},
        **{"stop_threshold": 0.25, "schedule": "constant"},
    }
    return paper_shapes().changed(**{**settings, **changes})


def test_a_run_has_a_folder_a_model_and_scores(tmp_path, eager):
    trained = run.train(tiny_settings(), out=tmp_path / "run", datasets=DATASETS)
    assert trained.folder == tmp_path / "run"
    assert trained.settings.model.class_names == SCENES.class_names
    assert json_file.load(RunConfig, tmp_path / "run/config.json") == trained.settings
    assert trained.scores.images == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["images"] == 2
    model = trained.model()
    assert model.config == trained.settings.model
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("best.keras", "last.keras", "config.json", "log.csv", "stages.json", "metrics.json", "state"),
        *("curves.png", "sequences.png", "samples"),
    }

    with pytest.raises(InputError, match=r"new or empty. Received: --out .*run"):
        run.train(trained.settings, out=tmp_path / "run", datasets=DATASETS)
    longer = run.resumed_settings(tmp_path / "run", epochs=2)
    assert longer == trained.settings.changed(epochs=2)
    again = run.train(longer, out=tmp_path / "run", resume=True, datasets=DATASETS)
    assert json_file.load(RunConfig, tmp_path / "run/config.json") == again.settings == longer
    assert [row["epoch"] for row in log_rows(tmp_path / "run")] == [1, 2]


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path):
    settings = tiny_settings(encoder="resnet34", encoder_weights=str(tmp_path / "missing.pth"))
    with pytest.raises(InputError, match=r"Received: .*missing\.pth"):
        run.train(settings, out=tmp_path / "run", datasets=DATASETS)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_too_small_for_the_encoder_are_refused_before_anything_is_written(tmp_path):
    small = tiny_settings(image_size=(16, 16), encoder="vgg16", encoder_weights="none")
    with pytest.raises(InputError, match=r"vgg16 takes sides of 32 or more pixels\. Received: --image-size 16x16"):
        run.train(small, out=tmp_path / "run", datasets=DATASETS)
    assert not (tmp_path / "run").exists()


def test_a_curriculum_without_patience_would_never_add_a_step(tmp_path):
    with pytest.raises(InputError, match=r"when patience runs out\. Received: no --patience"):
        run.train(tiny_settings(curriculum_learning=True, patience=None), out=tmp_path / "run", datasets=DATASETS)
    assert not (tmp_path / "run").exists()


def test_a_curriculum_of_few_steps_would_never_start_its_stop_loss(tmp_path):
    few = tiny_settings(curriculum_learning=True, patience=0, num_steps=3, min_steps=3)
    with pytest.raises(InputError, match=r"Received: --steps 3 with --min-steps 3$"):
        run.train(few, out=tmp_path / "run", datasets=DATASETS)
    run._require_sound(few.changed(min_steps=2))
    run._require_sound(few.changed(stop_loss_after=-1))


def test_a_run_cannot_be_resumed_with_fewer_epochs_than_it_has(tmp_path, eager):
    run.train(tiny_settings(epochs=2), out=tmp_path / "run", datasets=DATASETS)
    fewer = run.resumed_settings(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match=r"at least the 2 epochs .* Received: epochs=1"):
        run.train(fewer, out=tmp_path / "run", resume=True, datasets=DATASETS)
    assert run.resumed_settings(tmp_path / "run").train.epochs == 2


def test_a_run_to_resume_must_be_named():
    with pytest.raises(InputError, match="Received: out=None"):
        run.train(tiny_settings(), resume=True, datasets=DATASETS)


def test_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(new_folder(None, "coco")) for _ in range(3)]
        assert [str(folder) for folder in folders] == ["runs/coco", "runs/coco-2", "runs/coco-3"]
    (tmp_path / "runs/coco/file").touch()
    with pytest.raises(InputError, match=r"new or empty. Received: --out runs/coco$"), new_folder("runs/coco", "coco"):
        pass


def test_only_a_constant_rate_can_be_trained_longer(tmp_path):
    for name, settings in (("constant", cvppp()), ("cosine", nuclei())):
        (tmp_path / name).mkdir()
        json_file.write(settings, tmp_path / name / "config.json")
    assert run.resumed_settings(tmp_path / "constant", epochs=12000) == cvppp().changed(epochs=12000)
    assert run.resumed_settings(tmp_path / "cosine", epochs=nuclei().train.epochs) == nuclei()
    with pytest.raises(InputError, match="Received: epochs=12000, where the cosine schedule"):
        run.resumed_settings(tmp_path / "cosine", epochs=12000)


def test_the_dataset_decides_the_classes():
    settings = run.fitted(shapes(), SCENES)
    assert settings.model.class_names == SCENES.class_names
    assert settings == shapes().changed(class_names=SCENES.class_names).resolved()


@pytest.mark.parametrize("head", [{}, VOTING])
def test_a_transfer_takes_the_form_of_the_other_model(tmp_path, head):
    tiny_model(**head).save(tmp_path / "model.keras")
    settings = custom().changed(encoder_weights="none", transfer=str(tmp_path / "model.keras"))
    fitted = run.fitted(settings, SCENES, explicit=("encoder_weights", "transfer"))
    assert (fitted.model.encoder, fitted.model.hidden_size) == ("compact", 16)
    assert fitted.model.image_size == settings.model.image_size
    assert fitted.data.partial_sequences == (1.0 if head else 0.0)
    assert fitted.train.sequence_length == (6 if head else None)
    with pytest.raises(InputError, match=r"encoder=compact. Received: encoder=mobilenet_v2"):
        run.fitted(settings, SCENES, explicit=("encoder",))
