"""Full and read-only disks: one line, an exit code, nothing half written; outputs are tried before the work."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from evaluation_fakes import ListDataset, Oracle, make_instance
from failing_disk import FailingDisk, fail_each
from PIL import Image

from rsis_tf import outputs
from rsis_tf.cli import ablation, evaluate, leaves, order, report, voc
from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from rsis_tf.config.json_file import to_json
from rsis_tf.data.readers.voc import CLASS_NAMES
from rsis_tf.data.sample import Sample
from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.cityscapes_files import ResultFiles
from rsis_tf.evaluation.overlays import OverlayFiles
from rsis_tf.runtime import Instance

NAMES = ("background", "leaf", "stone")


def _sample(name: str = "plant01", size: int = 24) -> Sample:
    label_map = np.zeros((size, size), np.int32)
    label_map[2:9, 2:9], label_map[12:20, 10:20] = 1, 2
    image = np.full((size, size, 3), 90, np.uint8)
    return Sample(image=image, label_map=label_map, classes=np.array([1, 2]), image_id=name)


def _found(sample: Sample, count: int = len(NAMES)) -> list[Instance]:
    return [make_instance(sample.label_map == i + 1, 1 + i, 0.9, step=i, num_classes=count) for i in range(2)]


@pytest.fixture
def plants(monkeypatch):
    """The evaluation commands read two images and find what is in them."""
    dataset = ListDataset([_sample("plant01"), _sample("plant02")], NAMES)
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda arguments: dataset)
    monkeypatch.setattr(
        "rsis_tf.cli.evaluation_options.open_following", lambda arguments, protocol: Oracle(dataset, _found)
    )
    monkeypatch.setattr("rsis_tf.cli.evaluate._thresholds", lambda predictor, protocol: {})


def _command(main, *arguments):
    """Returns a function that runs a command and returns its exit code."""

    def run() -> int:
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def _emptied(folder):
    """Returns a function that makes an empty folder of it."""

    def empty() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    return empty


def test_every_write_of_an_evaluation_may_fail(plants, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "results"
    options = ["--dataset", "shapes", "--no-check", "--out", folder / "scores.json"]
    options += ["--coco-results", folder / "coco.json", "--leaves-submission", folder / "leaves"]
    options += ["--overlays", folder / "overlays", "--overlays-count", "1"]
    clean = _emptied(folder)
    disk = FailingDisk(monkeypatch, folder)
    command = _command(evaluate.main, "model", *options)
    assert fail_each(disk, folder, command, capsys, before=clean) > 15


def test_every_write_of_a_study_may_fail(plants, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "results"
    clean = _emptied(folder)
    disk = FailingDisk(monkeypatch, folder)
    command = _command(order.main, "model", "--no-check", "--out", folder / "order")
    assert fail_each(disk, folder, command, capsys, before=clean) > 6
    command = _command(leaves.main, "model", "--no-check", "--out", folder / "leaves")
    assert fail_each(disk, folder, command, capsys, before=clean) > 6


def test_every_write_of_the_voc_scores_may_fail(tmp_path, monkeypatch, capsys):
    dataset = ListDataset([_sample()], CLASS_NAMES)
    predictor = Oracle(dataset, lambda sample: _found(sample, len(CLASS_NAMES)))
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda arguments: dataset)
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_following", lambda arguments, protocol: predictor)
    folder = tmp_path / "results"
    disk = FailingDisk(monkeypatch, folder)
    command = _command(voc.main, "model", "--no-check", "--out", folder / "voc")
    assert fail_each(disk, folder, command, capsys, before=_emptied(folder)) > 6


def _run_folder(folder, **scores):
    folder.mkdir()
    config = RunConfig(model=ModelConfig(), data=DataConfig(dataset="shapes"), train=TrainConfig())
    (folder / "config.json").write_text(to_json(config))
    (folder / "metrics.json").write_text(json.dumps({"ap": 0.4, "ap50": 0.5} | scores))
    return folder


def test_every_write_of_a_report_and_an_ablation_may_fail(tmp_path, monkeypatch, capsys):
    run, folder = _run_folder(tmp_path / "run"), tmp_path / "results"
    disk = FailingDisk(monkeypatch, folder)
    for main, name in ((report.main, "report.html"), (ablation.main, "rows.json")):
        command = _command(main, run, "--out", folder / name)
        assert fail_each(disk, folder, command, capsys, before=_emptied(folder)) == 3
    disk = FailingDisk(monkeypatch, run)
    assert fail_each(disk, run, _command(report.main, run), capsys) == 3
    assert (run / "report.html").is_file()  # that of the first call, which succeeded


def test_an_earlier_file_stays_when_the_disk_is_full(plants, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "scores.json").write_text("earlier")
    disk = FailingDisk(monkeypatch, folder)
    command = _command(evaluate.main, "model", "--dataset", "shapes", "--no-check", "--out", folder / "scores.json")
    for number in range(3):
        disk.fail_at(number)
        assert command() == 2
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("scores.json", "earlier")]


def _write_cityscapes(folder):
    sink = ResultFiles(folder, ("background", "person", "car"), every_class=False)
    sink(_sample("city_000001_000002"), _found(_sample()))


def test_cityscapes_files_are_whole(tmp_path, monkeypatch):
    for number in range(1, 9):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            disk = FailingDisk(patch, folder)
            disk.fail_at(number)
            with pytest.raises((OSError, InputError)):
                _write_cityscapes(folder)
        assert not [path for path in folder.rglob("*") if ".partial" in path.name]


@pytest.fixture
def no_work(monkeypatch):
    """Fails the test when a command begins to work."""

    def begin(*arguments, **options):
        raise AssertionError("the work has begun")

    for name in ("open_data", "open_following"):
        monkeypatch.setattr(f"rsis_tf.cli.evaluation_options.{name}", begin)
    monkeypatch.setattr("rsis_tf.evaluation.studies.ablation.read_runs", begin)
    monkeypatch.setattr("rsis_tf.evaluation.report.report", begin)
    monkeypatch.setattr("rsis_tf.evaluation.benchmarks.leaves_submission.score_folders", begin)


FILES = [
    (evaluate.main, ["model", "--dataset", "shapes", "--out"], "--out"),
    (evaluate.main, ["model", "--dataset", "shapes", "--coco-results"], "--coco-results"),
    (ablation.main, ["run", "--out"], "--out"),
    (report.main, ["run", "--out"], "--out"),
    (leaves.main, ["--score", "a", "b", "--csv"], "--csv"),
]
FOLDERS = [
    (evaluate.main, ["model", "--dataset", "shapes", "--overlays"], "--overlays"),
    (evaluate.main, ["model", "--dataset", "shapes", "--leaves-submission"], "--leaves-submission"),
    (evaluate.main, ["model", "--dataset", "shapes", "--cityscapes-results"], "--cityscapes-results"),
    (voc.main, ["model", "--out"], "--out"),
    (order.main, ["model", "--out"], "--out"),
    (leaves.main, ["model", "--out"], "--out"),
]


@pytest.mark.parametrize(("main", "arguments", "option"), [*FILES, *FOLDERS])
def test_outputs_are_tried_before_the_work(no_work, tmp_path, monkeypatch, capsys, main, arguments, option):
    is_file = (main, arguments, option) in FILES
    (tmp_path / "file").write_text("earlier")
    (tmp_path / "folder").mkdir()
    wrong = [
        ("folder", "which is a folder"),
        ("nowhere/x.json", "in an existing folder"),
        ("file/x", "existing folder"),
    ]
    if not is_file:
        wrong = [("file", "which is a file"), ("file/x", f"inside the file {tmp_path / 'file'}")]
    before = sorted(tmp_path.rglob("*"))
    for name, message in wrong:
        assert _command(main, *arguments, tmp_path / name)() == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: expected {option} to be ")
        assert message in error
    long = "x" * 300
    assert _command(main, *arguments, tmp_path / long)() == 2
    assert "File name too long" in capsys.readouterr().err
    for code in (errno.EROFS, errno.ENOSPC, errno.EACCES):

        def refuse(*args, code=code, **options):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
        assert _command(main, *arguments, tmp_path / "new")() == 2
        assert f"new ({os.strerror(code)})\n" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trial_leaves_nothing(tmp_path):
    assert outputs.check_file(tmp_path / "a.json") == tmp_path / "a.json"
    assert outputs.check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert os.listdir(tmp_path) == []
    assert outputs.make_folder(tmp_path / "a" / "b").is_dir()
    Image.new("L", (1, 1)).save(tmp_path / "a" / "old.png")
    outputs.check_file(tmp_path / "a" / "old.png")
    assert (tmp_path / "a" / "old.png").stat().st_size > 0


def test_two_images_of_one_cityscapes_frame_are_refused(tmp_path):
    sink = ResultFiles(tmp_path, ("background", "person", "car"), every_class=False)
    sink(_sample("city_000001_000002_left"), _found(_sample()))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"one image of each .* Received: 'city_000001_000002_left' and 'b/city_"):
        sink(_sample("b/city_000001_000002_right"), _found(_sample()))
    assert sorted(tmp_path.rglob("*")) == before


def test_overlays_of_long_names_are_cut(tmp_path):
    draw = OverlayFiles(tmp_path, count=2)
    for end in ("1", "2"):
        draw(_sample("é" * 120 + end), _found(_sample()))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4
    assert all(len(name.encode()) < 200 for name in names)
