"""Exporters and the benchmark on full and read-only disks; their outputs are tried before the work."""

import errno
import importlib
import os
import pathlib

import pytest
import tensorflow as tf
from failing_disk import FailingDisk, fail_each

from export import benchmark, saved_model
from export.benchmarking import table
from export.formats import FORMATS
from export.graph import GraphSpec
from export.options import Options
from export.publish import publish, run_command
from rsis_tf import outputs
from rsis_tf.errors import command_line
from rsis_tf.inference import load_model


def _code(call) -> int:
    try:
        call()
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_every_write_of_an_export_may_fail(run_folder, tmp_path, monkeypatch, capsys, is_folder, earlier):
    folder = tmp_path / "exports"
    folder.mkdir()
    model, out = load_model(run_folder), folder / "model"
    options = Options(source=run_folder, out=out, verify=False, stop_threshold=0.5)

    def write(path: pathlib.Path) -> None:
        if is_folder:
            path.mkdir()
        (path / "step.onnx" if is_folder else path).write_bytes(b"graph")

    def export() -> pathlib.Path:
        spec = GraphSpec(size=(48, 64), batch=None, steps=1)
        return publish(model, spec, options, described={}, write=write, open_run=lambda path: None)

    def before() -> None:
        for path in list(folder.rglob("*"))[::-1]:
            path.rmdir() if path.is_dir() else path.unlink()
        if earlier:
            export()
        capsys.readouterr()

    disk = FailingDisk(monkeypatch, folder)
    assert fail_each(disk, folder, lambda: _code(lambda: run_command(export)), capsys, before=before) >= 6
    if earlier:
        assert {path.name for path in folder.iterdir()} == {"model", "model.json"}


def test_the_words_of_tensorflow_for_a_full_disk_are_understood(run_folder, tmp_path, monkeypatch, capsys):
    def save(module, path, signatures):
        pathlib.Path(path).mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, f"{path}/variables; No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save)
    out = tmp_path / "saved"
    assert _code(lambda: saved_model.main([str(run_folder), "--out", str(out), "--steps", "1", "--no-verify"])) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "No space left on device" in line
    assert os.listdir(tmp_path) == []


def test_every_write_of_a_benchmark_may_fail(tmp_path, monkeypatch, capsys):
    rows = [{"file": "a.onnx", "provider": "cpu", "batch": 1, "median_ms": 2.0, "p95_ms": 3.0}]

    def write() -> None:
        with command_line():
            table.write(rows, {"cpu": "a processor"}, folder / "result")

    folder = tmp_path / "results"
    folder.mkdir()
    disk = FailingDisk(monkeypatch, folder)
    assert fail_each(disk, folder, lambda: _code(write), capsys) >= 9
    assert {path.suffix for path in folder.iterdir()} == set(table.SUFFIXES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_place_of_an_export_is_tried_before_the_work(run_folder, tmp_path, monkeypatch, capsys, name):
    module = importlib.import_module(FORMATS[name].module)
    monkeypatch.setattr(module, f"export_{name}", lambda *args, **options: pytest.fail("the work has begun"))
    (tmp_path / "folder" / "other").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "side.json").mkdir()
    for place, message in (
        ("nowhere/x", "to be in an existing folder"),
        ("file/x", "to be in an existing folder"),
        ("folder", "which is a folder" if FORMATS[name].folder_with is None else "expected --out to be a new folder"),
        ("side", "side.json, which is a folder"),
        ("x" * 300, "File name too long"),
    ):
        assert _code(lambda place=place: module.main([str(run_folder), "--out", str(tmp_path / place)])) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: expected --out ")
        assert message in error
    _refuse_everything(monkeypatch)
    assert _code(lambda: module.main([str(run_folder), "--out", str(tmp_path / "new")])) == 2
    assert capsys.readouterr().err.endswith("new (Read-only file system)\n")


def test_the_places_of_a_benchmark_are_tried_before_the_work(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "benchmark", lambda *args, **options: pytest.fail("the work has begun"))
    call = ["benchmark", str(run_folder), "--out", str(tmp_path / "result")]
    (tmp_path / "result.png").mkdir()
    assert _code(lambda: benchmark.main(call[1:])) == 2
    assert "result.png, which is a folder" in capsys.readouterr().err
    _refuse_everything(monkeypatch)
    assert _code(lambda: benchmark.main(call[1:])) == 2
    assert "Read-only file system" in capsys.readouterr().err


def _refuse_everything(monkeypatch) -> None:
    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
