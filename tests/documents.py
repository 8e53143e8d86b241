"""What tests read in the Markdown files of the repository: code blocks, commands, options, paths and links."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/README.md")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced code block.

    Attributes:
        place: file and line of its first line of code.
        language: the word after the fence, such as "sh"; may be empty.
        code: its lines.
    """

    place: str
    language: str
    code: str


def documents(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    return sorted(path for pattern in DOCUMENTS for path in root.glob(pattern))


def blocks(path: pathlib.Path, root: pathlib.Path = ROOT) -> list[Block]:
    """Returns the code blocks of a document in their order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(f"{path.relative_to(root).as_posix()}:{line}", match[1], match[2]))
    return found


def commands(path: pathlib.Path, root: pathlib.Path = ROOT) -> Iterator[tuple[str, list[str]]]:
    """Yields (place, words) for each line of the shell blocks of a document, comments removed."""
    for block in blocks(path, root):
        if block.language == "sh":
            file, _, first = block.place.rpartition(":")
            for number, line in enumerate(block.code.splitlines(), int(first)):
                words = shlex.split(line, comments=True)
                if words:
                    yield f"{file}:{number}", words


def spans(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of the inline code of a document.

    Left out is the first column of tables whose first cell begins with a dash: it holds flags of another program.
    """
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            text = line.split(" | ", 1)[-1] if line.startswith("| `-") else line
            yield from ((number, span) for span in re.findall(r"`([^`]+)`", text))


def links(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, target) of the links and images of a document that lead to files of the repository."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if not re.match(r"\w+:", target):
                yield number, target


def anchors(path: pathlib.Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
