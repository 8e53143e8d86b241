"""Names from outside, and lists of results: any text stays inside its folder."""

import os
import pathlib
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import check_message, folder

from rsis_tf.batch_prediction.manifest import Manifest
from rsis_tf.batch_prediction.sources import find_sources
from rsis_tf.files import inside, safe_name
from rsis_tf.runtime import InputError, printable

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.sampled_from("a./\\:~\0 -\u202e\udcff"), max_size=8),
    st.text(min_size=140, max_size=260),
    st.text(st.characters(codec="utf-8", min_codepoint=0x1000), min_size=60, max_size=90),
)


@given(st.lists(_TEXTS, min_size=1, max_size=6, unique=True), st.integers(20, 200))
@example(["a/b", safe_name("a/b")], 150)  # a text that is the name of another one
def test_safe_names_are_different_names_of_files_in_the_folder(texts: list[str], limit: int) -> None:
    names = [safe_name(text, limit=limit) for text in texts]
    assert len(set(names)) == len(texts)
    with folder() as place:
        for name in set(names):
            assert printable(name) == name
            assert 0 < len(name.encode("utf-8")) <= limit
            path = inside(place, name)
            assert path == place / name
            assert path.parent == place
            path.write_bytes(b"")
        assert sorted(os.listdir(place)) == sorted(names)


@given(st.one_of(_TEXTS, st.lists(st.sampled_from(["a", "..", ".", "", "b c", "C:", "/"]), max_size=4).map("/".join)))
@example("\\".join(["a" * 150] * 2))  # one part of 301 bytes, except on Windows
def test_a_path_leads_inside_or_is_refused(name: str) -> None:
    with folder() as place:
        try:
            path = inside(place / "results", name)
        except InputError as error:
            check_message(error)
            return
        root = os.path.join(os.path.realpath(place / "results"), "")
        assert os.path.realpath(path).startswith(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        assert [p for p in place.rglob("*") if p.is_file()] == [path]


_PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda part: part not in (".", "..")
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file system that allows any character in names")
@given(st.lists(st.lists(_PARTS, min_size=1, max_size=3).map("/".join), unique=True, max_size=6))
@example(["a\nb", "c\\n", "\r", "\\"])
def test_a_list_of_results_gives_the_same_paths_back(names: list[str]) -> None:
    with folder() as place:
        manifest = Manifest(place)
        manifest.start(overwrite=False)
        manifest.add(place / name for name in names)
        manifest.close()
        assert [str(path) for path in Manifest(place).read()] == [str(place / name) for name in names]


_STEMS = st.one_of(st.sampled_from(["a", "A", "b", "a.b", "..", ".a"]), _PARTS.map(lambda part: part[:8]))
_FILES = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
    st.lists(st.sampled_from(["x", "y", "a.png"]), max_size=2),
    _STEMS,
    st.sampled_from([".png", ".jpg", ".PNG", ".mp4", ".txt", ""]),
).filter(lambda name: pathlib.PurePath(name).name not in ("", ".."))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file system that allows any character in names")
@given(st.lists(_FILES, min_size=1, max_size=6, unique=True))
def test_results_of_different_files_have_different_names_inside_the_folder(names: list[str]) -> None:
    with folder() as place:
        written = set()
        for name in names:
            path = place / "in" / name
            if not any(parent in written for parent in path.parents) and not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
                written.add(path)
        sources = [s for s in find_sources([place / "in"], out=place / "out") if not s.problem]
        listed = {s.path for s in sources}
        hidden = {p for p in written if any(part.startswith(".") for part in p.relative_to(place / "in").parts)}
        wanted = {p for p in written - hidden if p.suffix.lower() in (".png", ".jpg", ".mp4")}
        assert listed == wanted
        assert len({source.name for source in sources}) == len(sources)
        for source in sources:
            path = pathlib.Path(os.path.normpath(place / "out" / f"{source.name}_labels.png"))
            assert place / "out" in path.parents
