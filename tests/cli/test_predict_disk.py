"""`rsis predict` on full and read-only disks: one line, exit code 2, nothing half-written, a list of what is there."""

import json
import shutil
import subprocess

import pytest
from failing_disk import FailingDisk, fail_each, small_disk
from PIL import Image
from predict_tools import Thresholds, draw, files_in
from test_predict_bad_paths import clip

from rsis_tf.batch_prediction.manifest import Manifest
from rsis_tf.cli import predict


def command(*arguments):
    """Runs the command and returns its exit code."""
    try:
        predict.main(["model.onnx", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture
def photos(monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "open_model", Thresholds)
    draw(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def check_contents(out):
    """Every file but the list is in the list, and whole."""
    if not (out / "results.txt").exists():
        assert files_in(out) == []
        return
    listed = {path.relative_to(out).as_posix() for path in Manifest(out).read()}
    found = set(files_in(out)) - {"results.txt"}
    assert found <= listed
    for name in found:
        if name.endswith(("png", "gif")):
            with Image.open(out / name) as image:
                image.load()
    if "instances.json" in found:
        assert len(json.loads((out / "instances.json").read_text())["images"]) == 2
    if "counts.csv" in found:
        assert len((out / "counts.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("what", ["labels,json,counts", pytest.param("all", marks=pytest.mark.slow)])
def test_every_write_may_fail(photos, tmp_path, monkeypatch, capsys, what):
    clip(photos / "clip.mp4", frames=1)
    out = tmp_path / "found"
    disk = FailingDisk(monkeypatch, out)
    finished = []

    def after(number):
        check_contents(out)
        finished.append(len(files_in(out)))

    def before():
        shutil.rmtree(out, ignore_errors=True)

    arguments = photos, "--out", out, "--what", what
    assert fail_each(disk, out, lambda: command(*arguments), capsys, before=before, after=after) > 12
    disk.fail_at(None)
    before()
    disk.fail_at(None)
    assert command(*arguments) == 0
    files = {entry.partition(" ")[2].rpartition("/")[2] for entry in disk.done if entry.startswith("replace")}
    assert {"counts.csv", "instances.json", "a_labels.png", "000000_labels.png"} <= files
    assert what != "all" or {"a_overlay.png", "a_strip.png", "a_sequence.gif"} < files
    # The later the failure, the more is finished.
    assert (finished[0], finished[-1]) == (0, len(files_in(out)) - 1)
    assert finished == sorted(finished)
    disk.fail_at(len(disk.done) // 2)
    assert command(*arguments, "--overwrite") == 2
    disk.fail_at(None)
    assert command(*arguments, "--overwrite") == 0
    check_contents(out)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 20, 40, 60])
def test_a_real_full_disk(photos, tmp_path, capsys, kilobytes):
    for number in range(12):
        draw(photos / f"{number}.png", size=(64, 64))
    with small_disk(tmp_path / "disk", f"{kilobytes}k") as disk:
        out = disk / "found"
        assert command(photos, "--out", out, "--what", "all") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: expected ")
        assert "No space left on device" in line
        assert str(disk) in line
        assert [path for path in disk.rglob("*") if ".partial" in path.name] == []
        check_contents(out)
        assert not (out / "counts.csv").exists()


def test_a_real_read_only_disk(photos, tmp_path, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", "4m") as disk:
        assert command(photos, "--out", disk / "found") == 0
        before = files_in(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        capsys.readouterr()
        monkeypatch.setattr(predict, "open_model", lambda *a, **o: pytest.fail("the model was opened"))
        for options in ([disk / "found", "--overwrite"], [disk / "new"]):
            assert command(photos, "--out", *options) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert (
                line == f"error: expected --out to be a folder that can be written to. Received: {options[0]} "
                "(Read-only file system)"
            )
        assert files_in(disk) == before


def test_what_a_killed_run_left_half_written_is_removed_with_its_results(photos, tmp_path):
    draw(photos / "b.png")
    out = tmp_path / "out"
    assert command(photos, "--what", "json,labels", "--out", out) == 0
    (out / "instances.json").rename(out / ".instances.123-456.partial.json")  # as a kill would leave it
    (out / "a_labels.png").rename(out / ".a_labels.123-456.partial.png")
    (out / ".mine.123-456.partial.json").touch()
    assert command(photos, "--what", "json", "--out", out, "--overwrite") == 0
    assert files_in(out) == [".mine.123-456.partial.json", "instances.json", "results.txt"]


def test_a_line_that_was_cut_names_no_file(photos, tmp_path):
    out = tmp_path / "found"
    assert command(photos, "--out", out) == 0
    (out / "a").write_text("the user's own")
    with (out / "results.txt").open("a") as file:
        file.write("a")  # of a_overlay.png
    assert command(photos, "--out", out, "--overwrite") == 0
    assert (out / "a").read_text() == "the user's own"
    (out / "results.txt").write_text("")  # a run that was killed when it began
    shutil.rmtree(out)
    out.mkdir()
    (out / "results.txt").write_text("")
    assert command(photos, "--out", out) == 0
