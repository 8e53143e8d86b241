"""Files that are whole or not there, and names from outside."""

import errno
import json
import os

import pytest

from rsis_tf.errors import InputError
from rsis_tf.files import (
    WriteError,
    inside,
    is_file,
    remove_leftovers,
    replacing,
    safe_name,
    write_bytes,
    write_json,
    write_text,
)

OUTSIDE = (
    "",
    ".",
    "..",
    "../x",
    "../../x",
    "/x",
    "a/../../x",
    "a//x",
    "\\x",
    "..\\x",
    "C:\\x",
    "C:x",
    "x\0",
    "\ud800",
    "x" * 300,
)


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


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected the name of a file inside") as caught:
        inside(tmp_path, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["plant007_label.png", "ulm/ulm_000001_000019.png", "..x", "猫", "a b", "-"])
def test_names_inside_stay_as_they_are(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


def test_a_link_to_another_folder_is_outside(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path)
    (tmp_path / "results" / "circle").symlink_to("circle")
    for name in ("link/x", "circle/x"):
        with pytest.raises(InputError):
            inside(tmp_path / "results", name)
    # A folder may itself be reached through a link.
    (tmp_path / "short").symlink_to(tmp_path / "results")
    assert inside(tmp_path / "short", "x") == tmp_path / "short" / "x"


def test_any_text_gives_a_name_that_can_be_written(tmp_path):
    texts = (*OUTSIDE, "plant007", "a b", "a/b", "a_b", "ü" * 200, ".hidden", "two\nlines", "\x1b[31m", "\udcff")
    names = [safe_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert inside(tmp_path, name) == tmp_path / name
        assert len(name.encode("utf-8")) <= 150
        write_text(tmp_path / f"{name}.txt", "")
    assert len(os.listdir(tmp_path)) == len(texts)
    assert (safe_name("plant007"), safe_name("a b")) == ("plant007", "a b")


def test_a_name_that_no_file_can_have_is_no_file(tmp_path):
    write_text(tmp_path / "a", "")
    assert is_file(tmp_path / "a")
    for name in ("b", "x" * 300, "x\0", "\ud800"):
        assert not is_file(tmp_path / name)


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

    with pytest.raises(WriteError, match=r"Received: .*a\.json \(No space left on device\)"):
        fill(tmp_path / "a.json")
