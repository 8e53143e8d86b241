"""Files that are whole or not there."""

import errno
import json
import os

import pytest

from rsis_tf.files import remove_leftovers, replacing, write_bytes, write_json, write_text


def test_written_whole(tmp_path):
    write_text(tmp_path / "a.txt", "Größe\n", flush=True)
    write_json(tmp_path / "b.json", {"name": "猫"})
    write_bytes(tmp_path / "c", b"\0")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == {"name": "猫"}
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.json", "c"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_the_old_one(tmp_path, folder):
    path = tmp_path / "old.x"
    with replacing(path) as partial:
        assert partial.suffix == ".x"
        partial.mkdir() if folder else partial.write_text("old")

    def fail():
        with replacing(path) as partial:
            partial.mkdir() if folder else partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == ["old.x"]
    assert folder or path.read_text() == "old"


def test_a_folder_replaces_a_folder(tmp_path):
    for number in (1, 2):
        with replacing(tmp_path / "run") as partial:
            partial.mkdir()
            (partial / f"{number}.txt").write_text("")
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(tmp_path / "run") == ["2.txt"]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    (tmp_path / ".best.7-8.partial.keras").write_text("half")
    (tmp_path / ".folder.7-8.partial").mkdir()
    (tmp_path / "best.keras").write_text("whole")
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["best.keras"]


def test_the_old_folder_stays_if_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    real, path = os.replace, tmp_path / "run"
    path.mkdir()
    (path / "old.txt").touch()

    def fail_once(source, target):
        if str(target) == str(path) and not str(source).endswith(".old"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="Read-only"), replacing(path) as partial:
        partial.mkdir()
    assert os.listdir(tmp_path) == ["run"]
    assert os.listdir(path) == ["old.txt"]


def test_a_full_disk_is_reported_with_the_name(tmp_path):
    def fill(path):
        with replacing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        fill(tmp_path / "a.json")
    assert caught.value.filename == str(tmp_path / "a.json")
