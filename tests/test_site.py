"""The documentation site: links in both places, the checks of the pages, and the build."""

import pathlib
import subprocess
import sys

import documents
import pytest

sys.path.insert(0, str(documents.ROOT / "docs"))

import make_site


@pytest.mark.parametrize(
    ("source", "link", "on_the_site"),
    [
        ("docs/api/index.md", "[a](../../CHANGELOG.md)", "[a](../changelog.md)"),
        ("docs/index.md", "[a](../README.md#data)", "[a](overview.md#data)"),
        ("docs/index.md", "[a](models.md#x), [b](#c), [d](https://example.org/e.md)", None),
        ("README.md", "![a](docs/leaves.png) [b](docs/models.md)", "![a](leaves.png) [b](models.md)"),
        ("README.md", "[CITATION.cff](CITATION.cff)", "CITATION.cff"),
        ("examples/README.md", "[a](../docs/models.md)", "[a](models.md)"),
        ("README.md", "[a](docs/absent.py)", None),
        ("README.md", "```python\na[b](c.md)\n```", None),
    ],
)
def test_links_between_files_become_links_between_pages(source, link, on_the_site):
    assert make_site.with_links_of_pages(link, source) == (on_the_site or link)


def test_each_page_is_in_the_navigation():
    pages = [page for _, page, _ in make_site.read_pages()]
    assert list(make_site.outside_of_navigation(pages)) == []
    assert len(list(make_site.outside_of_navigation([*pages, "new.md"]))) == 1


def test_broken_links_images_and_anchors_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="sub/b.html#c">1</a><a href="#top">2</a><a href="https://example.org">3</a>'
        '<a href="gone.html">4</a><a href="sub/b.html#gone">5</a><img src="gone.png"><a href="#gone">6</a>',
        encoding="utf-8",
    )
    (tmp_path / "sub/b.html").write_text(
        '<p id="c"><a href="../index.html#top"></a><a href="../x"></a>', encoding="utf-8"
    )
    received = [problem.rpartition("Received: ")[2] for problem in make_site.broken_links(tmp_path)]
    assert received == ["gone.html", "sub/b.html#gone", "gone.png", "#gone", "../x"]


MODULE = '''
"""Documented."""


def documented():
    """Does."""


def bare(): ...


class Base:
    """Documented."""

    def inherited(self):
        """Does."""


class Derived(Base):
    """Documented."""

    def inherited(self): ...

    def own(self): ...

    @property
    def value(self): ...

    def _private(self): ...
'''


def test_objects_without_a_docstring_are_found(tmp_path, monkeypatch):
    pytest.importorskip("griffe")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/__init__.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(make_site, "ROOT", pathlib.Path(tmp_path))
    page = "::: toy.documented\n\n::: toy.bare\n\n::: toy.Derived\n"
    received = [problem.rpartition("none for ")[2] for problem in make_site.undocumented({"api.md": page})]
    assert received == ["toy.bare", "toy.Derived.own", "toy.Derived.value"]


def test_the_site_builds_without_a_problem():
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "docs/make_site.py"], cwd=documents.ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "open_model" in (documents.ROOT / "build/site/api/models.html").read_text(encoding="utf-8")
