"""Builds the documentation site: `python docs/make_site.py`, after `pip install -e ".[docs]"`. Needs no TensorFlow.

The pages are the Markdown files of docs/ and those of `PAGES`. All of them are also read on the repository's web page,
so their links lead to files; in the copy that the site is built from (build/pages) they lead to pages. An error is a
link or an anchor that does not exist, a page outside of the navigation, an object of the API pages without a docstring,
and a docstring that does not fit its function. The exit code is then 1.
"""

import html.parser
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = ROOT / "docs/zensical.toml"
BUILD = ROOT / "build"
PAGES = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
"""File of the repository outside of docs/ → its page on the site."""
COPIED = {".md", ".png", ".svg", ".gif"}
"""Suffixes of the files of docs/ that belong to the site."""
REFERENCE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
"""An object of the API pages."""
LINK = re.compile(r"(?P<mark>!?)\[(?P<label>[^][]*)\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
KERAS_METHODS = {"call", "build", "get_config", "from_config", "get_compile_config", "compute_loss"}
"""Methods of Keras that a class may override without a docstring of its own."""


def main() -> int:
    """Builds the site; returns the exit code."""
    pages = {page: with_links_of_pages(text, source) for source, page, text in read_pages()}
    problems = [*outside_of_navigation(pages), *undocumented(pages)]
    write_pages(BUILD / "pages", pages)
    settings = shutil.copy(SETTINGS, BUILD)  # the generator keeps within the folder of its settings
    # A clean build: the generator's cache does not know of changed docstrings.
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", settings]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    screen = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    # The generator reports docstrings that do not fit, but --strict does not make errors of them.
    problems += [line for line in screen.splitlines() if line.startswith("griffe: ")]
    if done.returncode:
        print(screen, file=sys.stderr)
    else:
        problems += broken_links(BUILD / "site")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if done.returncode or problems:
        return 1
    print(f"{len(pages)} pages: {(BUILD / 'site/index.html').relative_to(ROOT)}")
    return 0


def read_pages() -> Iterator[tuple[str, str, str]]:
    """Yields (path in the repository, path of the page, text) of every page."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        yield path.relative_to(ROOT).as_posix(), path.relative_to(ROOT / "docs").as_posix(), path.read_text("utf-8")
    for source, page in PAGES.items():
        yield source, page, (ROOT / source).read_text("utf-8")


def write_pages(folder: pathlib.Path, pages: dict[str, str]) -> None:
    """Replaces the folder that the generator reads."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.suffix in COPIED - {".md"}:
            target = folder / path.relative_to(ROOT / "docs")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for page, text in pages.items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def with_links_of_pages(markdown: str, source: str) -> str:
    """Returns the text of a file of the repository with links between pages of the site.

    A link to a file that is not part of the site, such as a module, becomes its text. Blocks of code stay as they are.

    Args:
        markdown: the text.
        source: path of the file in the repository.
    """
    folder = posixpath.dirname(PAGES.get(source, source.removeprefix("docs/"))) or "."

    def replaced(match: re.Match[str]) -> str:
        file, hash_sign, anchor = match["target"].partition("#")
        if not file or re.match(r"\w+:", file):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        if path in PAGES:
            page = PAGES[path]
        elif path.startswith("docs/") and posixpath.splitext(path)[1] in COPIED:
            page = path.removeprefix("docs/")
        else:
            return match["label"] if (ROOT / path).exists() else match[0]
        return f"{match['mark']}[{match['label']}]({posixpath.relpath(page, folder)}{hash_sign}{anchor})"

    parts = FENCED.split(markdown)  # every second one is a block of code
    return "".join(part if number % 2 else LINK.sub(replaced, part) for number, part in enumerate(parts))


class _Page(html.parser.HTMLParser):
    """Anchors of a page, and where its links and images lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


def broken_links(site: pathlib.Path) -> Iterator[str]:
    """Yields a problem for each link or image of the built site that leads nowhere.

    The generator checks links of Markdown. It does not check images, nor links of docstrings.
    """
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        for target in page.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc or target == ".":
                continue
            place = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            place = place / "index.html" if place.is_dir() else place
            anchor = urllib.parse.unquote(url.fragment)
            known = not anchor or place not in pages or anchor in pages[place].anchors
            if not place.is_file() or not known:
                yield f"{path.relative_to(site).as_posix()}: expected a link that leads somewhere. Received: {target}"


def outside_of_navigation(pages: Iterable[str]) -> Iterator[str]:
    """Yields a problem for each page that the navigation does not have."""
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    listed = set(_leaves(settings["project"]["nav"]))
    for page in sorted(set(pages) - listed):
        yield f"expected all pages in `nav` of docs/{SETTINGS.name}. Received: none for {page}"


def _leaves(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for value in entry.values() if isinstance(entry, dict) else entry:
            yield from _leaves(value)


def undocumented(pages: dict[str, str]) -> Iterator[str]:
    """Yields a problem for each object of the API pages, or public member of one, that has no docstring."""
    import griffe  # only the extra `docs` installs it

    packages: dict[str, Any] = {}
    for page, text in sorted(pages.items()):
        for name in REFERENCE.findall(text):
            package, _, rest = name.partition(".")
            if package not in packages:
                packages[package] = griffe.load(package, search_paths=[ROOT])
            found = packages[package][rest]
            for path in _undocumented(found.final_target if found.is_alias else found):
                yield f"{page}: expected a docstring. Received: none for {path}"


def _undocumented(found: Any) -> Iterator[str]:
    if not found.has_docstring and not _overrides(found):
        yield found.path
    if found.is_class:
        for name, member in found.members.items():
            method = member.is_function or "property" in member.labels
            if method and not name.startswith("_"):
                yield from _undocumented(member)


def _overrides(found: Any) -> bool:
    """Tells whether a method overrides one that has a docstring: of a class of the package, or of Keras."""
    owner = found.parent
    if not owner.is_class:
        return False
    above = owner.mro()
    of_keras = any(str(base).startswith("keras.") for each in [owner, *above] for base in each.bases)
    if of_keras and found.name in KERAS_METHODS:
        return True
    return any(found.name in each.members and each.members[found.name].has_docstring for each in above)


if __name__ == "__main__":
    sys.exit(main())
